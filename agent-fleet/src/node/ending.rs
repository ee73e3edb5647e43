//! How a task ended, as the API server is told: by the task service's history, or by the journal where it never began.

use task_service::{ExecutionResult, Outcome, Task, TaskId};

use super::event::Verdict;
use super::work::Work;
use crate::message::{Ended, ToServer};

impl Work {
    /// Sends the end of a task.
    pub(super) async fn send_end(&mut self, task: TaskId, log_bytes: u64) {
        let verdict = self.journal.as_ref().and_then(|journal| journal.verdict(&task).ok().flatten());
        let (mut result, attempts) = match verdict {
            Some(verdict) => (never_started(verdict), Vec::new()),
            None => match self.service.task(&task).await {
                Ok(Some(Task { result: Some(result), attempts, .. })) => ((*result).clone(), attempts),
                Ok(_) => (history_gone(), Vec::new()),
                // It is said again.
                Err(_) => return,
            },
        };
        // The end of a log may be lost, or not to be read any more.
        result.log.fit(log_bytes);
        self.say(&ToServer::Ended(Box::new(Ended { task, log_bytes, result, attempts })));
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
