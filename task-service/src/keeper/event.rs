//! What the keeper is told, by callers and by running tasks.

use jiff::Timestamp;
use task_runners::{Task, TaskId, TaskStatus};
use tokio::sync::oneshot;

use crate::store::{Forgotten, NewTask};
use crate::submit::{SubmitError, Submitted};

/// Something that happened or is asked for. Whoever asked holds the other end of `answer`; it may have gone away.
#[derive(Debug)]
pub(crate) enum Event {
    /// A checked task asks to be accepted.
    Submit { new: Box<NewTask>, answer: oneshot::Sender<Result<Submitted, SubmitError>> },
    /// A task has ended.
    Ended(Box<Ending>),
    /// Nothing was started of a task, because its shared workspace is in use outside this service; whether its end was
    /// asked for meanwhile.
    PutBack { seq: i64, id: TaskId, cancelled: bool },
    /// A waiting task shall not start.
    Cancel { id: TaskId, answer: oneshot::Sender<CancelAnswer> },
    /// Some of the tasks that ended before a time shall be forgotten.
    Forget { before: Timestamp, answer: oneshot::Sender<Result<Forgotten, String>> },
    /// No task shall start any more.
    Drain { answer: oneshot::Sender<()> },
    /// The keeper shall end: now when somebody waits for the answer, otherwise when no task runs.
    Close { answer: Option<oneshot::Sender<()>> },
    /// The runtime that watched a running task was shut down; how the task ends is found at the next start.
    Unwatched { id: TaskId },
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
    /// Whether its record may lack the result, so that the keeper writes it there too.
    pub(crate) unrecorded: bool,
}

/// What became of a wish to cancel a waiting task.
#[derive(Debug)]
pub(crate) enum CancelAnswer {
    /// It was cancelled.
    Done(Task),
    /// It runs, or is about to.
    Running,
    /// It has ended.
    Ended(TaskStatus),
    /// There is no such task.
    NotFound,
    /// The database could not be written.
    Unavailable(String),
}
