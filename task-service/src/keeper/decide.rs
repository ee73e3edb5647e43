//! What the keeper decides about each event, and how it writes that. All of this runs within a transaction; the board
//! is changed last in each step, when nothing can fail any more.

use std::sync::Arc;

use jiff::Timestamp;
use task_runners::{ExecutionResult, Outcome as RunOutcome, Task, TaskId, TaskStatus};

use super::board::Placement;
use super::{CancelAnswer, Ending, Event, Keeper, Needs, Note, Outcome, Retrying, vault};
use crate::recovery;
use crate::run::{self, Start};
use crate::store::{self, NewTask};
use crate::submit::{SubmitError, Submitted};

/// What became of a task whose turn has come.
enum Admitted {
    Starts(Box<Start>),
    /// What was asked for cannot be read any more.
    Never(Box<Ending>),
}

impl Keeper {
    /// Starts what may start.
    pub(super) fn admit(&mut self, starts: &mut Vec<Start>) -> rusqlite::Result<()> {
        let now = self.clock.now().instant;
        while let Some(seq) = self.board.next_start(now) {
            match self.guarded(|keeper| keeper.admit_one(seq)) {
                Ok(Admitted::Starts(start)) => {
                    self.board.start(seq);
                    starts.push(*start);
                }
                // Its end is a fact like any other that is still to be written.
                Ok(Admitted::Never(ending)) => {
                    self.board.remove_waiting(seq);
                    self.unwritten.push(Event::Ended(ending));
                }
                Err(error) if !self.db.is_autocommit() => {
                    tracing::error!(seq, %error, "a waiting task could not be started; it goes on waiting");
                    self.board.postpone(seq, now);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn admit_one(&mut self, seq: i64) -> rusqlite::Result<Admitted> {
        let mut stored = store::waiting(&self.db, seq)?;
        if let Some(column) = stored.damage {
            let mut ending = run::ending(seq, stored.task, Arc::new(recovery::row_damaged(column)));
            ending.unrecorded = true;
            return Ok(Admitted::Never(Box::new(ending)));
        }
        let now = Timestamp::now();
        store::mark_running(&self.db, seq, now)?;
        stored.task.status = TaskStatus::Running;
        stored.task.started_at = Some(now);
        Ok(Admitted::Starts(Box::new(self.start_of(stored))))
    }

    /// What a task whose row says that it runs is started with, for the first time.
    pub(super) fn start_of(&self, stored: store::Stored) -> Start {
        let runner = self.registry.get(&stored.runner).cloned();
        let secrets = self.vault.of(&stored.task.id);
        let store::Stored { seq, task, runner: runner_name, pinned, retry, .. } = stored;
        Start { seq, task, runner_name, runner, pinned, retry, secrets, is_taken_up: false }
    }

    /// Decides about one event and writes it.
    pub(super) fn apply(&mut self, event: &Event, starts: &mut Vec<Start>) -> rusqlite::Result<Outcome> {
        match event {
            Event::Submit { new, .. } => self.accept(new, starts).map(Box::new).map(Outcome::Submitted),
            Event::Ended(ending) => {
                let outcome = self.end(ending)?;
                self.board.remove_running(&ending.task.id);
                self.board.remove_waiting(ending.seq);
                Ok(outcome)
            }
            Event::Retry(retrying) => self.retry(retrying),
            Event::LastAttempt { id, .. } => store::note_cancel(&self.db, id).map(|()| Outcome::Written),
            Event::PutBack { seq, id, door, cancelled } => {
                store::put_back(&self.db, *seq)?;
                if *cancelled {
                    let cancelled = self.cancel(id)?;
                    self.board.remove_running(id);
                    return Ok(Outcome::Cancelled(cancelled));
                }
                match door {
                    Some(door) => self.board.put_before(door, *seq, id),
                    None => self.board.put_back(*seq, id, self.clock.now().instant),
                }
                Ok(Outcome::Written)
            }
            Event::Cancel { id, .. } => self.cancel(id).map(Outcome::Cancelled),
            Event::Forget { places, .. } => Ok(Outcome::Forgotten(store::forget(&self.db, places)?)),
            Event::Note { notes } => {
                for (id, note) in notes {
                    match note {
                        Note::Node(node) => store::note_node(&self.db, id, node)?,
                        Note::Unreachable(since) => store::note_unreachable(&self.db, id, *since)?,
                    }
                }
                Ok(Outcome::Written)
            }
            // Carried out when they were taken from the channel.
            Event::Begin
            | Event::Drain { .. }
            | Event::Close { .. }
            | Event::Unwatched { .. }
            | Event::LetIn { .. }
            | Event::Tick => Ok(Outcome::Written),
        }
    }

    /// Writes the end of a task. One that had ended before is told as it did then.
    fn end(&mut self, ending: &Ending) -> rusqlite::Result<Outcome> {
        if !store::end(&self.db, ending)? {
            return self.had_ended(&ending.task.id);
        }
        Ok(Outcome::Written)
    }

    fn had_ended(&self, id: &TaskId) -> rusqlite::Result<Outcome> {
        tracing::error!(task_id = %id, "this task had ended before; its first end stands");
        Ok(Outcome::HadEnded(store::by_id(&self.db, id)?.map(Box::new)))
    }

    /// Puts a task back for its next attempt; or ends it as its attempt did, where its end was asked for meanwhile.
    fn retry(&mut self, retrying: &Retrying) -> rusqlite::Result<Outcome> {
        let Retrying { ending, delay, cancelled } = retrying;
        let id = &ending.task.id;
        if *cancelled {
            let outcome = self.end(ending)?;
            self.board.remove_running(id);
            return Ok(outcome);
        }
        let due = self.clock.now().after(*delay);
        if !store::retry(&self.db, ending.seq, &ending.next(), due.wall)? {
            let outcome = self.had_ended(id)?;
            self.board.remove_running(id);
            return Ok(outcome);
        }
        self.board.retry(ending.seq, id, due.instant);
        Ok(Outcome::WaitsAgain)
    }

    fn accept(
        &mut self,
        new: &NewTask,
        starts: &mut Vec<Start>,
    ) -> rusqlite::Result<Result<Submitted, SubmitError>> {
        let id = &new.task.id;
        if let Some(known) = store::digest_by_id(&self.db, id)? {
            let existing = if known == new.digest { store::by_id(&self.db, id)? } else { None };
            return Ok(match existing {
                Some(task) => Ok(Submitted { task, created: false }),
                None => Err(SubmitError::Conflict { id: id.clone() }),
            });
        }
        if !self.vault.has_room_for(&new.secrets) {
            return Ok(Err(SubmitError::SecretsFull { most: vault::MAX_BYTES }));
        }
        let needs = Needs::of(&new.plan, self.registry.runs_elsewhere(&new.runner));
        let mut task = Task { created_at: Timestamp::now(), ..new.task.clone() };
        match self.board.place(&needs, task.spec.on_busy) {
            Placement::Start => {
                task.status = TaskStatus::Running;
                task.started_at = Some(task.created_at);
                let seq = store::insert(&self.db, new, &task)?;
                self.board.start_new(id.clone(), &needs);
                let runner = self.registry.get(&new.runner).cloned();
                let (runner_name, pinned) = (new.runner.clone(), new.plan.pinned.clone());
                let (retry, secrets) = (new.plan.retry.clone(), new.secrets.clone());
                let (is_taken_up, task) = (false, task.clone());
                starts.push(Start { seq, task, runner_name, runner, pinned, retry, secrets, is_taken_up });
            }
            Placement::Wait => {
                let seq = store::insert(&self.db, new, &task)?;
                self.board.wait(seq, id.clone(), &needs);
            }
            Placement::Busy => {
                return Ok(Err(SubmitError::Busy { workspace: needs.workspace.unwrap_or_default() }));
            }
            Placement::LaneFull(waiting) => {
                let script = needs.lane.map(|lane| lane.name).unwrap_or_default();
                return Ok(Err(SubmitError::ScriptFull { script, waiting }));
            }
            Placement::Full => return Ok(Err(SubmitError::Full { waiting: self.board.queued() })),
            Placement::Draining => return Ok(Err(SubmitError::Draining)),
        }
        self.vault.keep(id, &new.secrets);
        Ok(Ok(Submitted { task, created: true }))
    }

    fn cancel(&mut self, id: &TaskId) -> rusqlite::Result<CancelAnswer> {
        let Some(stored) = store::unfinished_by_id(&self.db, id)? else {
            let ended = store::by_id(&self.db, id)?;
            return Ok(ended.map_or(CancelAnswer::NotFound, |task| CancelAnswer::Ended(task.status)));
        };
        if self.is_undecided(stored.seq) {
            let reason = "how it ended cannot be read from its record yet; the agent's log says why";
            return Ok(CancelAnswer::Unavailable(reason.to_owned()));
        }
        let is_unwritten = self.unwritten.iter().any(|event| event.place() == Some(stored.seq));
        if stored.task.status != TaskStatus::Queued && is_unwritten {
            let reason = "what became of it cannot be written yet; the agent's log says why";
            return Ok(CancelAnswer::Unavailable(reason.to_owned()));
        }
        if stored.task.status != TaskStatus::Queued {
            return Ok(CancelAnswer::Running);
        }
        let message = match stored.task.attempts.is_empty() {
            true => "cancelled while it waited for its turn; nothing was started",
            false => "cancelled while it waited for its next attempt; the logs of the earlier ones are kept",
        };
        let result = ExecutionResult::without_run(RunOutcome::Cancelled, "cancelled_in_queue", message);
        let ending = run::ending(stored.seq, stored.task, Arc::new(result));
        self.end(&ending)?;
        self.board.remove_waiting(stored.seq);
        Ok(CancelAnswer::Done(Box::new(ending.task)))
    }
}
