//! A copy of an execution that another agent carries out: its log as it comes, byte for byte, and in the end its result.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use crate::banner;
use crate::boot;
use crate::durable;
use crate::execution::{Execution, ExecutionDriver};
use crate::log_lines::LineCounter;
use crate::names::TaskId;
use crate::record::{DEBUG_FILE, LOG_FILE, Records};
use crate::result::{ExecutionResult, LogSummary};

/// The writing end of such a copy. Dropped without a result, it leaves the execution open: how it ends is the other agent's
/// to say, to whoever [opens](Self::open) it again.
#[derive(Debug)]
pub struct Mirror {
    records: Records,
    driver: Option<ExecutionDriver>,
    folder: OwnedFd,
    log: Arc<File>,
    bytes: u64,
    /// Where the script's own output ends, as far as that is known: nobody is shown what is behind it before the end.
    body_end: Option<u64>,
    lines: LineCounter,
}

impl Mirror {
    /// Makes the record with an empty log; or takes up what is there of one that was begun before.
    ///
    /// # Errors
    /// When the record cannot be made, opened or read.
    pub fn open(records: &Records, id: &TaskId) -> io::Result<(Execution, Self)> {
        let (folder, log) = match records.make(id) {
            Ok(folder) => {
                let log = durable::create_new(&folder, LOG_FILE, 0o600)?;
                boot::note(&folder)?;
                (folder, log)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (records.open_record(id)?, Self::reopen(records, id, 0)?)
            }
            Err(error) => return Err(error),
        };
        let (execution, driver) = Execution::new(id.clone(), records.log_path(id));
        let log = Arc::new(log);
        driver.log_is(&log);
        let (records, lines) = (records.clone(), LineCounter::default());
        let mut mirror = Self { records, driver: Some(driver), folder, log, bytes: 0, body_end: None, lines };
        mirror.take_up()?;
        Ok((execution, mirror))
    }

    /// Takes up the log of a task that was given up: what still comes of it is kept, and nobody waits for it.
    ///
    /// # Errors
    /// When the record cannot be opened or read.
    pub fn open_late(records: &Records, id: &TaskId) -> io::Result<Self> {
        let (folder, log) =
            (records.open_record(id)?, Self::reopen(records, id, Self::flushed(records, id)?)?);
        // Nobody follows it, so that its lines are not counted.
        let bytes = log.metadata()?.len();
        let (records, log, lines) = (records.clone(), Arc::new(log), LineCounter::default());
        Ok(Self { records, driver: None, folder, log, bytes, body_end: None, lines })
    }

    /// How much of its log [`open_late`](Self::open_late) finds.
    ///
    /// # Errors
    /// When the record cannot be opened or read.
    pub fn late_bytes(records: &Records, id: &TaskId) -> io::Result<u64> {
        let (folder, flushed) = (records.open_record(id)?, Self::flushed(records, id)?);
        let bytes = match fs::symlink_metadata(records.log_path(id)) {
            Ok(log) => log.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(if boot::is_of_this(&folder) { bytes } else { bytes.min(flushed) })
    }

    /// So much of a log was flushed before the result was written.
    fn flushed(records: &Records, id: &TaskId) -> io::Result<u64> {
        Ok(records.read_result(id)?.map_or(0, |result| result.log.bytes))
    }

    /// How much of the log is here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells followers how long the banner at the beginning is.
    pub fn set_header(&self, header_bytes: u64) {
        if let Some(driver) = &self.driver {
            driver
                .progress()
                .update(|progress| progress.header_bytes = progress.header_bytes.max(header_bytes));
        }
    }

    /// Notes where the script's own output ends. As at home, the banner behind it is shown together with the result.
    pub fn set_body_end(&mut self, body_end: u64) {
        self.body_end = Some(body_end);
    }

    /// Appends to the log: all of it or nothing. What is beyond the bound on logs here is dropped, as it is of scripts here;
    /// another agent is not trusted with this disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = &bytes[..bytes.len().min(usize::try_from(self.room()).unwrap_or(usize::MAX))];
        if let Err(error) = self.log.write_all_at(bytes, self.bytes) {
            // What is torn is written over when the same bytes come again, whether it can be cut off or not.
            let _ = self.log.set_len(self.bytes);
            return Err(error);
        }
        self.count(bytes);
        Ok(())
    }

    /// Flushes the log, writes the other agent's result, and gives it to those who wait. What the result says of the log is
    /// brought into line with what is here: the other agent may have lost the end of it with its power, have written more
    /// than may be here, or not tell the truth.
    ///
    /// # Errors
    /// When either cannot be written; then nobody is told, and it can be tried again.
    pub fn finish(&mut self, mut result: ExecutionResult) -> io::Result<()> {
        let Some(driver) = &self.driver else { return Ok(()) };
        self.log.sync_data()?;
        self.describe(&mut result.log);
        self.records.write_result(driver.id(), &result)?;
        if let Err(error) = driver.progress().lines().keep(&self.folder) {
            tracing::warn!(%error, "the marks of a log's lines could not be kept; they can be made again");
        }
        if let Some(driver) = self.driver.take() {
            let body_end = self.bytes.saturating_sub(result.log.footer_bytes);
            driver.progress().update(|progress| {
                (progress.bytes, progress.body_end) = (self.bytes, Some(body_end));
            });
            driver.finish(result);
        }
        Ok(())
    }

    /// Keeps the script by which the other agent says that the run is reproduced. As in other records it is not flushed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_debug_script(&self, script: &[u8]) -> io::Result<()> {
        durable::put(&self.folder, DEBUG_FILE, script)
    }

    /// Flushes the log of a task that was given up, and writes how it ended after all beside its result.
    ///
    /// # Errors
    /// When either cannot be written.
    pub fn finish_late(&mut self, mut result: ExecutionResult) -> io::Result<()> {
        self.log.sync_data()?;
        self.describe(&mut result.log);
        self.records.write_late_result(&self.folder, &result)
    }

    /// Whether nothing more of the log is kept: it is as long as any may be.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// What may still come.
    fn room(&self) -> u64 {
        self.records.most_of_a_copy().saturating_sub(self.bytes)
    }

    /// Makes what another agent says of a log true of the copy that is here.
    fn describe(&self, log: &mut LogSummary) {
        if log.bytes > self.bytes && self.is_full() {
            // What is missing here is from the end on: the banner there, and what the script wrote before it.
            let missing = (log.bytes - self.bytes).saturating_sub(log.footer_bytes);
            log.truncated_bytes = log.truncated_bytes.saturating_add(missing);
            (log.bytes, log.footer_bytes) = (self.bytes, 0);
        }
        log.fit(self.bytes);
    }

    /// Opens a log that is there. What was written before this boot, and not flushed, may be anything, and is fetched again.
    fn reopen(records: &Records, id: &TaskId, flushed: u64) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let path = records.log_path(id);
        let mut options = OpenOptions::new();
        let log = options.read(true).write(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        let folder = records.open_record(id)?;
        if !boot::is_of_this(&folder) {
            log.set_len(flushed.min(log.metadata()?.len()))?;
            boot::note(&folder)?;
        }
        Ok(log)
    }

    /// Counts what is there already.
    fn take_up(&mut self) -> io::Result<()> {
        let length = self.log.metadata()?.len();
        if length == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; 64 << 10];
        while self.bytes < length {
            match (&*self.log).read(&mut buffer)? {
                0 => break,
                count => {
                    if self.bytes == 0 {
                        self.set_header(banner::started_length(&buffer[..count]));
                    }
                    self.count(&buffer[..count]);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(driver) = &self.driver {
            self.lines.add(bytes, driver.progress().lines());
            let shown = self.body_end.map_or(self.bytes, |end| self.bytes.min(end));
            driver.progress().update(|progress| progress.bytes = progress.bytes.max(shown));
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.leave();
        }
    }
}
