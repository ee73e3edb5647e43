//! Backups of a state folder, made while a service works on it, and what is restored from them.
//!
//! A backup is a folder with `state`, which is a state folder, and `backup.json`, which is written last and says that it is
//! whole. The database is copied first and as it is at one moment, by SQLite's own means, the records after it: a task that
//! goes on meanwhile is in the copy as one whose agent died then, which a start knows how to go on with.

mod copy;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lock::{LOCK_FILE, LockError, ServiceLock};
use crate::store::{self, DATABASE_FILE, StoreError};
use copy::Copied;

/// Name of the copied state folder in a backup.
const STATE: &str = "state";
/// Name of the file that says that a backup is whole.
const WHOLE: &str = "backup.json";
/// What of a state folder goes with the process that uses it: locks, what instances of the engine note of their processes,
/// and secrets where no memory file system holds them.
const OF_PROCESSES: [&str; 4] = [LOCK_FILE, "locks", "instances", "scratch"];
/// The layout that this agent writes.
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    format: u32,
    /// When it was begun: what was acknowledged before is in it.
    pub created_at: Timestamp,
    /// Tasks of its history.
    pub tasks: u64,
    /// Files beside the database: records, logs, verified copies of scripts, tokens, audit log.
    pub files: u64,
    /// Bytes of all of it.
    pub bytes: u64,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder cannot be read or written.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The database cannot be copied, or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is to be written has something in it already.
    #[error("{} is not empty; name a folder that is new, or move away what is in it", .0.display())]
    NotEmpty(PathBuf),
    /// The backup would be made in the state folder, and be part of itself.
    #[error("{} is in the state folder itself; name a folder outside it, on another disk if there is one", .0.display())]
    Inside(PathBuf),
    /// Somebody else's state folder.
    #[error("{} belongs to the user {owner}; run this as that user, so that what is written belongs to it too", .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Number of its owner.
        owner: u32,
    },
    /// A service uses the state folder.
    #[error("{holder} runs a service on the state folder {}; stop it first, or name another with --state", .path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who, in words.
        holder: String,
    },
    /// The folder is no whole backup.
    #[error("{} is no whole backup: {reason}", .path.display())]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// Copies a state folder into a new folder, readable by its owner only, while a service may work on it. Nothing waits for
/// that. The work blocks.
///
/// # Errors
/// See [`BackupError`]. What was copied until then stays, and is no backup.
pub fn back_up(state_dir: &Path, target: &Path) -> Result<Backup, BackupError> {
    let created_at = Timestamp::now();
    owned(state_dir)?;
    outside(target, state_dir)?;
    make_folder(target)?;
    if !is_empty(target)? {
        return Err(BackupError::NotEmpty(target.to_owned()));
    }
    let copied_state = target.join(STATE);
    make_folder(&copied_state)?;
    let tasks = store::copy(&state_dir.join(DATABASE_FILE), &copied_state.join(DATABASE_FILE))?;
    let Copied { files, bytes } = copy::folder(state_dir, &copied_state, &is_left_out)?;
    let bytes = bytes + size(&copied_state.join(DATABASE_FILE))?;
    let backup = Backup { format: FORMAT, created_at, tasks, files, bytes };
    copy::flush(target)?;
    write_whole(target, &backup)?;
    Ok(backup)
}

/// Makes a state folder from a backup. The folder must be empty, or not be there. The work blocks.
///
/// # Errors
/// See [`BackupError`]. Where it was begun and not finished, the folder has no database, and is to be emptied.
pub fn restore(backup_dir: &Path, state_dir: &Path) -> Result<Backup, BackupError> {
    let backup = read_whole(backup_dir)?;
    let saved = backup_dir.join(STATE);
    make_folder(state_dir)?;
    owned(state_dir)?;
    let _lock = ServiceLock::take(state_dir).map_err(|error| match error {
        LockError::Held(holder) => BackupError::Held { path: state_dir.to_owned(), holder },
        LockError::Io(source) => failed("lock", state_dir)(source),
    })?;
    if !is_empty(state_dir)? {
        return Err(BackupError::NotEmpty(state_dir.to_owned()));
    }
    copy::folder(&saved, state_dir, &is_left_out)?;
    // The history comes last: as long as it is not there, nobody takes this for a whole state folder.
    let (begun, whole) = (state_dir.join("agent.db.restoring"), state_dir.join(DATABASE_FILE));
    store::copy(&saved.join(DATABASE_FILE), &begun)?;
    copy::flush(state_dir)?;
    fs::rename(&begun, &whole).map_err(failed("rename", &begun))?;
    copy::flush(state_dir)?;
    Ok(backup)
}

/// Whether something of the state folder itself is not copied, by its name: what goes with processes, and the database with
/// its companions and what was set aside of it, since the copy of it is made in another way.
fn is_left_out(name: &str) -> bool {
    OF_PROCESSES.contains(&name) || name.starts_with(DATABASE_FILE)
}

fn owned(state_dir: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(state_dir).map_err(failed("read", state_dir))?.uid();
    if owner == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(BackupError::Foreign { path: state_dir.to_owned(), owner })
}

/// Refuses a backup that would be part of what it copies.
fn outside(target: &Path, state_dir: &Path) -> Result<(), BackupError> {
    let state_dir = state_dir.canonicalize().map_err(failed("read", state_dir))?;
    let target = std::path::absolute(target).map_err(failed("name", target))?;
    // What is there of the way to it already leads where it leads, by links too.
    let existing = target.ancestors().find_map(|folder| folder.canonicalize().ok()).unwrap_or_default();
    if existing.starts_with(&state_dir) { Err(BackupError::Inside(target)) } else { Ok(()) }
}

/// Makes a folder for its owner only, where there is none.
fn make_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the folder", path))
}

/// Whether nothing is in a folder, but for the lock that is held on it.
fn is_empty(path: &Path) -> Result<bool, BackupError> {
    let entries = fs::read_dir(path).map_err(failed("read", path))?;
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    Ok(names.map_err(failed("read", path))?.iter().all(|name| name == LOCK_FILE))
}

fn size(path: &Path) -> Result<u64, BackupError> {
    Ok(fs::metadata(path).map_err(failed("read", path))?.len())
}

fn write_whole(target: &Path, backup: &Backup) -> Result<(), BackupError> {
    let path = target.join(WHOLE);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&serde_json::to_vec_pretty(backup)?)?;
        file.sync_all()
    };
    write().map_err(failed("write", &path))?;
    copy::flush(target)
}

fn read_whole(backup_dir: &Path) -> Result<Backup, BackupError> {
    let no_backup = |reason: String| BackupError::NoBackup { path: backup_dir.to_owned(), reason };
    let path = backup_dir.join(WHOLE);
    let json = fs::read(&path).map_err(|error| no_backup(format!("{WHOLE} cannot be read: {error}")))?;
    let backup: Backup =
        serde_json::from_slice(&json).map_err(|error| no_backup(format!("{WHOLE}: {error}")))?;
    match backup.format {
        FORMAT => Ok(backup),
        other => Err(no_backup(format!("it has format {other}, and this agent knows {FORMAT}"))),
    }
}

/// Names what was tried with which path, for `map_err`.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { operation, path, source }
}
