//! Opens the log of a task, whatever has become of it so far.

use std::io;

use task_runners::{LogReader, TaskId, TaskStatus};
use tokio::sync::watch;

use crate::live::Phase;
use crate::service::{ReadError, TaskService};

/// Where the log of a task is to be read.
#[derive(Debug)]
pub enum LogSource {
    /// It is written, or was.
    Log(LogReader),
    /// The task has not started. [`LogWait::opened`] waits for that.
    NotYet(LogWait),
    /// The task has ended and left no log: it never started, or its record is gone.
    None,
}

/// The log of a task that has not started.
#[derive(Debug)]
pub struct LogWait {
    service: TaskService,
    id: TaskId,
    phase: watch::Receiver<Phase>,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such task.
    #[error("there is no task '{0}'")]
    NotFound(TaskId),
    /// The task cannot be looked up.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file cannot be opened.
    #[error("cannot open the log of the task '{id}': {source}")]
    Open {
        /// The task.
        id: TaskId,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TaskService {
    /// Opens the log of a task: one that runs can be followed, one that has ended is whole, and for one that has not
    /// started there is something to wait with.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn log(&self, id: &TaskId) -> Result<LogSource, LogError> {
        let open = |source| LogError::Open { id: id.clone(), source };
        loop {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            if let Some(phase) = self.live().follow(id) {
                let now = phase.borrow().clone();
                match now {
                    Phase::Running(execution) => return execution.log().map(LogSource::Log).map_err(open),
                    Phase::Queued | Phase::Starting(_) => {
                        return Ok(LogSource::NotYet(LogWait {
                            service: self.clone(),
                            id: id.clone(),
                            phase,
                        }));
                    }
                    // It is in the database by now.
                    Phase::Ended(_) => {}
                }
            }
            let task = self.task(id).await?.ok_or_else(|| LogError::NotFound(id.clone()))?;
            if task.status.is_terminal() {
                let log = task.result.as_ref().map(|result| result.log.clone()).unwrap_or_default();
                return match self.inner.records.ended_log(id, &log) {
                    Ok(reader) => Ok(LogSource::Log(reader)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogSource::None),
                    Err(error) => Err(open(error)),
                };
            }
            // Its row was written a moment ago and the keeper is about to tell; or the keeper has stopped.
            if turns.changed().await.is_err() {
                return self.log_after_stop(id, task.status).map_err(open);
            }
        }
    }

    /// The log of a task that a stopped service has left behind.
    fn log_after_stop(&self, id: &TaskId, status: TaskStatus) -> io::Result<LogSource> {
        match status {
            TaskStatus::Queued => Ok(LogSource::None),
            _ => self.inner.records.ended_log(id, &task_runners::LogSummary::default()).map(LogSource::Log),
        }
    }
}

impl LogWait {
    /// Waits until the task has started or ended, and opens its log.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn opened(mut self) -> Result<LogSource, LogError> {
        let begun = |phase: &Phase| matches!(phase, Phase::Running(_) | Phase::Ended(_));
        // A keeper that stops forgets the task; then the row says how it stands.
        let _ = self.phase.wait_for(begun).await;
        Box::pin(self.service.log(&self.id)).await
    }
}
