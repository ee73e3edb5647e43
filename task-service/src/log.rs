//! Opens the log of a task, whatever has become of it so far. Each attempt has one of its own.

use std::io;

use task_runners::{Execution, LogReader, LogSummary, Records, Task, TaskId, TaskStatus};
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

    /// Waits until a task has started or ended, and opens its log; none where it ended without one. The history is not asked
    /// for a task that is started only now.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn log_once_begun(&self, id: &TaskId) -> Result<Option<LogReader>, LogError> {
        if let Some(mut phase) = self.live().follow(id) {
            let begun = phase.wait_for(has_begun).await.map(|phase| phase.clone());
            if let Ok(Phase::Running { execution, .. }) = begun
                && let Ok(reader) = live_reader(&execution).await
                && is_of_first(&phase.borrow())
            {
                return Ok(Some(reader));
            }
        }
        let source = match self.log(id).await? {
            LogSource::NotYet(wait) => wait.opened().await?,
            other => other,
        };
        Ok(match source {
            LogSource::Log(reader) => Some(reader),
            LogSource::NotYet(_) | LogSource::None => None,
        })
    }

    async fn log_of(&self, id: &TaskId, attempt: Option<u32>) -> Result<LogSource, LogError> {
        loop {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            let phase = self.live().follow(id);
            let task = self.task(id).await?.ok_or_else(|| LogError::NotFound(id.clone()))?;
            let wanted = wanted(&task, attempt)?;
            if wanted < task.attempt {
                return self.opened(task, move |records, task| ended_log(records, task, wanted)).await;
            }
            if let Some(mut phase) = phase
                && let Some(found) = self.log_in_phase(&task, attempt, &mut phase).await?
            {
                return Ok(found);
            }
            if task.status.is_terminal() {
                return self.opened(task, move |records, task| ended_log(records, task, wanted)).await;
            }
            // Its row was written a moment ago and the keeper is about to tell; or the other way round; or the keeper has
            // stopped.
            if turns.changed().await.is_err() {
                return self.opened(task, log_as_it_stands).await;
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
            // Nothing of it runs.
            (Phase::Undecided, _) => self.opened(task.clone(), log_as_it_stands).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Opens a log that nobody writes any more, off the runtime's own threads: a disk may take its time.
    async fn opened(
        &self,
        task: Task,
        open: impl FnOnce(&Records, &Task) -> io::Result<LogReader> + Send + 'static,
    ) -> Result<LogSource, LogError> {
        let (records, id) = (self.inner.records.clone(), task.id.clone());
        match blocking(move || open(&records, &task)).await {
            Ok(reader) => Ok(LogSource::Log(reader)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogSource::None),
            Err(error) => Err(open_error(&id, error)),
        }
    }
}

/// The log of an attempt that has ended. It may be in the record, or be set aside; where that failed half-way, the result is
/// still in the record.
fn ended_log(records: &Records, task: &Task, attempt: u32) -> io::Result<LogReader> {
    let result = task.result.as_ref().filter(|_| attempt == task.attempt);
    let in_record = match result {
        // What still comes of a task that was given up is added to its log.
        Some(result) if task.status == TaskStatus::Lost => {
            let late = records.late_result(&task.id)?.map(|late| late.log);
            let so_far = LogSummary { bytes: u64::MAX, footer_bytes: 0, ..result.log.clone() };
            records.ended_log(&task.id, &late.unwrap_or(so_far))
        }
        Some(result) => records.ended_log(&task.id, &result.log),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    match in_record {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let aside = records.attempt_result(&task.id, attempt)?.map(|result| result.log);
            let log = aside.or_else(|| result.map(|result| result.log.clone()));
            records.attempt_log(&task.id, attempt, &log.unwrap_or_default())
        }
        other => other,
    }
}

/// The log of a task that a stopped service has left behind, or an agent that died. What is known of its parts is what its
/// result says, or the log itself.
fn log_as_it_stands(records: &Records, task: &Task) -> io::Result<LogReader> {
    if task.status == TaskStatus::Queued {
        return Err(io::ErrorKind::NotFound.into());
    }
    let result = records.read_result(&task.id).ok().flatten();
    let log = result.unwrap_or_else(|| records.interrupted(&task.id)).log;
    records.ended_log(&task.id, &log)
}

/// Does what may block, off the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
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
    let opened = live_reader(execution).await;
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

/// Reads the log of an execution; where nobody writes it any more it has to be opened, which may block.
async fn live_reader(execution: &Execution) -> io::Result<LogReader> {
    if let Some(reader) = execution.log_at_hand() {
        return Ok(reader);
    }
    let execution = execution.clone();
    blocking(move || execution.log()).await
}

/// Whether a log that cannot be opened may be one that is set aside, which begins when its execution has ended.
fn is_moved(error: &io::Error, execution: &Execution) -> bool {
    error.kind() == io::ErrorKind::NotFound && execution.result().is_some()
}

fn has_begun(phase: &Phase) -> bool {
    matches!(phase, Phase::Running { .. } | Phase::Ended(_))
}

/// Whether no attempt but the first can have a log by now: each has its log under the same name in its turn.
fn is_of_first(phase: &Phase) -> bool {
    match phase {
        Phase::Running { attempt, .. } => *attempt == 1,
        Phase::Ended(task) => task.attempt == 1,
        Phase::Queued | Phase::Starting(_) | Phase::Undecided => false,
    }
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
        // A keeper that stops forgets the task; then the row says how it stands.
        let _ = self.phase.wait_for(has_begun).await;
        Box::pin(self.service.log_of(&self.id, self.attempt)).await
    }
}
