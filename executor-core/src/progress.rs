//! How far an execution's log has come, told to whoever follows it.

use tokio::sync::watch;

use crate::log_lines::LineMarks;

/// How far the log file has come. Watchers are told lengths and read the file themselves, so that a slow one
/// holds nobody up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogProgress {
    /// Length of the file so far, bytes.
    pub bytes: u64,
    /// Length of the started banner at its beginning.
    pub header_bytes: u64,
    /// Where the script's own bytes end; set once the finished banner stands behind them.
    pub body_end: Option<u64>,
    /// Whether nothing more will come.
    pub ended: bool,
}

impl LogProgress {
    /// Whether the file has its final length: its finished banner stands, or nothing more will come.
    pub fn is_complete(&self) -> bool {
        self.ended || self.body_end.is_some()
    }

    /// The progress of a log that has ended, from the numbers of its result.
    pub fn of_summary(log: &crate::result::LogSummary) -> Self {
        Self {
            bytes: log.bytes,
            header_bytes: log.header_bytes,
            body_end: Some(log.bytes.saturating_sub(log.footer_bytes)),
            ended: true,
        }
    }
}

/// The writing end; one for each execution.
#[derive(Debug)]
pub(crate) struct ProgressSender {
    progress: watch::Sender<LogProgress>,
    lines: LineMarks,
}

impl ProgressSender {
    pub(crate) fn new() -> Self {
        Self { progress: watch::Sender::new(LogProgress::default()), lines: LineMarks::default() }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut LogProgress)) {
        self.progress.send_modify(change);
    }

    pub(crate) fn get(&self) -> LogProgress {
        *self.progress.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<LogProgress> {
        self.progress.subscribe()
    }

    /// Where the lines of the log begin, as far as it is written.
    pub(crate) fn lines(&self) -> &LineMarks {
        &self.lines
    }
}
