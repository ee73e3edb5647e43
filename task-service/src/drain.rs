//! Stops the service: nothing new is accepted or started, what runs may end by itself until a deadline.

use std::time::Duration;

use task_runners::TaskId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::keeper::Event;
use crate::service::TaskService;

/// When it is said what is waited for, and how often then. What ends in a moment is not spoken of.
const SAY_AFTER: Duration = Duration::from_millis(500);
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How a service was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Tasks that had to be cancelled because they still ran at the deadline.
    pub cancelled: Vec<TaskId>,
    /// How many tasks wait for the next start.
    pub queued: usize,
}

impl TaskService {
    /// Stops the service: accepts and starts nothing more, waits for what runs, cancels what still does after `patience`,
    /// waits for the end of that too, and closes the database. It says in the log what it waits for. Tasks that wait stay
    /// queued for the next start. Afterwards history can still be read, and another service can be opened on the folder.
    ///
    /// Called again while it waits, with a patience of zero, it cancels at once; a task that was asked to end before is
    /// killed.
    pub async fn drain(&self, patience: Duration) -> DrainReport {
        let (answer, answered) = oneshot::channel();
        if self.inner.events.send(Event::Drain { answer }).is_ok() {
            // Without an answer the keeper has stopped, and nothing runs.
            let _ = answered.await;
        }
        let mut report = DrainReport::default();
        if tokio::time::timeout(patience, self.until_idle()).await.is_err() {
            report.cancelled = self.live().cancel_all();
            tracing::warn!(tasks = %listed(&report.cancelled), "cancelling what still runs");
            self.until_idle().await;
        }
        report.queued = self.stats().queued;
        let (answer, answered) = oneshot::channel();
        if self.inner.events.send(Event::Close { answer: Some(answer) }).is_ok() {
            let _ = answered.await;
        }
        report
    }

    /// Waits until nothing runs. What has ended but cannot be written, on a full disk for one, is not waited for.
    async fn until_idle(&self) {
        let mut stats = self.inner.stats.clone();
        let mut say = tokio::time::interval_at(Instant::now() + SAY_AFTER, SAY_EVERY);
        loop {
            tokio::select! {
                // The keeper has gone: nothing runs any more that it would know of.
                _ = stats.wait_for(|stats| stats.running <= stats.unwritten) => return,
                _ = say.tick() => {
                    tracing::info!(tasks = %listed(&self.live().started()), "waiting for running tasks to end");
                }
            }
        }
    }
}

fn listed(ids: &[TaskId]) -> String {
    let ids: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
    ids.join(", ")
}
