//! Writes a log: the started banner, the script's bytes in order up to a cap, the finished banner.
//!
//! A disk that fails never ends the script: what can no longer be written is counted and said.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::durable;
use crate::execution::ExecutionDriver;
use crate::log_lines::{LineCounter, LineMarks};
use crate::progress::ProgressSender;
use crate::record::LOG_FILE;
use crate::result::LogSummary;

/// The writing end of one log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: Arc<File>,
    max_body_bytes: u64,
    body_bytes: u64,
    failure: Option<Failure>,
    summary: LogSummary,
    lines: LineCounter,
}

/// Why a log ends before the script does.
#[derive(Debug)]
struct Failure {
    reason: io::Error,
    lost_bytes: u64,
}

impl LogWriter {
    /// Makes the log in a record's folder and writes the started banner. Nothing that lies there is opened.
    pub(crate) fn create(folder: impl AsFd, max_body_bytes: u64, header: &str) -> io::Result<Self> {
        let file = Arc::new(durable::create_new(folder, LOG_FILE, 0o600)?);
        (&*file).write_all(header.as_bytes())?;
        let length = header.len() as u64;
        let summary = LogSummary { bytes: length, header_bytes: length, ..LogSummary::default() };
        // Far shorter than what lies between two marks, so that it makes none.
        let mut lines = LineCounter::default();
        lines.add(header.as_bytes(), &LineMarks::default());
        Ok(Self { file, max_body_bytes, body_bytes: 0, failure: None, summary, lines })
    }

    /// Appends what the script wrote; what is above the cap is dropped and counted.
    pub(crate) fn append(&mut self, bytes: &[u8], progress: &ProgressSender) {
        if let Some(failure) = &mut self.failure {
            failure.lost_bytes += bytes.len() as u64;
            return;
        }
        let room = usize::try_from(self.max_body_bytes - self.body_bytes).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.summary.truncated_bytes += dropped.len() as u64;
        let written = self.write(kept);
        self.body_bytes += written;
        if written > 0 {
            // Of what could not be written there are no lines.
            let written = usize::try_from(written).unwrap_or(usize::MAX);
            self.lines.add(&kept[..written], progress.lines());
            progress.update(|progress| progress.bytes = self.summary.bytes);
        }
    }

    /// Tells followers where they read it, and how long the banner at the beginning is.
    pub(crate) fn announce(&self, driver: &ExecutionDriver) {
        driver.log_is(&self.file);
        driver.progress().update(|progress| {
            progress.bytes = self.summary.bytes;
            progress.header_bytes = self.summary.header_bytes;
        });
    }

    /// The numbers so far.
    pub(crate) fn summary(&self) -> &LogSummary {
        &self.summary
    }

    /// Writes the finished banner, flushes the file, and tells followers; gives the final numbers. The record's folder is
    /// where the marks of its lines are kept.
    pub(crate) fn finish(
        &mut self,
        footer: &str,
        record: impl AsFd,
        progress: &ProgressSender,
    ) -> LogSummary {
        let body_end = self.summary.bytes;
        let ended = (&*self.file).write_all(footer.as_bytes()).and_then(|()| self.file.sync_data());
        if ended.is_ok() {
            self.summary.footer_bytes = footer.len() as u64;
            self.summary.bytes += self.summary.footer_bytes;
            self.lines.add(footer.as_bytes(), progress.lines());
        } else if let Err(error) = self.file.set_len(body_end) {
            tracing::warn!(%error, "could not cut a torn banner off a log");
        }
        self.summary.incomplete = match (&self.failure, ended) {
            (Some(failure), _) => Some(format!(
                "the log ends at byte {body_end}: {}; {} bytes that the script wrote behind it are lost",
                failure.reason, failure.lost_bytes
            )),
            (None, Err(error)) => {
                Some(format!("the end of the log could not be written and flushed: {error}"))
            }
            (None, Ok(())) => None,
        };
        if let Err(error) = progress.lines().keep(record) {
            tracing::warn!(%error, "the marks of a log's lines could not be kept; they can be made again");
        }
        progress.update(|progress| {
            progress.bytes = self.summary.bytes;
            progress.body_end = Some(body_end);
        });
        self.summary.clone()
    }

    /// Writes what can be written and gives how many bytes that were; the first failure ends the log, since what is
    /// behind a hole would be taken for what stands there.
    fn write(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.summary.bytes;
        while !bytes.is_empty() {
            match (&*self.file).write(bytes) {
                Ok(written) if written > 0 => {
                    self.summary.bytes += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    let reason = failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    tracing::error!(error = %reason, "a log cannot be written; the script goes on without");
                    self.failure = Some(Failure { reason, lost_bytes: bytes.len() as u64 });
                    break;
                }
            }
        }
        self.summary.bytes - before
    }
}
