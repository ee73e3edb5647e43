//! What the keeper tells once a turn is written, and what it says when it could not be.

use std::io;
use std::sync::Arc;

use task_runners::{Task, TaskStatus};

use super::{CancelAnswer, Event, Keeper, Outcome};
use crate::run;
use crate::store;
use crate::submit::SubmitError;
use crate::submit::Submitted;

impl Keeper {
    /// Shows a task that waits now to those who follow it.
    pub(super) fn show(&self, event: &Event, outcome: &Outcome) {
        match (event, outcome) {
            (Event::Submit { .. }, Outcome::Submitted(submitted)) => {
                if let Ok(Submitted { task, created: true }) = &**submitted
                    && task.status == TaskStatus::Queued
                {
                    self.live.queued(&task.id);
                }
            }
            (Event::PutBack { id, .. }, Outcome::Written) => self.live.queued(id),
            (Event::Retry(retrying), Outcome::WaitsAgain) => self.live.queued(&retrying.ending.task.id),
            _ => {}
        }
    }

    /// Answers whoever asked, and gives ended tasks to those who wait for them.
    pub(super) fn answer(&mut self, event: Event, outcome: Outcome) {
        match (event, outcome) {
            (Event::Submit { answer, place, .. }, Outcome::Submitted(submitted)) => {
                drop(place);
                // Whoever asked may have gone away; the task stays accepted.
                let _ = answer.send(*submitted);
            }
            (Event::Ended(ending), Outcome::HadEnded(first)) => {
                self.tell_end(first.map_or(ending.task, |task| *task), false);
            }
            (Event::Retry(retrying), Outcome::HadEnded(first)) => {
                self.tell_end(first.map_or(retrying.ending.task, |task| *task), false);
            }
            (Event::Ended(ending), _) => self.tell_end(ending.task, ending.unrecorded),
            // Its attempt was set aside, so that its record lacks the result.
            (Event::Retry(retrying), Outcome::Written) => self.tell_end(retrying.ending.task, true),
            (Event::LastAttempt { answer, .. }, _) => {
                let _ = answer.send(Ok(()));
            }
            // Nobody waits for this answer, so that nobody else writes the record.
            (Event::PutBack { .. }, Outcome::Cancelled(CancelAnswer::Done(task))) => {
                self.tell_end(*task, true);
            }
            (Event::Cancel { answer, .. }, Outcome::Cancelled(cancelled)) => {
                if let CancelAnswer::Done(task) = &cancelled {
                    self.vault.forget(&task.id);
                    self.live.ended(&Arc::new(Task::clone(task)));
                }
                let _ = answer.send(cancelled);
            }
            (Event::Forget { answer, .. }, Outcome::Forgotten(forgotten)) => {
                // The folders are found without their rows too.
                let _ = answer.send(Ok(forgotten));
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
            Event::Forget { answer, .. } => {
                let _ = answer.send(Err(reason));
            }
            Event::LastAttempt { answer, .. } => {
                let _ = answer.send(Err(reason));
            }
            Event::Ended(mut ending) => {
                // The disk that refused the database may have refused the record.
                ending.unrecorded = true;
                self.unwritten.push(Event::Ended(ending));
            }
            event => self.unwritten.push(event),
        }
    }

    fn tell_end(&mut self, task: Task, unrecorded: bool) {
        self.vault.forget(&task.id);
        let task = self.with_notes(task);
        if unrecorded && let Err(error) = self.keep_record(&task) {
            tracing::warn!(task_id = %task.id, %error, "the record could not be written");
        }
        self.live.ended(&Arc::new(task));
    }

    /// A task that ran elsewhere with what was noted of it meanwhile.
    fn with_notes(&self, task: Task) -> Task {
        if task.spec.target.is_none() {
            return task;
        }
        match store::whereabouts(&self.db, &task.id) {
            Ok(Some((node, unreachable_since))) => Task { node, unreachable_since, ..task },
            // Who asks for it again gets what the row says.
            _ => task,
        }
    }

    /// Writes the result of a task to its record, where it is missing.
    pub(super) fn keep_record(&self, task: &Task) -> io::Result<()> {
        match &task.result {
            Some(result) => run::record_here(&self.context.records, &task.id, result),
            None => Ok(()),
        }
    }
}
