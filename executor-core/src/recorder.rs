//! Records an execution that is no script: the same log, banners and result, written by whoever carries it out.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use jiff::Timestamp;

use crate::banner::{self, Started};
use crate::execution::{Execution, ExecutionDriver, abandoned};
use crate::log_writer::LogWriter;
use crate::names::TaskId;
use crate::record::Records;
use crate::result::{ErrorReport, ExecutionResult, Outcome};

/// Most bytes that such an execution's log keeps.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// The writing end of an execution that is carried out by code instead of a script. Dropped without
/// [`finish`](Self::finish), it leaves a result, in the record too, that says that the agent stopped watching.
#[derive(Debug)]
pub struct Recorder {
    records: Records,
    /// Held until there is a result.
    driver: Option<ExecutionDriver>,
    folder: OwnedFd,
    log: LogWriter,
    started: Instant,
}

/// What such an execution ended with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completion {
    /// Output parameters.
    pub output_params: BTreeMap<String, String>,
    /// Why it failed; none means that it succeeded.
    pub failure: Option<String>,
}

impl Completion {
    /// One that failed, and why.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { failure: Some(message.into()), ..Self::default() }
    }
}

impl Recorder {
    /// Makes the record and its log with the started banner, and the handle for those who wait.
    ///
    /// # Errors
    /// When the record cannot be made; `AlreadyExists` when the id was used before.
    pub fn begin(
        records: &Records,
        id: &TaskId,
        runner: &str,
        created_by: &str,
    ) -> io::Result<(Execution, Self)> {
        let folder = records.make(id)?;
        let header = banner::started(&Started {
            at: Timestamp::now(),
            work_dir: "none",
            script: runner,
            metadata: &[("id", id), ("created_by", &created_by)],
        });
        let log = LogWriter::create(&folder, MAX_LOG_BYTES, &header)?;
        let (execution, driver) = Execution::new(id.clone(), records.log_path(id));
        log.announce(&driver);
        let driver = Some(driver);
        Ok((execution, Self { records: records.clone(), driver, folder, log, started: Instant::now() }))
    }

    /// Appends to the log.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(driver) = &self.driver {
            self.log.append(bytes, driver.progress());
        }
    }

    /// Waits until somebody asks for the end.
    pub async fn cancelled(&self) {
        self.cancelled_times(1).await;
    }

    /// Waits until somebody has asked for the end so often; the second time means: at once.
    pub async fn cancelled_times(&self, times: u32) {
        if let Some(driver) = &self.driver {
            driver.cancelled_times(times).await;
        }
    }

    /// Writes the finished banner and the result, and gives the result to those who wait.
    pub fn finish(mut self, completion: Completion) {
        let Completion { output_params, failure } = completion;
        let cancels = self.driver.as_ref().map_or(0, ExecutionDriver::cancels);
        let outcome = match (&failure, cancels) {
            (None, _) => Outcome::Exited { code: 0 },
            (Some(_), 0) => Outcome::Exited { code: 1 },
            (Some(_), _) => Outcome::Cancelled,
        };
        let mut result = ExecutionResult::without_run(outcome, "runner_failed", "");
        result.success = failure.is_none();
        result.exit_code = match result.outcome {
            Outcome::Exited { code } => Some(code),
            _ => None,
        };
        result.duration_ms = self.duration_ms();
        result.output_params = output_params;
        result.error = failure.map(|message| ErrorReport { code: "runner_failed".to_owned(), message });
        self.end(result);
    }

    /// Does the same for an execution that was ended from outside, whatever it had come to.
    pub fn finish_as(mut self, outcome: Outcome, code: &str, message: &str) {
        let mut result = ExecutionResult::without_run(outcome, code, message);
        result.duration_ms = self.duration_ms();
        self.end(result);
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn end(&mut self, mut result: ExecutionResult) {
        let Some(driver) = self.driver.take() else {
            return;
        };
        let footer = banner::finished(Timestamp::now(), &result);
        result.log = self.log.finish(&footer, &self.folder, driver.progress());
        if let Err(error) = self.records.write_result(driver.id(), &result) {
            tracing::error!(task_id = %driver.id(), %error, "could not write the result");
            result.log.incomplete.get_or_insert(format!("the result could not be written: {error}"));
        }
        driver.finish(result);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(abandoned());
    }
}
