//! The ended attempts of a task that was tried again. A task's record is always that of its newest attempt; what an
//! earlier one left stands in `attempts/<n>` of it.
//!
//! The steps of setting aside are taken in an order that can be gone on with after a crash at any of them: the result
//! goes last, so that an attempt whose result stands in its folder was set aside whole, and one whose result still
//! stands in the record was not.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::renameat;
use nix::unistd::fsync;

use crate::folder;
use crate::log_reader::LogReader;
use crate::names::TaskId;
use crate::progress::LogProgress;
use crate::record::{FOLDER_MODE, LOG_FILE, RESULT_FILE, Records};
use crate::result::{ExecutionResult, LogSummary};

/// Name of the folder of ended attempts in a record.
pub const ATTEMPTS_FOLDER: &str = "attempts";

impl Records {
    /// Sets aside what an attempt has left in a task's record, so that the next one finds it as good as new. Where the
    /// record lacks a result, because nothing was started for one, `result` is written first.
    ///
    /// # Errors
    /// When that cannot be done; it can be tried again, or given up: the record is whole either way. `AlreadyExists` when
    /// an attempt of that number was set aside before: none replaces another.
    pub fn set_aside(&self, id: &TaskId, attempt: u32, result: &ExecutionResult) -> io::Result<()> {
        if self.attempt_result(id, attempt)?.is_some() {
            let message = format!("attempt {attempt} of the task '{id}' was set aside before");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        if self.read_result(id)?.is_none() {
            self.write_result(id, result)?;
        }
        let record = self.open_record(id)?;
        let attempts = folder::ensure_folder(&record, ATTEMPTS_FOLDER, FOLDER_MODE)?;
        let place = folder::ensure_folder(&attempts, &attempt.to_string(), FOLDER_MODE)?;
        for name in self.names_in_record(id)? {
            if name != ATTEMPTS_FOLDER && name != RESULT_FILE {
                renameat(&record, name.as_os_str(), &place, name.as_os_str())?;
            }
        }
        // The result says that all of this was done: it must not survive a loss of power that this does not.
        flush(&[&place, &attempts, &record])?;
        renameat(&record, RESULT_FILE, &place, RESULT_FILE)?;
        flush(&[&place, &record])
    }

    /// The result of an attempt that was set aside; none when none of that number was.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn attempt_result(&self, id: &TaskId, attempt: u32) -> io::Result<Option<ExecutionResult>> {
        let path = format!("{id}/{ATTEMPTS_FOLDER}/{attempt}");
        self.read_result_in(&path, id)
    }

    /// Opens the log of an attempt that was set aside; `log` is what its result says about it.
    ///
    /// # Errors
    /// When there is none or it cannot be opened.
    pub fn attempt_log(&self, id: &TaskId, attempt: u32, log: &LogSummary) -> io::Result<LogReader> {
        let place = self.folder(id).join(ATTEMPTS_FOLDER).join(attempt.to_string());
        LogReader::ended(&place.join(LOG_FILE), LogProgress::of_summary(log))
    }

    /// Whether what is in a task's record are its ended attempts alone.
    pub(crate) fn has_only_attempts(&self, id: &TaskId) -> io::Result<bool> {
        Ok(self.names_in_record(id)? == [ATTEMPTS_FOLDER])
    }

    /// The number of the newest attempt that was set aside.
    pub(crate) fn newest_attempt(&self, id: &TaskId) -> Option<u32> {
        let names = fs::read_dir(self.folder(id).join(ATTEMPTS_FOLDER)).ok()?;
        names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).max()
    }

    fn names_in_record(&self, id: &TaskId) -> io::Result<Vec<OsString>> {
        fs::read_dir(self.folder(id))?.map(|entry| Ok(entry?.file_name())).collect()
    }
}

fn flush(folders: &[&OwnedFd]) -> io::Result<()> {
    for folder in folders {
        fsync(folder)?;
    }
    Ok(())
}
