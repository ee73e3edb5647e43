//! Whether scripts are verified at all.

use std::io;
use std::path::Path;

use crate::{MANIFEST_NAME, SnapshotStore, StoreError, VerifyPolicy, fs};

/// When a scripts folder is verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VerificationMode {
    /// Always; a folder without a manifest is refused.
    Always,
    /// Never.
    Never,
    /// When the folder has a manifest or once had one, or public keys are configured.
    #[default]
    Auto,
}

/// Takes a setting that is true, false or left out.
impl From<Option<bool>> for VerificationMode {
    fn from(setting: Option<bool>) -> Self {
        match setting {
            Some(true) => Self::Always,
            Some(false) => Self::Never,
            None => Self::Auto,
        }
    }
}

impl VerificationMode {
    /// Whether `folder` is to be verified. A manifest that is seen is remembered in `store`, so that nobody
    /// can turn verification off by removing it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] when it cannot be told, or not be remembered: then nothing may run.
    pub fn decide(
        self,
        folder: &Path,
        store: &SnapshotStore,
        policy: &VerifyPolicy,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Always => Ok(true),
            Self::Never => Ok(false),
            Self::Auto if has_manifest(folder)? => {
                store.note_manifest()?;
                Ok(true)
            }
            Self::Auto => Ok(!policy.keys().is_empty() || store.had_manifest()?),
        }
    }
}

/// Whether anything has the manifest's name; what it is is for verifying to say.
fn has_manifest(folder: &Path) -> Result<bool, StoreError> {
    let seen = fs::open_folder(folder).and_then(|root| fs::stat_at(&root, Path::new(MANIFEST_NAME)));
    match seen {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => {
            Err(StoreError::Io { action: "look for a manifest", path: folder.join(MANIFEST_NAME), source })
        }
    }
}
