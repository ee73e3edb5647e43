//! Carries one task out: starts it through its runner, waits for its result, and hands that to the keeper.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::Poll;

use jiff::Timestamp;
use task_runners::{
    Execution, ExecutionResult, OnBusy, Outcome, Records, RetryPolicy, Secrets, StartError, Task, TaskId,
    TaskOrder, TaskRunner, TaskSpec, TaskStatus,
};

use crate::keeper::{Ending, Event, Note, Retrying};
use crate::live::Live;
use crate::search::words_of;

/// The code of a task whose runner is not registered any more.
const RUNNER_GONE: &str = "runner_gone";
/// Codes of reasons why an accepted task is not allowed when its turn comes. Other reasons not to start are failures.
const REJECTIONS: [&str; 5] =
    [RUNNER_GONE, "invalid", "script_not_found", "scripts_unverified", "work_dir_busy"];
/// Codes of a task that was given up by a person or by policy, see [`given_up`].
const ABANDONED: &str = "abandoned";
const UNREACHABLE: &str = "unreachable";

/// A task that is marked as running and now to be started.
pub(crate) struct Start {
    pub(crate) seq: i64,
    pub(crate) task: Task,
    pub(crate) runner_name: String,
    pub(crate) runner: Option<Arc<dyn TaskRunner>>,
    pub(crate) pinned: Option<String>,
    /// The values of its secret parameters.
    pub(crate) secrets: Secrets,
    /// What of it is tried again.
    pub(crate) retry: RetryPolicy,
    /// Whether an earlier run of this agent has begun it.
    pub(crate) is_taken_up: bool,
}

/// What every running task shares.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) live: Arc<Live>,
    pub(crate) records: Records,
    pub(crate) events: Sender<Event>,
}

/// What came of an attempt to start a task.
enum Begun {
    /// It runs.
    Runs(Execution),
    /// It never ran, and this is its result.
    Never(Arc<ExecutionResult>),
    /// It never ran, and may later; before which door it waits, if before one.
    NotYet(Option<String>),
}

/// Carries a task out, from its start to its result.
pub(crate) async fn run(mut start: Start, context: Context) {
    let watch = Watch { seq: start.seq, task: start.task.clone(), context: &context, done: false };
    let event = match begin(&start).await {
        Begun::Runs(execution) => {
            note_node(&mut start, &execution, &context);
            context.live.running(&start.task.id, start.task.attempt, &execution);
            let result = execution.wait().await;
            after_attempt(start, &context.records, result).await
        }
        Begun::Never(result) => {
            record(&context.records, &start.task.id, result.clone()).await;
            after_attempt(start, &context.records, result).await
        }
        Begun::NotYet(door) => Event::PutBack { seq: start.seq, id: start.task.id, door, cancelled: false },
    };
    watch.done(event);
}

/// Has it noted on which node a task runs, in front of everything that is told of it from now on.
fn note_node(start: &mut Start, execution: &Execution, context: &Context) {
    if let Some(node) = execution.node()
        && start.task.node.as_deref() != Some(node)
    {
        start.task.node = Some(node.to_owned());
        let notes = vec![(start.task.id.clone(), Note::Node(node.to_owned()))];
        // Without a keeper it is noted at the next start.
        let _ = context.events.send(Event::Note { notes });
    }
}

/// What follows an attempt that has ended with this result: another one, or the end of the task. An attempt that cannot
/// be set aside is the last, so that none is lost.
async fn after_attempt(start: Start, records: &Records, result: Arc<ExecutionResult>) -> Event {
    let Start { seq, task, retry, .. } = start;
    if !retry.follows(task.attempt, &result) {
        return Event::Ended(Box::new(ending(seq, task, result)));
    }
    let (records, id, attempt) = (records.clone(), task.id.clone(), task.attempt);
    let retrying = retrying(seq, task, &retry, result.clone());
    let aside = tokio::task::spawn_blocking(move || records.set_aside(&id, attempt, &result));
    match aside.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => Event::Retry(Box::new(retrying)),
        Err(error) => {
            tracing::error!(task_id = %retrying.ending.task.id, attempt, %error,
                "what this attempt left could not be set aside, so that it is the last");
            Event::Ended(Box::new(retrying.ending))
        }
    }
}

/// An attempt of the task in the place `seq` that has ended with this result, with another one to follow.
pub(crate) fn retrying(seq: i64, task: Task, retry: &RetryPolicy, result: Arc<ExecutionResult>) -> Retrying {
    let delay = retry.delay(&task.id, task.attempt);
    Retrying { ending: ending(seq, task, result), delay, cancelled: false }
}

/// The task in the place `seq` with its result, to be written.
pub(crate) fn ending(seq: i64, task: Task, result: Arc<ExecutionResult>) -> Ending {
    let result_json = serde_json::to_string(&*result).unwrap_or_else(|error| {
        // A result has only text, numbers and maps with text as keys: JSON has all of these.
        tracing::error!(task_id = %task.id, %error, "a result could not be written as JSON");
        "null".to_owned()
    });
    let task = Task {
        status: status_of(&result),
        ended_at: Some(Timestamp::now()),
        log_bytes: result.log.bytes,
        result: Some(result),
        ..task
    };
    let is_success = task.result.as_ref().is_some_and(|result| result.success);
    let words = if is_success { Vec::new() } else { words_of(&task) };
    Ending { seq, task, result_json, words, unrecorded: false }
}

/// The terminal state that a result means to the service.
fn status_of(result: &ExecutionResult) -> TaskStatus {
    let code = result.error.as_ref().map(|error| error.code.as_str());
    match (&result.outcome, code) {
        (Outcome::NotStarted, Some(code)) if REJECTIONS.contains(&code) => TaskStatus::Rejected,
        _ if was_given_up(result) => TaskStatus::Lost,
        _ => TaskStatus::of_result(result),
    }
}

/// The result of a task that is given up, by a person or, with none, because what carries it out was out of reach for as
/// long as its spec allows. What becomes of it there nobody knows yet.
pub fn given_up(by: Option<&str>) -> ExecutionResult {
    let (code, why) = match by {
        Some(by) => (ABANDONED, format!("given up by {by}")),
        None => {
            (UNREACHABLE, "given up: its node was away for longer than `unreachable_after` allows".to_owned())
        }
    };
    let message = format!("{why}; whether it still runs on its node is not known");
    ExecutionResult::without_run(Outcome::Interrupted, code, message)
}

/// Whether a result is that of a task which was given up.
pub fn was_given_up(result: &ExecutionResult) -> bool {
    let code = result.error.as_ref().map(|error| error.code.as_str());
    result.outcome == Outcome::Interrupted && matches!(code, Some(ABANDONED | UNREACHABLE))
}

/// Writes a task's result to its record, unless there is one.
///
/// # Errors
/// When the record cannot be read or written.
pub(crate) fn record_here(records: &Records, id: &TaskId, result: &ExecutionResult) -> io::Result<()> {
    match records.read_result(id)? {
        Some(_) => Ok(()),
        None => records.write_result(id, result),
    }
}

/// Does the same for a task of which nothing was started, on a thread that may block.
///
/// The database decides about such a task, so that a record that cannot be written is only reported.
pub(crate) async fn record(records: &Records, id: &TaskId, result: Arc<ExecutionResult>) {
    let (records, task_id) = (records.clone(), id.clone());
    let written = tokio::task::spawn_blocking(move || record_here(&records, &task_id, &result));
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(task_id = %id, %error, "the record could not be written"),
        Err(error) => tracing::warn!(task_id = %id, %error, "the record was not written"),
    }
}

async fn begin(start: &Start) -> Begun {
    let Some(runner) = &start.runner else {
        let message =
            format!("the runner '{}' is not registered any more; nothing was started", start.runner_name);
        return Begun::Never(Arc::new(ExecutionResult::without_run(
            Outcome::NotStarted,
            RUNNER_GONE,
            message,
        )));
    };
    let order = TaskOrder {
        id: start.task.id.clone(),
        spec: with_secrets(start),
        pinned: start.pinned.clone(),
        attempt: start.task.attempt,
        created_by: start.task.created_by.clone(),
        created_at: start.task.created_at,
        unreachable_since: start.task.unreachable_since,
        is_taken_up: start.is_taken_up,
        node: start.task.node.clone(),
    };
    match unless_panics(runner, order).await {
        Some(Ok(execution)) => Begun::Runs(execution),
        Some(Err(error)) => after(&error, start.task.spec.on_busy),
        None => Begun::Never(Arc::new(ExecutionResult::without_run(
            Outcome::Interrupted,
            "runner_panicked",
            "the runner failed while it started this task; the agent's log shows how",
        ))),
    }
}

/// What was asked, with the values that the row does not hold.
fn with_secrets(start: &Start) -> Arc<TaskSpec> {
    let spec = &start.task.spec;
    match start.secrets.is_empty() {
        true => spec.clone(),
        false => Arc::new(TaskSpec { secrets: start.secrets.clone(), ..(**spec).clone() }),
    }
}

/// Starts a task. A runner that panics gives none: it must not take the watch over its task with it.
async fn unless_panics(
    runner: &Arc<dyn TaskRunner>,
    order: TaskOrder,
) -> Option<Result<Execution, StartError>> {
    let mut starting = catch_unwind(AssertUnwindSafe(|| runner.start(order))).ok()?;
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| starting.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// What becomes of a task that could not be started.
fn after(error: &StartError, on_busy: OnBusy) -> Begun {
    match error {
        StartError::WorkspaceBusy(_) if on_busy == OnBusy::Wait => return Begun::NotYet(None),
        StartError::Away(door) => return Begun::NotYet(Some(door.clone())),
        _ => {}
    }
    Begun::Never(Arc::new(ExecutionResult::without_run(Outcome::NotStarted, error.code(), error.to_string())))
}

/// Tells the keeper when a task is no longer watched, because its runtime was shut down before it ended, or because what
/// watches it failed: then that is its end.
struct Watch<'a> {
    seq: i64,
    task: Task,
    context: &'a Context,
    done: bool,
}

impl Watch<'_> {
    fn done(mut self, event: Event) {
        self.done = true;
        if self.context.events.send(event).is_err() {
            tracing::warn!(task_id = %self.task.id,
                "this task ended after the service had stopped; the next start looks for its result in its record");
        }
    }
}

impl Watch<'_> {
    /// The end of a task whose watch failed. What it still runs is killed, by the second of two wishes.
    fn failed(&self) -> Event {
        for _ in 0..2 {
            self.context.live.cancel(&self.task.id);
        }
        let message = "the agent failed while it watched this task; its log shows how";
        let result = ExecutionResult::without_run(Outcome::Interrupted, "agent_failed", message);
        let ending = ending(self.seq, self.task.clone(), Arc::new(result));
        Event::Ended(Box::new(Ending { unrecorded: true, ..ending }))
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let event = if std::thread::panicking() {
            self.failed()
        } else {
            Event::Unwatched { id: self.task.id.clone() }
        };
        // Without a keeper there is nobody to tell.
        let _ = self.context.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(errno: i32) -> StartError {
        StartError::Host { operation: "start".to_owned(), source: io::Error::from_raw_os_error(errno) }
    }

    #[test]
    fn a_watch_that_fails_is_the_end_of_its_task_and_not_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let (events, told) = std::sync::mpsc::channel();
        let records = Records::open(folder.path()).unwrap();
        let context = Context { live: Arc::new(Live::new()), records, events };
        let fails = |fails: bool| {
            let task =
                serde_json::from_value(serde_json::json!({"id": "t", "name": "x", "spec": {"name": "x"},
                "status": "running", "node": null, "attempt": 1, "attempts": [], "created_by": "tester",
                "created_at": Timestamp::now(), "started_at": null, "ended_at": null, "log_bytes": 0,
                "unreachable_since": null, "result": null}));
            let task = task.unwrap();
            let watch = Watch { seq: 7, task, context: &context, done: false };
            let failed = catch_unwind(AssertUnwindSafe(move || {
                let _watch = watch;
                assert!(!fails, "as the test wanted");
            }));
            assert_eq!(failed.is_err(), fails);
            told.recv().unwrap()
        };
        let Event::Ended(ending) = fails(true) else { panic!("it did not end") };
        assert_eq!((ending.seq, ending.task.status, ending.unrecorded), (7, TaskStatus::Interrupted, true));
        assert!(matches!(fails(false), Event::Unwatched { .. }));
    }

    #[test]
    fn what_could_not_be_started_waits_is_rejected_or_fails() {
        use TaskStatus::{Failed, Rejected};
        let busy = || StartError::WorkspaceBusy("w".to_owned());
        let table = [
            (busy(), OnBusy::Wait, None),
            (busy(), OnBusy::Refuse, Some((Rejected, "work_dir_busy"))),
            (StartError::Unverified("x".to_owned()), OnBusy::Wait, Some((Rejected, "scripts_unverified"))),
            (StartError::Invalid(Vec::new()), OnBusy::Wait, Some((Rejected, "invalid"))),
            (host(24), OnBusy::Wait, Some((Failed, "out_of_descriptors"))),
        ];
        for (error, on_busy, expected) in table {
            let found = match after(&error, on_busy) {
                Begun::Never(result) => Some((status_of(&result), result.error.clone().unwrap().code)),
                _ => None,
            };
            assert_eq!(found, expected.map(|(status, code)| (status, code.to_owned())), "{error}");
        }
    }
}
