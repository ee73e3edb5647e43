//! What the keeper is told, by callers and by running tasks.

use std::time::Duration;

use jiff::Timestamp;
use task_runners::{Attempt, Outcome, Task, TaskId, TaskStatus};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::store::NewTask;
use crate::submit::{SubmitError, Submitted};

/// Something that happened or is asked for. Whoever asked holds the other end of `answer`; it may have gone away.
#[derive(Debug)]
pub(crate) enum Event {
    /// A checked task asks to be accepted.
    Submit {
        new: Box<NewTask>,
        answer: oneshot::Sender<Result<Submitted, SubmitError>>,
        /// Given back when it is dealt with.
        place: OwnedSemaphorePermit,
    },
    /// A task has ended.
    Ended(Box<Ending>),
    /// An attempt of a task has ended, was set aside, and another one is to follow.
    Retry(Box<Retrying>),
    /// Nothing was started of a task, because its shared workspace is in use outside this service, or because what would
    /// carry it out is not behind this door; whether its end was asked for meanwhile.
    PutBack { seq: i64, id: TaskId, door: Option<String>, cancelled: bool },
    /// Behind a door there is room for so many tasks.
    LetIn { door: String, most: usize },
    /// What is to be noted of tasks that run elsewhere.
    Note { notes: Vec<(TaskId, Note)> },
    /// The attempt of a task that runs shall be its last, whatever it comes to.
    LastAttempt { id: TaskId, answer: oneshot::Sender<Result<(), String>> },
    /// The clock was moved by hand.
    Tick,
    /// A waiting task shall not start.
    Cancel { id: TaskId, answer: oneshot::Sender<CancelAnswer> },
    /// The tasks in these places shall be forgotten, as far as they have ended. The answer is how many those were.
    Forget { places: Vec<i64>, answer: oneshot::Sender<Result<usize, String>> },
    /// Tasks may start from now on.
    Begin,
    /// No task shall start any more.
    Drain { answer: oneshot::Sender<()> },
    /// The keeper shall end: now when somebody waits for the answer, otherwise when no task runs.
    Close { answer: Option<oneshot::Sender<()>> },
    /// The runtime that watched a running task was shut down; how the task ends is found at the next start.
    Unwatched { id: TaskId },
}

impl Event {
    /// The place of the task whose way it is about; none where it is only asked for something.
    pub(crate) fn place(&self) -> Option<i64> {
        match self {
            Self::Ended(ending) => Some(ending.seq),
            Self::Retry(retrying) => Some(retrying.ending.seq),
            Self::PutBack { seq, .. } => Some(*seq),
            _ => None,
        }
    }
}

/// What is noted of a task that runs elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The node that it runs on.
    Node(String),
    /// Since when that has been out of reach; none where it is not. The earlier time stands.
    Unreachable(Option<Timestamp>),
}

/// A task with its result, to be written.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Its place in the order of acceptance.
    pub(crate) seq: i64,
    /// The task, in its terminal state.
    pub(crate) task: Task,
    /// Its result as JSON.
    pub(crate) result_json: String,
    /// The words by which it is found from now on, where something went wrong; otherwise none that are new.
    pub(crate) words: Vec<String>,
    /// Whether its record may lack the result, so that the keeper writes it there too.
    pub(crate) unrecorded: bool,
}

/// An attempt of a task that has ended, with another one to follow.
#[derive(Debug)]
pub(crate) struct Retrying {
    /// Its end, as that of the task if nothing followed.
    pub(crate) ending: Ending,
    /// How long the next one waits at least.
    pub(crate) delay: Duration,
    /// Whether the end of the task was asked for meanwhile, so that nothing follows.
    pub(crate) cancelled: bool,
}

impl Ending {
    /// The task as it waits for its next attempt.
    pub(crate) fn next(&self) -> Task {
        let task = &self.task;
        let result = task.result.as_deref();
        let ended = Attempt {
            attempt: task.attempt,
            started_at: task.started_at,
            ended_at: task.ended_at,
            outcome: result.map_or(Outcome::Interrupted, |result| result.outcome.clone()),
            exit_code: result.and_then(|result| result.exit_code),
            log_bytes: task.log_bytes,
        };
        Task {
            status: TaskStatus::Queued,
            attempt: task.attempt.saturating_add(1),
            attempts: task.attempts.iter().cloned().chain([ended]).collect(),
            started_at: None,
            ended_at: None,
            log_bytes: 0,
            result: None,
            ..task.clone()
        }
    }
}

/// What became of a wish to cancel a waiting task.
#[derive(Debug)]
pub(crate) enum CancelAnswer {
    /// It was cancelled.
    Done(Box<Task>),
    /// It runs, or is about to.
    Running,
    /// It has ended.
    Ended(TaskStatus),
    /// There is no such task.
    NotFound,
    /// The database could not be written.
    Unavailable(String),
}
