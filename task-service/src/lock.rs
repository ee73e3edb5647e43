//! The lock that keeps a second service off a state folder: flock(2) on `service.lock`, which the kernel releases
//! when its holder dies, however that happens.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the lock's file in a state folder.
pub(crate) const LOCK_FILE: &str = "service.lock";
/// Longest text in the file that is read: a process id and a newline.
const MAX_PID_BYTES: u64 = 32;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct ServiceLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another service holds it; its process id, where it has written one.
    Held(String),
    /// The file cannot be made or locked.
    Io(io::Error),
}

impl ServiceLock {
    /// Takes the lock of a state folder, and leaves the own process id in its file.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(state_dir.join(LOCK_FILE))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The number is for people only: a full disk must not keep the service from starting.
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::warn!(%error, "the process id could not be written to {LOCK_FILE}");
        }
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_PID_BYTES).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("the process {pid}"),
        _ => "another process".to_owned(),
    }
}
