//! The keeper: the one thread that decides and writes.
//!
//! It takes all events that are waiting, decides about each on its [`Board`], and writes what was decided in one
//! transaction, each event in a savepoint of its own so that one that fails does not spoil the others. Only after
//! the commit is anybody told, and only then is a task started. A commit that fails undoes the whole turn: the board is
//! made anew from the database, callers get an error, and what must not be lost is kept and tried again.

mod board;
mod decide;
mod event;
mod tell;
mod undecided;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use task_runners::{RunnerRegistry, Task, TaskStatus};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

pub(crate) use board::{Board, Needs};
pub use event::Note;
pub(crate) use event::{CancelAnswer, Ending, Event, Retrying};
pub(crate) use vault::Vault;

use crate::clock::Clock;

use crate::live::Live;
use crate::lock::ServiceLock;
use crate::run::{self, Start};
use crate::service::ServiceStats;
use crate::store::{self, Unfinished};
use crate::submit::{SubmitError, Submitted};

/// Most events in one transaction, so that the first of them does not wait for ever.
pub(crate) const MAX_EVENTS: usize = 256;
/// How long what could not be written waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the keeper owns and works with.
pub(crate) struct Keeper {
    pub(crate) db: Connection,
    pub(crate) board: Board,
    /// Secrets of the tasks on it.
    pub(crate) vault: Vault,
    pub(crate) live: Arc<Live>,
    pub(crate) stats: watch::Sender<ServiceStats>,
    /// How many tasks wait before each door.
    pub(crate) awaited: watch::Sender<BTreeMap<String, usize>>,
    pub(crate) registry: RunnerRegistry,
    pub(crate) context: run::Context,
    pub(crate) runtime: Handle,
    pub(crate) clock: Clock,
    pub(crate) receiver: Receiver<Event>,
    /// Ends of tasks that could not be written yet.
    pub(crate) unwritten: Vec<Event>,
    /// Places of tasks whose end this turn is to write.
    pub(crate) ending: BTreeSet<i64>,
    /// Whether an event that alone cannot be written was told of.
    pub(crate) failing_alone: bool,
    /// Tasks of an agent that died about whose end nothing can be said yet. They are not on the board.
    pub(crate) undecided: Vec<Unfinished>,
    /// When they are looked at again.
    pub(crate) look_again: Instant,
    /// Whether the board holds what a failed commit has undone.
    pub(crate) stale: bool,
    /// Whether the last turn could not be written.
    pub(crate) failing: bool,
    /// Whether all handles are gone.
    pub(crate) orphaned: bool,
    /// Goes with the keeper, which is how others hear that it has gone.
    pub(crate) _alive: watch::Sender<()>,
    /// Held until the database is closed.
    pub(crate) _lock: ServiceLock,
}

/// What came of an event, to be told after the commit.
enum Outcome {
    Submitted(Box<Result<Submitted, SubmitError>>),
    Cancelled(CancelAnswer),
    Forgotten(usize),
    Written,
    /// A task had ended before; as its row says.
    HadEnded(Option<Box<Task>>),
    /// A task waits for its next attempt.
    WaitsAgain,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn spawn(self) -> std::io::Result<()> {
        std::thread::Builder::new().name("task-keeper".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        // Those that were waiting when the service was opened.
        self.turn(Vec::new());
        let answer = loop {
            let (events, closing) = self.gather();
            self.turn(events);
            if let Some(answer) = closing {
                break Some(answer);
            }
            if self.orphaned && self.board.running() == 0 {
                break None;
            }
        };
        self.close();
        // Closes the database and releases the lock, so that whoever hears the answer may open both.
        drop(self);
        if let Some(answer) = answer {
            // Whoever asked may have given up.
            let _ = answer.send(());
        }
    }

    /// Waits for an event or for the time of the next try, and takes all events that are there. Those that need no
    /// database are carried out at once.
    fn gather(&mut self) -> (Vec<Event>, Option<oneshot::Sender<()>>) {
        let mut events = std::mem::take(&mut self.unwritten);
        events.extend(self.decided());
        let mut closing = None;
        let mut next = self.first_event(!events.is_empty());
        while let Some(event) = next {
            match event {
                Event::Begin => self.board.begin(),
                Event::Drain { answer } => {
                    self.board.drain();
                    let _ = answer.send(());
                }
                Event::Unwatched { id } => {
                    self.board.drain();
                    self.board.remove_running(&id);
                }
                Event::Close { answer } => {
                    self.board.drain();
                    self.orphaned |= answer.is_none();
                    closing = answer.or(closing);
                }
                Event::LetIn { door, most } => self.board.let_in(&door, most),
                Event::Tick => {}
                Event::Retry(mut retrying) => {
                    retrying.cancelled |= self.live.put_back(&retrying.ending.task.id);
                    events.push(Event::Retry(retrying));
                }
                Event::PutBack { seq, id, door, .. } => {
                    let cancelled = self.live.put_back(&id);
                    events.push(Event::PutBack { seq, id, door, cancelled });
                }
                event => events.push(event),
            }
            next = if events.len() < MAX_EVENTS { self.receiver.try_recv().ok() } else { None };
        }
        (events, closing)
    }

    fn first_event(&self, unwritten: bool) -> Option<Event> {
        let retry = (unwritten || self.stale || !self.undecided.is_empty()).then_some(RETRY);
        // One that is due and cannot be written is no reason to try without a pause.
        let least = if self.failing { RETRY } else { Duration::ZERO };
        let due = self.board.next_due().and_then(|at| self.clock.until(at)).map(|wait| wait.max(least));
        match [retry, due].into_iter().flatten().min() {
            // The keeper's own context holds a sender, so that the channel cannot be closed.
            None => self.receiver.recv().ok(),
            Some(wait) => self.receiver.recv_timeout(wait).ok(),
        }
    }

    /// One turn: decide and write, then tell.
    fn turn(&mut self, events: Vec<Event>) {
        let mut done = Vec::with_capacity(events.len());
        let ends = events.iter().filter(|event| matches!(event, Event::Ended(_)));
        self.ending = ends.filter_map(Event::place).collect();
        let mut starts = Vec::new();
        let mut events = events.into_iter();
        let written = self.write(&mut events, &mut done, &mut starts);
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the database can be written again");
                }
                self.tell(done, starts);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the database cannot be written; trying until it can");
                }
                self.undo();
                let undone = done.into_iter().map(|(event, _)| event).chain(events);
                undone.for_each(|event| self.fail(event, &error));
                self.publish();
            }
        }
        self.failing_alone &= !self.unwritten.is_empty();
    }

    /// Tells what was written, and starts what is marked as running. First come the tasks that can be followed now, then
    /// the numbers, then the answers: whoever got an answer finds the rest as it says.
    fn tell(&mut self, done: Vec<(Event, Outcome)>, starts: Vec<Start>) {
        done.iter().for_each(|(event, outcome)| self.show(event, outcome));
        starts.iter().for_each(|start| self.live.starting(&start.task.id, self.is_elsewhere(start)));
        self.publish();
        done.into_iter().for_each(|(event, outcome)| self.answer(event, outcome));
        for start in starts {
            self.runtime.spawn(run::run(start, self.context.clone()));
        }
    }

    /// Takes up the tasks of the last run that run on other agents.
    pub(crate) fn take_up_elsewhere(&self, tasks: &[Unfinished]) -> rusqlite::Result<()> {
        let is_elsewhere = |task: &&Unfinished| task.status == TaskStatus::Running && task.needs.is_elsewhere;
        for task in tasks.iter().filter(is_elsewhere).filter(|task| !self.is_undecided(task.seq)) {
            let Some(stored) = store::unfinished_by_seq(&self.db, task.seq)? else { continue };
            let cancels = store::cancels(&self.db, task.seq)?;
            let start = Start { is_taken_up: true, ..self.start_of(stored) };
            self.live.starting(&start.task.id, true);
            // Whoever asked for its end was told that it is asked.
            for _ in 0..cancels {
                self.live.cancel(&start.task.id);
            }
            self.runtime.spawn(run::run(start, self.context.clone()));
        }
        Ok(())
    }

    fn is_elsewhere(&self, start: &Start) -> bool {
        start.runner.as_ref().is_some_and(|runner| runner.runs_elsewhere())
    }

    /// Writes what is decided about `events` in one transaction. On an error nothing of it is in the database.
    fn write(
        &mut self,
        events: &mut impl Iterator<Item = Event>,
        done: &mut Vec<(Event, Outcome)>,
        starts: &mut Vec<Start>,
    ) -> rusqlite::Result<()> {
        self.refresh()?;
        let changes = self.db.total_changes();
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        self.admit(starts)?;
        for event in events {
            match self.guarded(|keeper| keeper.apply(&event, starts)) {
                Ok(outcome) => done.push((event, outcome)),
                // The transaction goes on: this event alone could not be written.
                Err(error) if !self.db.is_autocommit() => {
                    if !std::mem::replace(&mut self.failing_alone, true) {
                        tracing::error!(place = event.place(), %error,
                            "what became of a task cannot be written; trying until it can");
                    }
                    self.fail(event, &error);
                }
                Err(error) => {
                    self.fail(event, &error);
                    return Err(error);
                }
            }
            self.admit(starts)?;
        }
        self.db.execute_batch("COMMIT")?;
        let retries = done.iter().filter(|(_, outcome)| matches!(outcome, Outcome::WaitsAgain)).count();
        self.stats.send_modify(|stats| {
            stats.commits += u64::from(self.db.total_changes() != changes);
            stats.retries += retries as u64;
        });
        Ok(())
    }

    /// Does something in a savepoint of its own.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.db.prepare_cached("SAVEPOINT one")?.execute([])?;
        let outcome = act(self);
        // SQLite itself may have given up the whole transaction, on a full disk for one; nothing is left to undo then.
        if outcome.is_err() && !self.db.is_autocommit() {
            self.savepoint("ROLLBACK TO one")?;
        }
        if !self.db.is_autocommit() {
            self.savepoint("RELEASE one")?;
        }
        outcome
    }

    /// Ends a savepoint. Where that fails nobody knows what the transaction holds, and it is given up.
    fn savepoint(&self, sql: &str) -> rusqlite::Result<()> {
        let ended = self.db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        if ended.is_err() {
            self.roll_back();
        }
        ended.map(drop)
    }

    /// Makes the board anew where it holds what a failed commit has undone.
    fn refresh(&mut self) -> rusqlite::Result<()> {
        if self.stale {
            self.board.reload(store::unfinished(&self.db, &self.registry)?.tasks, self.clock.now());
            self.leave_out();
            self.vault.keep_only(&self.board.ids());
            self.stale = false;
        }
        Ok(())
    }

    /// Undoes a turn. A disk that fails at reading too leaves the board stale, and the next turn tries again.
    fn undo(&mut self) {
        self.roll_back();
        self.stale = true;
        if let Err(error) = self.refresh() {
            tracing::error!(%error, "the database cannot be read");
        }
    }

    fn roll_back(&self) {
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }

    /// Whether an unwritten event is about a task that counts as running because of it.
    fn holds_slot(&self, event: &Event) -> bool {
        match event {
            Event::Ended(ending) => self.board.has_slot(&ending.task.id),
            Event::Retry(retrying) => self.board.has_slot(&retrying.ending.task.id),
            Event::PutBack { id, .. } => self.board.has_slot(id),
            _ => false,
        }
    }

    /// Tells the numbers.
    pub(crate) fn publish(&self) {
        let unwritten = self.unwritten.iter().filter(|event| self.holds_slot(event)).count();
        self.stats.send_modify(|stats| {
            stats.queued = self.board.queued();
            stats.running = self.board.running();
            stats.elsewhere = self.board.elsewhere();
            stats.unwritten = unwritten;
        });
        let awaited = self.board.awaited();
        self.awaited.send_if_modified(|told| {
            let is_new = *told != awaited;
            *told = awaited;
            is_new
        });
    }

    /// The last words: what could not be written is named, and the write-ahead log is copied into the database.
    fn close(&mut self) {
        for event in &self.unwritten {
            let ending = match event {
                Event::Ended(ending) => ending,
                Event::Retry(retrying) => {
                    tracing::error!(task_id = %retrying.ending.task.id,
                        "that this task waits for its next attempt could not be written; the next start finds the one before");
                    continue;
                }
                _ => continue,
            };
            let next_start = match self.keep_record(&ending.task) {
                Ok(()) => "takes it from the task's record",
                Err(_) => "takes the task for interrupted, because its record could not be written either",
            };
            tracing::error!(task_id = %ending.task.id, status = %ending.task.status, next_start,
                "the end of this task could not be written to the database");
        }
        let checkpoint = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = checkpoint {
            tracing::warn!(%error, "the write-ahead log could not be copied into the database; the next start does it");
        }
        self.live.close();
    }
}
