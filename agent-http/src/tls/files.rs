//! Reads certificates and keys in PEM. A key that others may read is no secret, and refused.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The settings that name the files.
pub(super) const CERTIFICATE: &str = "tls.certificate";
pub(super) const KEY: &str = "tls.key";
pub(super) const CLIENT_CA: &str = "tls.client_ca";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// The bits of a mode that let others than the owner do anything, and those that `chmod` sets.
const OF_OTHERS: u32 = 0o077;
const PERMISSIONS: u32 = 0o7777;

/// The certificates in a file: one at least.
pub(crate) fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem| TlsError { key, path: path.to_path_buf(), problem };
    let (bytes, _) = read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong("there is no certificate in it; expected PEM (BEGIN CERTIFICATE)".to_owned())),
        Err(error) => Err(wrong(format!("it is broken: {error}; expected certificates in PEM"))),
    }
}

/// The private key in a file that nobody else may read.
pub(super) fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |problem| TlsError { key, path: path.to_path_buf(), problem };
    let bytes = secret(path).map_err(wrong)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound => {
            let problem = "there is no private key in it; expected one in PEM, without a passphrase";
            wrong(problem.to_owned())
        }
        error => wrong(format!("it is broken: {error}; expected a private key in PEM")),
    })
}

/// Why a key cannot be used with the certificate that another file holds.
pub(super) fn unusable_key(error: &rustls::Error, certificate: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("it is not the key of the certificate in {}", certificate.display())
        }
        error => format!("cannot be used: {error}; expected an RSA, ECDSA or Ed25519 key"),
    }
}

/// What is in a file that nobody else may read.
///
/// # Errors
/// Why it cannot be read, or who else could.
pub(crate) fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let (bytes, metadata) = read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let (owner, euid) = (metadata.uid(), geteuid().as_raw());
    if owner != 0 && owner != euid {
        return Err(format!("it belongs to user {owner}; expected root or the user of the service ({euid})"));
    }
    let mode = metadata.mode() & PERMISSIONS;
    match mode & OF_OTHERS {
        0 => Ok(bytes),
        _ => Err(format!("others may use it (mode {mode:04o}); expected mode 0600 or 0400")),
    }
}

/// Reads a regular file; links are followed, since tools that renew certificates use them. Anything else, such as a
/// FIFO, is refused before it is opened, since that could wait for ever.
fn read(path: &Path) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let regular = |metadata: &fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    };
    regular(&fs::metadata(path)?)?;
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(io::Error::other(format!("it is larger than {LARGEST} bytes"))),
        false => Ok((bytes, metadata)),
    }
}
