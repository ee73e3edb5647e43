//! How a task ended, as the API server is told: by the task service's history, or by the journal where it never began.

use std::sync::Arc;

use task_service::{Attempt, ExecutionResult, Outcome, Recorded, Task, TaskId, TaskService};

use super::event::Verdict;
use super::work::Work;
use crate::link::{Frame, Later, Outgoing};
use crate::message::{Ended, MAX_MESSAGE_BYTES, ToServer, encode};

/// Longest reproduction script that is sent along.
const MAX_DEBUG_SCRIPT_BYTES: usize = 1 << 20;

/// Most bytes of a result that are kept until it is sent; longer ones are read again.
const MAX_KEPT_BYTES: usize = 4 << 10;

/// How a task ended.
#[derive(Debug)]
pub(super) struct How {
    result: ExecutionResult,
    attempts: Vec<Attempt>,
}

impl How {
    /// By the history.
    fn of(task: Task) -> Self {
        match task {
            Task { result: Some(result), attempts, .. } => Self { result: (*result).clone(), attempts },
            _ => Self::from(history_gone()),
        }
    }

    /// The same, where it is short.
    pub(super) fn of_short(task: &Task) -> Option<Box<Self>> {
        let result = task.result.as_ref().filter(|result| is_short(result))?;
        Some(Box::new(Self { result: (**result).clone(), attempts: task.attempts.clone() }))
    }
}

impl From<ExecutionResult> for How {
    fn from(result: ExecutionResult) -> Self {
        Self { result, attempts: Vec::new() }
    }
}

impl Work {
    /// Sends the end of a task, unless the same waits to leave.
    pub(super) fn send_end(&mut self, task: TaskId, log_bytes: u64) {
        let Some((_, line)) = &self.line else { return };
        let known = self.ended.remove(&task);
        let leaving = self.leaving.entry(task.clone()).or_default();
        if leaving.end.upgrade().is_some() {
            return;
        }
        let mut is_never = false;
        let known = match known {
            Some(known) => Some(*known),
            // What cannot be read now is not the end: it is said again.
            None => match self.journal.as_ref().map(|journal| journal.verdict(&task)) {
                Some(Ok(verdict)) => {
                    is_never = verdict.is_some();
                    verdict.map(|verdict| never_started(verdict).into())
                }
                Some(Err(error)) => {
                    tracing::error!(task_id = %task, %error,
                        "whether a task was started cannot be read; its end is told when it can");
                    return;
                }
                None => return,
            },
        };
        let (waits, service, accepted) = (Arc::new(()), self.service.clone(), self.state.accepted(&task));
        leaving.end = Arc::downgrade(&waits);
        let making = async move {
            let _waits = waits;
            let how = match known {
                Some(how) => how,
                None => how(&service, &task).await?,
            };
            // What the history has under the id of a task that never began is another one's.
            let debug_script = if is_never { None } else { debug_script(&service, &task).await };
            let How { result, attempts } = how;
            told(Ended { task, accepted, log_bytes, result, attempts, debug_script }).map(Frame::Control)
        };
        // A line that is gone is made again.
        let _ = line.send(Outgoing::Later(Later::new(making)));
    }
}

/// How a task ended, by the history, or by its record where that does not know it; none where neither can be read: it is said
/// again.
async fn how(service: &TaskService, task: &TaskId) -> Option<How> {
    match service.task(task).await {
        Ok(Some(found)) => Some(How::of(found)),
        Ok(None) => match service.recorded(task).await {
            Ok(Recorded::Ended { result, .. }) => Some(How::from(*result)),
            Ok(_) => Some(How::from(history_gone())),
            Err(_) => None,
        },
        Err(_) => None,
    }
}

/// The end of a task as it travels. One that is too long goes without what is not needed, and else says so.
fn told(mut ended: Ended) -> Option<String> {
    // The end of a log may be lost, or not to be read any more.
    ended.result.log.fit(ended.log_bytes);
    let too_long = result_too_long(&ended.result);
    let mut message = ToServer::Ended(Box::new(ended));
    let shorter: [&dyn Fn(&mut Ended); 3] = [&|_| {}, &|ended| ended.debug_script = None, &|ended| {
        (ended.result, ended.attempts) = (too_long.clone(), Vec::new());
    }];
    for shorten in shorter {
        let ToServer::Ended(ended) = &mut message else { return None };
        shorten(ended);
        let task = ended.task.clone();
        match encode(&message) {
            Ok(text) => return Some(text),
            Err(error) => tracing::warn!(task_id = %task, %error, "the end of a task is told in fewer words"),
        }
    }
    None
}

/// What is told of a task whose result no message can hold.
fn result_too_long(result: &ExecutionResult) -> ExecutionResult {
    let how = result.exit_code.map_or_else(String::new, |code| format!(" with code {code}"));
    let message = format!(
        "the task ended{how}, and its result is longer than a message of {} MiB; its node has it",
        MAX_MESSAGE_BYTES >> 20
    );
    let told = ExecutionResult::without_run(Outcome::Interrupted, "result_too_long", message);
    ExecutionResult { log: result.log.clone(), duration_ms: result.duration_ms, ..told }
}

/// Whether a result is short enough to be kept until it is sent.
fn is_short(result: &ExecutionResult) -> bool {
    let command = result.command.iter().map(String::len);
    let outputs = result.output_params.iter().map(|(name, value)| name.len() + value.len());
    let error = result.error.as_ref().map_or(0, |error| error.message.len());
    command.chain(outputs).sum::<usize>() + error <= MAX_KEPT_BYTES
}

/// The script that reproduces a task, where there is one that is a text of usual length.
async fn debug_script(service: &TaskService, task: &TaskId) -> Option<String> {
    let script = service.debug_script(task).await.ok().flatten()?;
    String::from_utf8(script).ok().filter(|script| script.len() <= MAX_DEBUG_SCRIPT_BYTES)
}

fn never_started(verdict: Verdict) -> ExecutionResult {
    let Verdict { code, message } = verdict;
    let outcome = match code.as_str() {
        super::CANCELLED_BEFORE_START => Outcome::Cancelled,
        "history_gone" => Outcome::Interrupted,
        _ => Outcome::NotStarted,
    };
    ExecutionResult::without_run(outcome, &code, message)
}

fn history_gone() -> ExecutionResult {
    let message = "the node's history does not know how this task ended";
    ExecutionResult::without_run(Outcome::Interrupted, "history_gone", message)
}
