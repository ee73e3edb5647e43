//! Copies folders whose files may change, grow and go away meanwhile. Links and what is no file are not copied.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use task_runners::RESULT_FILE;

use super::{BackupError, failed};
use crate::store;

/// Times that the folder of a task is copied anew because something in it was moved meanwhile.
const TRIES: usize = 3;
/// Name of the folder with the records of tasks.
const RECORDS: &str = "tasks";
/// How the names of databases end; their companions have more behind it.
const DATABASE: &str = ".db";

/// What was copied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Copied {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Copied {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// Copies what is in a state folder into another one, but for what is left out by its name. The records of tasks come last:
/// what is removed elsewhere when a task has ended, because its result is there, is then copied before its result.
pub(super) fn folder(
    from: &Path,
    to: &Path,
    is_left_out: &dyn Fn(&str) -> bool,
) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    let mut names = names(from)?;
    names.sort_by_key(|name| name == RECORDS);
    for name in names {
        let (from, to) = (from.join(&name), to.join(&name));
        // One that is no text is none of those that are known.
        let name = name.to_string_lossy();
        if is_left_out(&name) {
            continue;
        }
        copied.add(match &*name {
            RECORDS => records(&from, &to)?,
            "fleet" | "node" => with_databases(&from, &to)?,
            _ => entry(&from, &to)?.unwrap_or_default(),
        });
    }
    Ok(copied)
}

/// Copies a folder of files and of databases that others have open: a copy of those by bytes could be torn, and lack what
/// stands in their companions.
fn with_databases(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    make(to)?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        let name = name.to_string_lossy();
        if name.ends_with(DATABASE) {
            store::copy_any(&from, &to)?;
            copied.add(Copied { files: 1, bytes: super::size(&to)? });
        } else if !name.contains(&format!("{DATABASE}-")) {
            copied.add(entry(&from, &to)?.unwrap_or_default());
        }
    }
    Ok(copied)
}

/// Copies the records of all tasks.
fn records(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    make(to)?;
    for name in names(from)? {
        // What was put away is on its way out.
        if !name.as_encoded_bytes().starts_with(b".") {
            copied.add(record(&from.join(&name), &to.join(&name))?);
        }
    }
    Ok(copied)
}

/// Copies one record. An attempt that is set aside just now moves its files: then it is begun anew.
fn record(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    for _ in 0..TRIES {
        if let Some(copied) = entry(from, to)? {
            return Ok(copied);
        }
        match fs::remove_dir_all(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", to)(error)),
            _ => {}
        }
    }
    // It was removed, or is tried again and again. What can be had of it is better than nothing.
    Ok(entry(from, to)?.unwrap_or_default())
}

/// Copies a file, or a folder with all that is in it, for the owner only; none when something of it went away meanwhile.
fn entry(from: &Path, to: &Path) -> Result<Option<Copied>, BackupError> {
    match fs::symlink_metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", from)(error)),
        Ok(metadata) if metadata.is_dir() => tree(from, to, &metadata),
        Ok(metadata) if metadata.is_file() => file(from, to),
        Ok(_) => Ok(Some(Copied::default())),
    }
}

fn tree(from: &Path, to: &Path, metadata: &fs::Metadata) -> Result<Option<Copied>, BackupError> {
    let mut copied = Some(Copied::default());
    make(to)?;
    for name in names(from)? {
        match (entry(&from.join(&name), &to.join(&name))?, &mut copied) {
            (Some(part), Some(all)) => all.add(part),
            _ => copied = None,
        }
    }
    // Retention goes by the time of the last change in a folder.
    let opened = File::open(to).and_then(|to| to.set_modified(metadata.modified()?));
    opened
        .and_then(|()| fs::set_permissions(to, private(metadata)))
        .map_err(failed("finish the copy", to))?;
    Ok(copied)
}

fn file(from: &Path, to: &Path) -> Result<Option<Copied>, BackupError> {
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(from);
    let source = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed("open", from))?,
    };
    let copy = || {
        let metadata = source.metadata()?;
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        // A log that grows is copied as long as it is by now.
        let bytes = io::copy(&mut (&source).take(metadata.len()), &mut target)?;
        target.set_permissions(private(&metadata))?;
        Ok(Some(Copied { files: 1, bytes }))
    };
    copy().map_err(failed("copy", from))
}

fn private(metadata: &fs::Metadata) -> fs::Permissions {
    fs::Permissions::from_mode(metadata.permissions().mode() & 0o700)
}

fn make(path: &Path) -> Result<(), BackupError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make the folder", path)(error))
        }
        _ => Ok(()),
    }
}

/// The names in a folder, a result before all others: whoever has a result has the whole log behind it. None where the folder
/// has gone.
fn names(folder: &Path) -> Result<Vec<OsString>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", folder))?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = names.collect::<Result<_, _>>().map_err(failed("read", folder))?;
    names.sort_unstable_by_key(|name| name != RESULT_FILE);
    Ok(names)
}

/// Flushes the file system that a folder is on, which for many files takes less than each of them.
pub(super) fn flush(folder: &Path) -> Result<(), BackupError> {
    let flushed = File::open(folder).and_then(|folder| Ok(nix::unistd::syncfs(folder)?));
    flushed.map_err(failed("flush", folder))
}
