//! Cancels tasks, waiting or running.

use std::time::Duration;

use task_runners::{Task, TaskId, TaskStatus};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::keeper::{CancelAnswer, Event};
use crate::live::Cancelling;
use crate::run;
use crate::service::TaskService;

/// Looks at a task between two states before it is given up, and how long the keeper is waited for between two of them.
const MOST_TRIES: u32 = 5;
const TURN_WITHIN: Duration = Duration::from_secs(1);

/// Why a task was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is no such task.
    #[error("there is no task '{0}'")]
    NotFound(TaskId),
    /// It has ended before.
    #[error("the task has ended already: it is {0}")]
    AlreadyEnded(TaskStatus),
    /// The database could not be read or written; or the service has stopped, and the task waits for its next start.
    #[error("the task could not be cancelled: {0}; try again later")]
    Unavailable(String),
}

impl TaskService {
    /// Cancels a task. One that waits is cancelled when this returns, and nothing of it is started. One that runs is
    /// asked to end and given its grace period; asked again, it is killed at once. [`TaskService::wait`] waits for that.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub async fn cancel(&self, id: &TaskId) -> Result<Task, CancelError> {
        for _ in 0..MOST_TRIES {
            let mut turns = self.inner.stats.clone();
            turns.mark_unchanged();
            if self.live().cancel(id) == Cancelling::Told {
                self.note_last_attempt(id).await?;
                let task =
                    self.task(id).await.map_err(|error| CancelError::Unavailable(error.to_string()))?;
                return task.ok_or_else(|| CancelError::NotFound(id.clone()));
            }
            match self.cancel_waiting(id).await {
                CancelAnswer::Done(task) => return Ok(*task),
                // It has started meanwhile, and all who follow it know by now, or are about to.
                CancelAnswer::Running => {
                    if let Ok(Err(_)) = timeout(TURN_WITHIN, turns.changed()).await {
                        break;
                    }
                }
                CancelAnswer::Ended(status) => return Err(CancelError::AlreadyEnded(status)),
                CancelAnswer::NotFound => return Err(CancelError::NotFound(id.clone())),
                CancelAnswer::Unavailable(reason) => return Err(CancelError::Unavailable(reason)),
            }
        }
        Err(CancelError::Unavailable("it runs, and what carries it out is not within reach".to_owned()))
    }

    /// Notes that nothing follows what runs now, so that not even an agent that dies before its end tries it again.
    async fn note_last_attempt(&self, id: &TaskId) -> Result<(), CancelError> {
        let (answer, answered) = oneshot::channel();
        let unwritten =
            |why| CancelError::Unavailable(format!("it was asked to end, which is not noted: {why}"));
        match self.inner.events.send(Event::LastAttempt { id: id.clone(), answer }) {
            Ok(()) => answered.await.unwrap_or(Ok(())).map_err(unwritten),
            // Without a keeper nothing is tried again by this service.
            Err(_) => Ok(()),
        }
    }

    /// Cancels a task that waits, and writes its record, whether or not whoever asked stays for the answer.
    async fn cancel_waiting(&self, id: &TaskId) -> CancelAnswer {
        let stopped = || CancelAnswer::Unavailable("the service has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        if self.inner.events.send(Event::Cancel { id: id.clone(), answer }).is_err() {
            return stopped();
        }
        let records = self.inner.records.clone();
        let recorded = tokio::spawn(async move {
            let cancelled = answered.await.ok()?;
            if let CancelAnswer::Done(task) = &cancelled
                && let Some(result) = task.result.clone()
            {
                run::record(&records, &task.id, result).await;
            }
            Some(cancelled)
        });
        recorded.await.ok().flatten().unwrap_or_else(stopped)
    }
}
