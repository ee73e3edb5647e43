//! Which configuration file is read, whether it can be trusted, and its text.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::load::{ConfigError, Warning};
use crate::sources::Sources;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// The place of the file in the current folder.
const LOCAL_FILE: &str = "etc/application.toml";
/// The bits of a mode that let the group or others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The bits of a mode that `chmod` sets.
const PERMISSIONS: u32 = 0o7777;

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Finds the one file to read, if there is any. What was left out, and why, is added to the warnings.
///
/// # Errors
///
/// When the file that is to be read cannot be read whole as text.
pub(crate) fn find(sources: &Sources, warnings: &mut Vec<Warning>) -> Result<Option<Found>, ConfigError> {
    if let Some(path) = &sources.config_file {
        let path = sources.current_dir.join(path);
        let (file, metadata) = open(&path, 0)?;
        warnings.extend(loose(&path, &metadata, sources.euid));
        return read(path, file).map(Some);
    }
    if let Some(found) = find_local(sources, warnings)? {
        return Ok(Some(found));
    }
    let path = sources.current_dir.join(&sources.system_file);
    match open(&path, 0) {
        Ok((file, metadata)) => {
            warnings.extend(loose(&path, &metadata, sources.euid));
            read(path, file).map(Some)
        }
        Err(ConfigError::Read { source, .. }) if is_absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file of the current folder, when nobody but root and the caller can have written it.
fn find_local(sources: &Sources, warnings: &mut Vec<Warning>) -> Result<Option<Found>, ConfigError> {
    let path = sources.current_dir.join(LOCAL_FILE);
    match fs::symlink_metadata(&path) {
        Err(error) if is_absent(&error) => return Ok(None),
        _ => {}
    }
    let distrust = match distrust_folders(&path, sources.euid) {
        Some(reason) => Some(reason),
        None => {
            // The folders above cannot be changed by others from here on, so what is opened is what was looked at.
            let (file, metadata) = open(&path, libc::O_NOFOLLOW)?;
            match distrust(&path, &metadata, sources.euid) {
                Some(reason) => Some(reason),
                None => return read(path, file).map(Some),
            }
        }
    };
    warnings.extend(distrust.map(|reason| Warning {
        message: format!(
            "{} is not read: {reason}; make it and all folders above it writable for root or this user only, \
             or name a file with --config",
            path.display()
        ),
        path,
    }));
    Ok(None)
}

/// Why somebody else might have put this file there, if so: a link, or a folder above that others own or may write.
fn distrust_folders(path: &Path, euid: u32) -> Option<String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            return Some(format!("{} is a link", path.display()));
        }
        Ok(_) => {}
        Err(error) => return Some(format!("{}: {error}", path.display())),
    }
    let folder = path.parent()?;
    if folder.is_symlink() {
        return Some(format!("{} is a link", folder.display()));
    }
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) => return Some(format!("{}: {error}", folder.display())),
    };
    folder.ancestors().find_map(|above| match fs::symlink_metadata(above) {
        Ok(metadata) => distrust(above, &metadata, euid),
        Err(error) => Some(format!("{}: {error}", above.display())),
    })
}

/// Why others than root and the caller may change this file or folder, if so. The sticky bit of a folder does not help:
/// it keeps others from removing what is there, not from putting something there first.
fn distrust(path: &Path, metadata: &Metadata, euid: u32) -> Option<String> {
    let path = path.display();
    if metadata.uid() != 0 && metadata.uid() != euid {
        return Some(format!(
            "{path} belongs to user {}, neither root nor this user ({euid})",
            metadata.uid()
        ));
    }
    let mode = metadata.mode() & PERMISSIONS;
    (mode & WRITABLE_BY_OTHERS != 0).then(|| format!("{path} may be written by others (mode {mode:04o})"))
}

/// A warning for a file that is read because somebody named it, although others may change it.
fn loose(path: &Path, metadata: &Metadata, euid: u32) -> Option<Warning> {
    distrust(path, metadata, euid).map(|reason| Warning {
        path: path.to_path_buf(),
        message: format!("{reason}, and decides what this agent does"),
    })
}

/// Opens a regular file. Anything else, such as a FIFO or a device, is refused before it is opened, since opening it
/// could wait for ever or do something.
fn open(path: &Path, flags: i32) -> Result<(File, Metadata), ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let is_file = |metadata: &Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(ConfigError::NotAFile { path: path.to_path_buf() }),
    };
    is_file(&fs::metadata(path).map_err(failed)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    is_file(&metadata)?;
    Ok((file, metadata))
}

fn read(path: PathBuf, file: File) -> Result<Found, ConfigError> {
    let mut bytes = Vec::new();
    match file.take(LARGEST + 1).read_to_end(&mut bytes) {
        Err(source) => Err(ConfigError::Read { path, source }),
        Ok(_) if bytes.len() as u64 > LARGEST => Err(ConfigError::TooLarge { path, limit: LARGEST }),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Found { path, text }),
            Err(error) => Err(ConfigError::NotUtf8 { offset: error.utf8_error().valid_up_to(), path }),
        },
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
