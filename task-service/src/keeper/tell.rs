//! What the keeper tells once a turn is written, and what it says when it could not be.

use std::sync::Arc;

use task_runners::{TaskId, TaskStatus};
use tokio::sync::oneshot;

use super::{CancelAnswer, Event, Keeper, Outcome};
use crate::submit::SubmitError;
use crate::submit::Submitted;

impl Keeper {
    /// Shows a task that waits now to those who follow it.
    pub(super) fn show(&self, event: &Event, outcome: &Outcome) {
        match (event, outcome) {
            (Event::Submit { .. }, Outcome::Submitted(Ok(Submitted { task, created: true })))
                if task.status == TaskStatus::Queued =>
            {
                self.live.queued(&task.id);
            }
            (Event::PutBack { id, .. }, _) => {
                let cancels = self.live.queued(id);
                if cancels > 0 {
                    self.cancel_later(id.clone());
                }
            }
            _ => {}
        }
    }

    /// Answers whoever asked, and gives ended tasks to those who wait for them.
    pub(super) fn answer(&self, event: Event, outcome: Outcome) {
        match (event, outcome) {
            (Event::Submit { answer, .. }, Outcome::Submitted(submitted)) => {
                // Whoever asked may have gone away; the task stays accepted.
                let _ = answer.send(submitted);
            }
            (Event::Ended(ending), _) => self.live.ended(&Arc::new(ending.task)),
            (Event::Cancel { answer, .. }, Outcome::Cancelled(cancelled)) => {
                if let CancelAnswer::Done(task) = &cancelled {
                    self.live.ended(&Arc::new(task.clone()));
                }
                let _ = answer.send(cancelled);
            }
            _ => {}
        }
    }

    /// Says that an event could not be written. Ends of tasks are kept: they are facts, and nobody would say them again.
    pub(super) fn fail(&mut self, event: Event, error: &rusqlite::Error) {
        let reason = format!("the database cannot be written: {error}");
        match event {
            Event::Submit { answer, .. } => {
                let _ = answer.send(Err(SubmitError::Unavailable(reason)));
            }
            Event::Cancel { answer, .. } => {
                let _ = answer.send(CancelAnswer::Unavailable(reason));
            }
            event => self.unwritten.push(event),
        }
    }

    /// A task was put back into the queue after somebody had asked for its end: that wish still holds.
    fn cancel_later(&self, id: TaskId) {
        let (answer, _) = oneshot::channel();
        // The receiver is the keeper's own and open.
        let _ = self.context.events.send(Event::Cancel { id, answer });
    }
}
