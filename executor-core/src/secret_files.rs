//! Secret files: each secret of an execution is a file of its scratch folder, readable by its owner only. A script is told
//! the path, so that the value is in no argument, no variable, and on no disk.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use secrecy::{ExposeSecret, SecretString};

use crate::durable;
use crate::error::StartError;
use crate::folder;
use crate::removal::remove_folder;
use crate::scratch::Scratch;

/// The folder within scratch that secrets stand in, apart from what scripts put into their TMPDIR.
const FOLDER: &str = "secrets";
/// Nobody writes to it, and only the script's user reads it.
const FILE_MODE: u32 = 0o400;

/// A secret of one execution. Its `Debug` form leaves the value out.
#[derive(Debug, Clone)]
pub(crate) struct SecretFile {
    /// The variable that tells the script where the file is, and the file's name.
    pub(crate) variable: String,
    pub(crate) value: SecretString,
}

/// Where the file of a secret stands.
pub(crate) fn path(scratch: &Path, variable: &str) -> PathBuf {
    scratch.join(FOLDER).join(variable)
}

/// Writes the secrets of an execution, if it has any.
///
/// # Errors
/// [`StartError::NoMemoryFileSystem`] when they would be written to a disk; nothing is written then.
pub(crate) fn write(scratch: &Scratch, secrets: &[SecretFile], is_in_memory: bool) -> Result<(), StartError> {
    if secrets.is_empty() {
        return Ok(());
    }
    if !is_in_memory {
        return Err(StartError::NoMemoryFileSystem { scratch: scratch.path.clone() });
    }
    let write = || {
        let path = scratch.path.join(FOLDER);
        mkdir(&path, Mode::S_IRWXU)?;
        let folder = folder::open_folder(&path)?;
        secrets.iter().try_for_each(|secret| {
            let value = secret.value.expose_secret().as_bytes();
            durable::create(&folder, &secret.variable, value, FILE_MODE)
        })
    };
    write().map_err(StartError::host("hand the script its secrets"))
}

/// Removes the secrets of an execution that has ended: nobody shall hear of its end while they are still there.
pub(crate) fn remove(scratch: &Scratch) {
    match remove_folder(&scratch.path.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(folder = %scratch.path.display(), %error, "could not remove the secrets of a script");
        }
        _ => {}
    }
}
