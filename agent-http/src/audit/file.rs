//! One file of the audit log, and the full ones beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::AuditLimits;

/// A file that lines are added to. Older ones have a number behind their name, the higher the older.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    limits: AuditLimits,
    file: File,
    bytes: u64,
    /// Whether the file ends within a line, which the next one must not run into.
    is_torn: bool,
    /// Whether it could not be put aside the last time, which is said once.
    is_stuck: bool,
}

impl AuditFile {
    /// Opens the file, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened; a link or anything else but a file in its place is an error too.
    pub(super) fn open(path: PathBuf, limits: AuditLimits) -> io::Result<Self> {
        let mut file = open(&path, false)?;
        let bytes = file.metadata()?.len();
        let is_torn = bytes > 0 && last_byte(&mut file)? != b'\n';
        Ok(Self { path, limits, file, bytes, is_torn, is_stuck: false })
    }

    /// Adds a line, which has its line end. A file that is full is put aside before; where that fails it grows: a line in
    /// a file that is too large is better than none.
    ///
    /// # Errors
    /// When it is not written as a whole; nothing of it is left where the system permits that.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.limits.file_bytes {
            let put_aside = self.put_aside();
            self.say_stuck(&put_aside);
        }
        let torn = if self.is_torn { &b"\n"[..] } else { b"" };
        // One call, so that a line is there as a whole or not at all if the service is killed.
        let text = [torn, line].concat();
        let written = self.file.write(&text)?;
        if written == text.len() {
            (self.bytes, self.is_torn) = (self.bytes + written as u64, false);
            return Ok(());
        }
        if self.file.set_len(self.bytes).is_err() {
            (self.bytes, self.is_torn) = (self.bytes + written as u64, true);
        }
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Puts the file aside: each one gets the next number, up to the first that is free, and the last one is lost where
    /// none is. The next file is open before any is renamed: where that is impossible all stay as they are, however often
    /// it is tried.
    fn put_aside(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("jsonl.new");
        let next = open(&beside, true)?;
        let last = self.limits.files.saturating_sub(1);
        let is_free = |number: &u32| std::fs::symlink_metadata(self.numbered(*number)).is_err();
        let free = (0..last).find(is_free).unwrap_or(last);
        for number in (0..free).rev() {
            std::fs::rename(self.numbered(number), self.numbered(number + 1))?;
        }
        std::fs::rename(beside, &self.path)?;
        (self.file, self.bytes, self.is_torn) = (next, 0, false);
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        match number {
            0 => self.path.clone(),
            number => self.path.with_extension(format!("jsonl.{number}")),
        }
    }

    fn say_stuck(&mut self, put_aside: &io::Result<()>) {
        let file = self.path.display();
        match put_aside {
            Err(error) if !self.is_stuck => {
                tracing::error!(%error, %file, "the audit log is full and cannot be put aside; it grows");
            }
            Ok(()) if self.is_stuck => tracing::info!(%file, "the audit log was put aside"),
            _ => {}
        }
        self.is_stuck = put_aside.is_err();
    }
}

fn open(path: &Path, is_new: bool) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if is_new {
        // It may be left over from a try that failed.
        file.set_len(0)?;
    }
    Ok(file)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}
