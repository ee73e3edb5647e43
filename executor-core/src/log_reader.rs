//! Reads a log by byte offset, and waits for more of it while the execution goes on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::log_lines::LineMarks;
use crate::progress::{LogProgress, ProgressSender};

/// A reader of one log: any number of them, each at its own place, none of them felt by the script.
#[derive(Debug)]
pub struct LogReader {
    file: Arc<File>,
    path: PathBuf,
    progress: Source,
}

/// Where a reader learns how far the log has come.
#[derive(Debug)]
enum Source {
    Live(watch::Receiver<LogProgress>, LineMarks),
    Ended(LogProgress),
}

impl LogReader {
    /// Opens the log of an execution by its name.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn live(path: &Path, progress: &ProgressSender) -> io::Result<Self> {
        Ok(Self::shared(Arc::new(open(path)?), path, progress))
    }

    /// Reads the log of an execution through a file that is open.
    pub(crate) fn shared(file: Arc<File>, path: &Path, progress: &ProgressSender) -> Self {
        let source = Source::Live(progress.subscribe(), progress.lines().clone());
        Self { file, path: path.to_owned(), progress: source }
    }

    /// Opens the log of an execution that has ended, of which `progress` says how long its parts are.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn ended(path: &Path, progress: LogProgress) -> io::Result<Self> {
        let file = open(path)?;
        // What is really there counts: a damaged record must not make a reader wait or read past the end.
        let bytes = file.metadata()?.len();
        let progress = LogProgress {
            bytes,
            header_bytes: progress.header_bytes.min(bytes),
            body_end: progress.body_end.map(|end| end.min(bytes)),
            ended: true,
        };
        Ok(Self { file: Arc::new(file), path: path.to_owned(), progress: Source::Ended(progress) })
    }

    /// Another reader of the same log, which waits for itself.
    pub fn another(&self) -> Self {
        let progress = match &self.progress {
            Source::Live(receiver, marks) => Source::Live(receiver.clone(), marks.clone()),
            Source::Ended(progress) => Source::Ended(*progress),
        };
        Self { file: self.file.clone(), path: self.path.clone(), progress }
    }

    /// How far the log has come.
    pub fn progress(&self) -> LogProgress {
        match &self.progress {
            Source::Live(receiver, _) => *receiver.borrow(),
            Source::Ended(progress) => *progress,
        }
    }

    /// Waits until the log is longer than `offset` or has ended, and says how far it has come.
    pub async fn wait_beyond(&mut self, offset: u64) -> LogProgress {
        match &mut self.progress {
            Source::Live(receiver, _) => {
                let reached = receiver
                    .wait_for(|progress| progress.is_complete() || progress.bytes > offset)
                    .await
                    .map(|progress| *progress);
                // The writer is gone without having said so: nothing more will come.
                reached.unwrap_or_else(|_| LogProgress { ended: true, ..*receiver.borrow() })
            }
            Source::Ended(progress) => *progress,
        }
    }

    /// Reads what is there at `offset` into `buffer`, and says how many bytes that were; 0 at the end of what is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.progress().bytes.saturating_sub(offset);
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            // The kernel takes no offset beyond its own range, even for no bytes.
            return Ok(0);
        }
        self.file.read_at(&mut buffer[..wanted], offset)
    }

    /// Where the lines of the log begin, as far as that is known.
    pub(crate) fn marks(&self) -> io::Result<LineMarks> {
        match &self.progress {
            Source::Live(_, marks) => Ok(marks.clone()),
            Source::Ended(progress) => match LineMarks::kept(&self.path, progress.bytes) {
                Some(marks) => Ok(marks),
                None => self.marks_made_again(progress.bytes),
            },
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}
