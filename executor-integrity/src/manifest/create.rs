//! Creates the manifest of a scripts folder as it is now.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Header, MANIFEST_NAME, Manifest};
use crate::folder::{self, FoundFile, MAX_FILE_BYTES, Visitor};
use crate::inspect::read_manifest;
use crate::problem::Problems;
use crate::{Digest, RelativeName, SIGNATURE_NAME, fs};

/// What a new manifest says beside the files. The default takes the next version, and does not expire.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateOptions {
    /// When the manifest stops being accepted.
    pub expires: Option<Timestamp>,
    /// The lowest version that it gets: where the previous manifest is lost, one above the highest version
    /// that was ever accepted. Otherwise the version is one above the previous manifest's.
    pub at_least_version: u64,
}

/// Why a manifest could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The folder cannot be opened.
    #[error("create manifest: the folder {} cannot be opened", folder.display())]
    Open {
        /// The scripts folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds what no manifest can vouch for; all of it is named.
    #[error("create manifest: the folder {} holds what cannot be listed:{problems}", folder.display())]
    Refused {
        /// The scripts folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Problems,
    },
    /// The previous manifest has the highest version that there is.
    #[error("create manifest: the previous manifest of {} has the highest version there is, remove it", folder.display())]
    LastVersion {
        /// The scripts folder.
        folder: PathBuf,
    },
    /// The manifest cannot be written.
    #[error("create manifest: {} cannot be written", folder.join(MANIFEST_NAME).display())]
    Write {
        /// The scripts folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Lists every file of `folder` with its digest in its manifest, replacing the one that is there.
///
/// The version is one higher than the previous manifest's, 1 at first. The file is replaced as a whole and
/// survives a power cut once this has returned. A signature of the previous manifest does not hold for the
/// new one: sign it again. What an interrupted call has left half written is removed.
///
/// # Errors
///
/// [`CreateError`]; nothing is written then. Whatever verifying would refuse in any case (links, devices,
/// names outside the grammar, files that others may write) is refused here too, all named at once.
pub fn create_manifest(folder: &Path, options: &CreateOptions) -> Result<Manifest, CreateError> {
    let root =
        fs::open_folder(folder).map_err(|source| CreateError::Open { folder: folder.to_owned(), source })?;
    let version =
        next_version(&root, options).ok_or_else(|| CreateError::LastVersion { folder: folder.to_owned() })?;
    for name in [MANIFEST_NAME, SIGNATURE_NAME] {
        fs::remove_half_written(&root, name)
            .map_err(|source| CreateError::Write { folder: folder.to_owned(), source })?;
    }
    let mut problems = Problems::default();
    let mut list = List::default();
    folder::walk(&root, &mut list, &mut problems);
    if !problems.is_empty() {
        return Err(CreateError::Refused { folder: folder.to_owned(), problems });
    }
    let now = Timestamp::now();
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let header = Header { version, created: Some(created), expires: options.expires };
    let manifest = Manifest::new(header, list.entries);
    fs::write_atomically(&root, MANIFEST_NAME, manifest.as_bytes(), 0o644)
        .map_err(|source| CreateError::Write { folder: folder.to_owned(), source })?;
    Ok(manifest)
}

/// One above the previous manifest's version, as far as that can be read: this is how a damaged manifest is
/// mended, so that its mistakes are no obstacle.
fn next_version(root: &File, options: &CreateOptions) -> Option<u64> {
    let previous = read_manifest(root, &mut Problems::default());
    let version = previous.map_or(0, |manifest| manifest.header().version).checked_add(1)?;
    Some(version.max(options.at_least_version))
}

#[derive(Default)]
struct List {
    entries: BTreeMap<RelativeName, Digest>,
}

impl Visitor for List {
    fn visit(&mut self, found: FoundFile, problems: &mut Problems) {
        // A file that never stops growing must not keep this from ending; verifying refuses it.
        match Digest::of_reader(found.file.take(MAX_FILE_BYTES)) {
            Ok(digest) => {
                self.entries.insert(found.name, digest);
            }
            Err(error) => problems.push(folder::unreadable(found.name.as_str(), &error)),
        }
    }
}
