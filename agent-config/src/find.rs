//! Which configuration file is read, whether it can be trusted, and its text.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::load::{ConfigError, Warning};
use crate::sources::Sources;

/// The largest file that is read, in bytes: a token takes about 130, and there may be one for each of thousands of nodes.
const LARGEST: u64 = 16 << 20;
/// The place of the file in the current folder.
const LOCAL_FILE: &str = "etc/application.toml";
/// What makes a file trusted that nobody named.
pub(crate) const REMEDY: &str = "make it and all folders above it writable for root or this user only, without links, \
    or name a file with --config";
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
/// When the file that is to be read cannot be read whole as text, or is that of the system and others may change it.
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
    find_system(sources)
}

/// The file of the current folder, when nobody but root and the caller can have written it.
fn find_local(sources: &Sources, warnings: &mut Vec<Warning>) -> Result<Option<Found>, ConfigError> {
    let path = sources.current_dir.join(LOCAL_FILE);
    match open_trusted(&path, sources.euid)? {
        Judged::Absent => Ok(None),
        Judged::Trusted(file) => read(path, file).map(Some),
        Judged::Distrusted(reason) => {
            warnings.push(Warning {
                message: format!("{} is not read: {reason}; {REMEDY}", path.display()),
                path,
            });
            Ok(None)
        }
    }
}

/// The file of the system. One that others may change is not passed over: its owner relies on what it says.
fn find_system(sources: &Sources) -> Result<Option<Found>, ConfigError> {
    let path = sources.current_dir.join(&sources.system_file);
    match open_trusted(&path, sources.euid)? {
        Judged::Absent => Ok(None),
        Judged::Trusted(file) => read(path, file).map(Some),
        Judged::Distrusted(reason) => Err(ConfigError::Distrusted { path, reason }),
    }
}

/// What a look at a file that nobody named has shown.
enum Judged {
    /// There is none.
    Absent,
    /// Nobody but root and the caller can have written it.
    Trusted(File),
    /// Why somebody else may have.
    Distrusted(String),
}

fn open_trusted(path: &Path, euid: u32) -> Result<Judged, ConfigError> {
    match fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => return Ok(Judged::Absent),
        Err(source) => return Err(ConfigError::Read { path: path.to_path_buf(), source }),
        Ok(metadata) if metadata.is_symlink() => return Ok(Judged::Distrusted("it is a link".to_owned())),
        Ok(_) => {}
    }
    if let Some(reason) = distrust_folders(path, euid) {
        return Ok(Judged::Distrusted(reason));
    }
    // The folders above cannot be changed by others from here on, so what is opened is what was looked at.
    let (file, metadata) = open(path, libc::O_NOFOLLOW)?;
    Ok(distrust("it", &metadata, euid).map_or(Judged::Trusted(file), Judged::Distrusted))
}

/// Why somebody else might have put this file there, if so: a folder above that is a link, or that others own or may
/// write.
fn distrust_folders(path: &Path, euid: u32) -> Option<String> {
    let folder = path.parent()?;
    if folder.is_symlink() {
        return Some(format!("{} is a link", folder.display()));
    }
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) => return Some(format!("{}: {error}", folder.display())),
    };
    folder.ancestors().find_map(|above| match fs::symlink_metadata(above) {
        Ok(metadata) => distrust(&above.display().to_string(), &metadata, euid),
        Err(error) => Some(format!("{}: {error}", above.display())),
    })
}

/// Why others than root and the caller may change this file or folder, if so. The sticky bit of a folder does not help:
/// it keeps others from removing what is there, not from putting something there first.
fn distrust(what: &str, metadata: &Metadata, euid: u32) -> Option<String> {
    if metadata.uid() != 0 && metadata.uid() != euid {
        return Some(format!(
            "{what} belongs to user {}, neither root nor this user ({euid})",
            metadata.uid()
        ));
    }
    let mode = metadata.mode() & PERMISSIONS;
    (mode & WRITABLE_BY_OTHERS != 0).then(|| format!("{what} may be written by others (mode {mode:04o})"))
}

/// A warning for a file that is read because somebody named it, although others may change it.
fn loose(path: &Path, metadata: &Metadata, euid: u32) -> Option<Warning> {
    distrust("it", metadata, euid).map(|reason| Warning {
        path: path.to_path_buf(),
        message: format!("{} decides what this agent does, and {reason}", path.display()),
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
