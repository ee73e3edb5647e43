//! Signs the manifest of a scripts folder.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{PublicKey, SIGNATURE_NAME, SecretKey};
use crate::inspect::read_manifest;
use crate::manifest::MANIFEST_NAME;
use crate::problem::Problems;
use crate::{KeyError, fs};

/// Why a manifest could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The folder cannot be opened.
    #[error("sign manifest: the folder {} cannot be opened", folder.display())]
    Open {
        /// The scripts folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no manifest, or it has mistakes; a signature would only hide them.
    #[error("sign manifest: that of {} cannot be signed:{problems}", folder.display())]
    Refused {
        /// The scripts folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Problems,
    },
    /// The key cannot sign.
    #[error("sign manifest: the key cannot sign: {reason}")]
    Sign {
        /// What the library said.
        reason: String,
    },
    /// The secret key has no public key.
    #[error("sign manifest: the key cannot sign")]
    Key(#[from] KeyError),
    /// The signature cannot be written.
    #[error("sign manifest: {} cannot be written", folder.join(SIGNATURE_NAME).display())]
    Write {
        /// The scripts folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Signs the manifest of the scripts folder `folder` with `key`, replacing the signature that is there.
/// Gives the public key that checks it.
///
/// Only the manifest is looked at; whether the folder agrees with it is what
/// [`verify`](crate::verify()) tells.
///
/// # Errors
///
/// [`SignError`]; nothing is written then.
pub fn sign_manifest(folder: &Path, key: &SecretKey) -> Result<PublicKey, SignError> {
    let root =
        fs::open_folder(folder).map_err(|source| SignError::Open { folder: folder.to_owned(), source })?;
    let mut problems = Problems::default();
    let manifest = match read_manifest(&root, &mut problems) {
        Some(manifest) if problems.is_empty() => manifest,
        _ => return Err(SignError::Refused { folder: folder.to_owned(), problems }),
    };
    let public = key.public_key()?;
    // The comment that minisign itself writes.
    let time = Timestamp::now().as_second();
    let trusted = format!("timestamp:{time}\tfile:{MANIFEST_NAME}\thashed");
    let signature = minisign::sign(
        Some(public.as_minisign()),
        key.as_minisign(),
        Cursor::new(manifest.as_bytes()),
        Some(&trusted),
        Some("signature of a scripts folder's manifest"),
    )
    .map_err(|error| SignError::Sign { reason: error.to_string() })?;
    fs::write_atomically(&root, SIGNATURE_NAME, signature.into_string().as_bytes(), 0o644)
        .map_err(|source| SignError::Write { folder: folder.to_owned(), source })?;
    Ok(public)
}
