//! Opens the log of a task, whatever has become of it so far. Each attempt has one of its own.

use std::io;

use task_runners::{Execution, LogReader, LogSummary, Task, TaskId, TaskStatus};
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
    attempt: Option<u32>,
    phase: watch::Receiver<Phase>,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such task.
    #[error("there is no task '{0}'")]
    NotFound(TaskId),
    /// The task has no attempt of that number.
    #[error("the task '{id}' has no attempt {attempt}; it has {attempts}, counted from 1")]
    NoSuchAttempt {
        /// The task.
        id: TaskId,
        /// The number that was asked for.
        attempt: u32,
        /// How many there are, with one that is waited for.
        attempts: u32,
    },
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
    /// started there is something to wait with. Of several attempts it is that of the newest one that has started.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn log(&self, id: &TaskId) -> Result<LogSource, LogError> {
        self.log_of(id, None).await
    }

    /// The same for one attempt, counted from 1.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn attempt_log(&self, id: &TaskId, attempt: u32) -> Result<LogSource, LogError> {
        self.log_of(id, Some(attempt)).await
    }

    async fn log_of(&self, id: &TaskId, attempt: Option<u32>) -> Result<LogSource, LogError> {
        loop {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            let phase = self.live().follow(id);
            let task = self.task(id).await?.ok_or_else(|| LogError::NotFound(id.clone()))?;
            let wanted = wanted(&task, attempt)?;
            if wanted < task.attempt {
                return self.ended_log(&task, wanted);
            }
            if let Some(mut phase) = phase
                && let Some(found) = self.log_in_phase(&task, attempt, &mut phase).await?
            {
                return Ok(found);
            }
            if task.status.is_terminal() {
                return self.ended_log(&task, wanted);
            }
            // Its row was written a moment ago and the keeper is about to tell; or the other way round; or the keeper has
            // stopped.
            if turns.changed().await.is_err() {
                return self.log_after_stop(&task);
            }
        }
    }

    /// The log of the attempt that the row names, by the phase that it is in; none when the two do not agree just now.
    async fn log_in_phase(
        &self,
        task: &Task,
        attempt: Option<u32>,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<Option<LogSource>, LogError> {
        let now = phase.borrow().clone();
        match (now, task.status) {
            (Phase::Running { execution, attempt, .. }, TaskStatus::Running) if attempt == task.attempt => {
                live_log(&execution, phase).await.map_err(|source| open_error(&task.id, source))
            }
            (Phase::Queued, TaskStatus::Queued) | (Phase::Starting(_), TaskStatus::Running) => {
                let (service, id) = (self.clone(), task.id.clone());
                Ok(Some(LogSource::NotYet(LogWait { service, id, attempt, phase: phase.clone() })))
            }
            _ => Ok(None),
        }
    }

    /// The log of an attempt that has ended; without one of the last, that of the one before.
    fn ended_log(&self, task: &Task, attempt: u32) -> Result<LogSource, LogError> {
        let records = &self.inner.records;
        let in_record = || match &task.result {
            Some(result) if attempt == task.attempt => records.ended_log(&task.id, &result.log),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let set_aside = || {
            let result = records.attempt_result(&task.id, attempt)?;
            let log = result.map(|result| result.log).unwrap_or_default();
            records.attempt_log(&task.id, attempt, &log)
        };
        let opened = match in_record() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => set_aside(),
            other => other,
        };
        match opened {
            Ok(reader) => Ok(LogSource::Log(reader)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogSource::None),
            Err(error) => Err(open_error(&task.id, error)),
        }
    }

    /// The log of a task that a stopped service has left behind.
    fn log_after_stop(&self, task: &Task) -> Result<LogSource, LogError> {
        if task.status == TaskStatus::Queued {
            return Ok(LogSource::None);
        }
        let log = self.inner.records.ended_log(&task.id, &LogSummary::default());
        log.map(LogSource::Log).map_err(|source| open_error(&task.id, source))
    }
}

/// The attempt whose log is asked for. Where none is named and the next one has not started, that is the one before.
fn wanted(task: &Task, attempt: Option<u32>) -> Result<u32, LogError> {
    match attempt {
        Some(number) if (1..=task.attempt).contains(&number) => Ok(number),
        Some(number) => {
            let (id, attempts) = (task.id.clone(), task.attempt);
            Err(LogError::NoSuchAttempt { id, attempt: number, attempts })
        }
        None => Ok(task.newest_started()),
    }
}

/// The log of an execution under way; none when it is set aside just now: then it has another place soon.
///
/// The file is opened by a name that the next attempt has too. As long as this one counts as running, nothing of the next
/// one is there.
async fn live_log(
    execution: &Execution,
    phase: &mut watch::Receiver<Phase>,
) -> io::Result<Option<LogSource>> {
    let opened = execution.log();
    let is_same = |phase: &Phase| matches!(phase, Phase::Running { execution: now, .. } if now.is(execution));
    match opened {
        Ok(reader) if is_same(&phase.borrow()) => Ok(Some(LogSource::Log(reader))),
        Err(error) if is_same(&phase.borrow()) && !is_moved(&error, execution) => Err(error),
        _ => {
            // A keeper that stops forgets the task, which is a change too.
            let _ = phase.wait_for(|phase| !is_same(phase)).await;
            Ok(None)
        }
    }
}

/// Whether a log that cannot be opened may be one that is set aside, which begins when its execution has ended.
fn is_moved(error: &io::Error, execution: &Execution) -> bool {
    error.kind() == io::ErrorKind::NotFound && execution.result().is_some()
}

fn open_error(id: &TaskId, source: io::Error) -> LogError {
    LogError::Open { id: id.clone(), source }
}

impl LogWait {
    /// Waits until the task has started or ended, and opens its log.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn opened(mut self) -> Result<LogSource, LogError> {
        let begun = |phase: &Phase| matches!(phase, Phase::Running { .. } | Phase::Ended(_));
        // A keeper that stops forgets the task; then the row says how it stands.
        let _ = self.phase.wait_for(begun).await;
        Box::pin(self.service.log_of(&self.id, self.attempt)).await
    }
}
