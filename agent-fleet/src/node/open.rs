//! What the state machine knows of one task that is not settled.

use task_service::TaskId;

use super::event::{Action, Verdict};
use crate::keys::Nonce;
use crate::message::{AcceptedAt, OTHER_ASSIGNMENT, SETTLED_BEFORE, ToServer, are_two};

/// How far a task has come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the journal, and what it asks for is not here any more.
    Wanted,
    /// The task service could not take it yet.
    Waiting,
    /// Handed to the task service, which has not answered.
    Starting,
    /// The task service has it.
    Running { header_bytes: u64 },
    /// It has ended, or is never started.
    Ended,
}

/// What is to be written about a task that was written before: it is tried until it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owed {
    Never(Verdict),
    Settled,
}

/// A task that is not settled.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) stage: Stage,
    /// Whether nothing of it is in the journal yet, and what is to be.
    pub(super) is_new: bool,
    pub(super) owed: Option<Owed>,
    pub(super) nonce: Option<Nonce>,
    /// Which of the tasks of its id it is.
    pub(super) accepted: AcceptedAt,
    /// Its place among those that the task service could not take yet.
    pub(super) turn: Option<u64>,
    /// How often its end was asked for, and how often the task service was told.
    pub(super) cancels: u32,
    pub(super) cancelled: u32,
    /// Where the script's output ends in its log, once that is known.
    pub(super) body_end: Option<u64>,
    /// Length of its log here.
    pub(super) log: u64,
    /// How much of it the API server holds.
    pub(super) held: u64,
    /// What is sent next.
    pub(super) next: u64,
    pub(super) is_end_sent: bool,
    /// Whether what was sent of the log may not have been read; whether it waits for the next tick, and how often it did
    /// behind its end.
    pub(super) is_doubted: bool,
    pub(super) is_stuck: bool,
    pub(super) tries: u32,
    /// Ticks since something about it was answered, and at which of them it is repeated.
    pub(super) silence: u32,
    pub(super) repeat_at: u32,
}

impl Open {
    /// Of which nothing has happened yet.
    pub(super) fn new(stage: Stage, nonce: Option<Nonce>, accepted: AcceptedAt) -> Self {
        let (cancels, cancelled, silence, repeat_at) = (0, 0, 0, 1);
        let (log, held, next, is_end_sent) = (0, 0, 0, false);
        let (is_new, owed, is_doubted, is_stuck, tries) = (true, None, false, false, 0);
        Self {
            stage,
            is_new,
            owed,
            nonce,
            accepted,
            turn: None,
            cancels,
            cancelled,
            body_end: None,
            log,
            held,
            next,
            is_end_sent,
            is_doubted,
            is_stuck,
            tries,
            silence,
            repeat_at,
        }
    }

    /// Has that written which is owed.
    pub(super) fn write(&self, task: &TaskId, todo: &mut Vec<Action>) {
        let task = task.clone();
        match self.owed.clone() {
            Some(Owed::Never(verdict)) => todo.push(Action::JournalNever { task, verdict }),
            Some(Owed::Settled) => todo.push(Action::JournalSettled { task }),
            None => {}
        }
    }

    /// Whether that is known to be another task than this one.
    pub(super) fn is_another(&self, accepted: AcceptedAt) -> bool {
        are_two(self.accepted, accepted)
    }

    /// What is said of a task that is in the journal.
    pub(super) fn taken(&self, task: &TaskId) -> Action {
        Action::Send(ToServer::Taken { task: task.clone(), accepted: self.accepted })
    }

    /// What is said of a task that runs.
    pub(super) fn started(&self, task: &TaskId) -> Option<Action> {
        let Stage::Running { header_bytes } = self.stage else { return None };
        let (task, body_end, accepted) = (task.clone(), self.body_end, self.accepted);
        Some(Action::Send(ToServer::Started { task, header_bytes, body_end, accepted }))
    }

    /// What was sent behind this place has to be sent again, and the end behind it.
    pub(super) fn go_back_to(&mut self, held: u64) {
        // That may be behind the end: at the start the log's length is not known yet.
        (self.held, self.next) = (held, held);
        self.is_end_sent = false;
    }

    /// What was said of it was heard.
    pub(super) fn answered(&mut self) {
        (self.silence, self.repeat_at) = (0, 1);
    }

    /// Tells the task service how often the end was asked for.
    pub(super) fn pass_cancels_on(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        while self.cancelled < self.cancels {
            self.cancelled += 1;
            todo.push(Action::Cancel { task: task.clone() });
        }
    }
}

/// Says that a task is over.
pub(super) fn settled_before(task: TaskId, accepted: AcceptedAt) -> Action {
    complaint(task, accepted, SETTLED_BEFORE, "this task was settled before; it is not started again")
}

/// Says that another one is in the place of a task.
pub(super) fn other_assignment(task: TaskId, open: &Open) -> Action {
    let message = "another assignment of this id is in the journal; this one was dropped";
    complaint(task, open.accepted, OTHER_ASSIGNMENT, message)
}

fn complaint(task: TaskId, accepted: AcceptedAt, code: &str, message: &str) -> Action {
    let (task, code, message) = (Some(task), code.to_owned(), message.to_owned());
    Action::Send(ToServer::Complaint { task, accepted, code, message })
}
