//! Tasks of an agent that died whose result is there and cannot be read: out of descriptors, a failing disk, a mode that
//! somebody changed. What they came to is a fact that must not be overwritten by a guess, so that it is looked at again
//! until it can be read. Nothing of them runs, so that they hold neither a slot nor a workspace meanwhile.

use std::time::Instant;

use task_runners::TaskStatus;

use super::{Event, Keeper, RETRY};
use crate::recovery::{self, Verdict};
use crate::store::{self, Unfinished};

impl Keeper {
    /// The ends that can be told by now.
    pub(super) fn decided(&mut self) -> Vec<Event> {
        let mut decided = Vec::new();
        if self.undecided.is_empty() || Instant::now() < self.look_again {
            return decided;
        }
        self.look_again = Instant::now() + RETRY;
        for task in std::mem::take(&mut self.undecided) {
            match self.look_at(&task) {
                Ok(Some(Verdict::Ended(ending))) => decided.push(Event::Ended(ending)),
                Ok(Some(Verdict::Retries(retrying))) => {
                    // As if its attempt had just ended.
                    self.board.start_new(task.id, &task.needs);
                    decided.push(Event::Retry(retrying));
                }
                // The result has gone, or never was: the row says how it stands.
                Ok(Some(Verdict::Waits)) if task.status == TaskStatus::Running => self.take_up(task),
                Ok(Some(Verdict::Waits)) => {
                    self.live.queued(&task.id);
                    self.board.restore(task, self.clock.now());
                }
                Ok(None) => self.live.forget(&task.id),
                // Why was said at the start.
                Err(_) => self.undecided.push(task),
            }
        }
        decided
    }

    /// Goes on with one that runs on another agent, as at the start.
    fn take_up(&mut self, task: Unfinished) {
        match self.take_up_elsewhere(std::slice::from_ref(&task)) {
            Ok(()) => self.board.restore(task, self.clock.now()),
            Err(error) => {
                tracing::error!(task_id = %task.id, %error, "a task that runs elsewhere cannot be taken up; trying on");
                self.undecided.push(task);
            }
        }
    }

    fn look_at(&self, task: &Unfinished) -> Result<Option<Verdict>, Box<dyn std::error::Error>> {
        let Some(stored) = store::unfinished_by_seq(&self.db, task.seq)? else { return Ok(None) };
        Ok(Some(recovery::verdict(&self.context.records, stored, &self.registry)?))
    }

    /// Takes off a board that was made from the rows who is not to be started: them, and whose end is known and is still to
    /// be written.
    pub(crate) fn leave_out(&mut self) {
        for task in &self.undecided {
            self.board.remove_waiting(task.seq);
            self.board.remove_running(&task.id);
        }
        let unwritten = self.unwritten.iter().filter(|event| matches!(event, Event::Ended(_)));
        for place in unwritten.filter_map(Event::place).chain(self.ending.iter().copied()) {
            self.board.remove_waiting(place);
        }
    }

    /// Whether the task in this place is one of them.
    pub(super) fn is_undecided(&self, seq: i64) -> bool {
        self.undecided.iter().any(|task| task.seq == seq)
    }
}
