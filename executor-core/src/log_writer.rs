//! Writes a log: the started banner, the script's bytes in order up to a cap, the finished banner.
//!
//! A disk that fails never ends the script: what can no longer be written is counted and said.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::progress::ProgressSender;
use crate::result::LogSummary;

/// The writing end of one log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    max_body_bytes: u64,
    body_bytes: u64,
    summary: LogSummary,
}

impl LogWriter {
    /// Makes the file `name` in a record's folder and writes the started banner. Nothing that lies there is opened.
    pub(crate) fn create(folder: &Path, name: &str, max_body_bytes: u64, header: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(folder.join(name))?;
        file.write_all(header.as_bytes())?;
        let length = header.len() as u64;
        let summary = LogSummary { bytes: length, header_bytes: length, ..LogSummary::default() };
        Ok(Self { file, max_body_bytes, body_bytes: 0, summary })
    }

    /// Appends what the script wrote; what is above the cap is dropped and counted.
    pub(crate) fn append(&mut self, bytes: &[u8], progress: &ProgressSender) {
        if self.summary.incomplete.is_some() {
            return;
        }
        let room = usize::try_from(self.max_body_bytes - self.body_bytes).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.summary.truncated_bytes += dropped.len() as u64;
        let written = self.write(kept);
        self.body_bytes += written;
        if written > 0 {
            progress.update(|progress| progress.bytes = self.summary.bytes);
        }
    }

    /// Tells followers how long the banner at the beginning is.
    pub(crate) fn announce(&self, progress: &ProgressSender) {
        progress.update(|progress| {
            progress.bytes = self.summary.bytes;
            progress.header_bytes = self.summary.header_bytes;
        });
    }

    /// The numbers so far.
    pub(crate) fn summary(&self) -> &LogSummary {
        &self.summary
    }

    /// Writes the finished banner, flushes the file, and tells followers; gives the final numbers.
    pub(crate) fn finish(mut self, footer: &str, progress: &ProgressSender) -> LogSummary {
        let body_end = self.summary.bytes;
        if self.file.write_all(footer.as_bytes()).is_ok() {
            self.summary.footer_bytes = footer.len() as u64;
            self.summary.bytes += self.summary.footer_bytes;
        } else if let Err(error) = self.file.set_len(body_end) {
            tracing::warn!(%error, "could not cut a torn banner off a log");
        }
        if let Err(error) = self.file.sync_data() {
            self.summary.incomplete.get_or_insert_with(|| format!("the log could not be flushed: {error}"));
        }
        progress.update(|progress| {
            progress.bytes = self.summary.bytes;
            progress.body_end = Some(body_end);
        });
        self.summary
    }

    /// Writes what can be written and gives how many bytes that were; the first failure ends the log.
    fn write(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.summary.bytes;
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(written) if written > 0 => {
                    self.summary.bytes += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    let reason = failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    tracing::error!(error = %reason, "a log cannot be written; the script goes on without");
                    let message = format!("the log ends at byte {}: {reason}", self.summary.bytes);
                    self.summary.incomplete = Some(message);
                    break;
                }
            }
        }
        self.summary.bytes - before
    }
}
