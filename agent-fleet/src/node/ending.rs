//! How a task ended, as the API server is told: by the task service's history, or by the journal where it never began.

use task_service::{Attempt, ExecutionResult, Outcome, Task, TaskId, TaskService};

use super::event::Verdict;
use super::work::Work;
use crate::message::{Ended, ToServer};

/// Longest reproduction script that is sent along.
const MAX_DEBUG_SCRIPT_BYTES: usize = 1 << 20;

impl Work {
    /// Sends the end of a task.
    pub(super) async fn send_end(&mut self, task: TaskId, log_bytes: u64) {
        let known = self.ended.remove(&task);
        let verdict = match known {
            Some(_) => None,
            None => self.journal.as_ref().and_then(|journal| journal.verdict(&task).ok().flatten()),
        };
        let is_never = verdict.is_some();
        let (mut result, attempts) = match (verdict, known) {
            (Some(verdict), _) => (never_started(verdict), Vec::new()),
            (None, Some(task)) => how(Some(task)),
            (None, None) => match self.service.task(&task).await {
                Ok(found) => how(found),
                // It is said again.
                Err(_) => return,
            },
        };
        // The end of a log may be lost, or not to be read any more.
        result.log.fit(log_bytes);
        // What the history has under the id of a task that never began is another one's.
        let debug_script = if is_never { None } else { debug_script(&self.service, &task).await };
        self.say(&ToServer::Ended(Box::new(Ended { task, log_bytes, result, attempts, debug_script })));
    }
}

/// The script that reproduces a task, where there is one that is a text of usual length.
async fn debug_script(service: &TaskService, task: &TaskId) -> Option<String> {
    let script = service.debug_script(task).await.ok().flatten()?;
    String::from_utf8(script).ok().filter(|script| script.len() <= MAX_DEBUG_SCRIPT_BYTES)
}

/// What came of a task, by the history.
fn how(task: Option<Task>) -> (ExecutionResult, Vec<Attempt>) {
    match task {
        Some(Task { result: Some(result), attempts, .. }) => ((*result).clone(), attempts),
        _ => (history_gone(), Vec::new()),
    }
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
