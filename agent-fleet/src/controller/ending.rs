//! The end of a task: log and result are written, its place on the node is free.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use task_runners::{ErrorReport, Mirror};
use task_service::{ExecutionResult, Outcome, TaskId};
use tokio::task::JoinError;

use super::event::Event;
use super::work::{Came, Remote, Work};
use crate::message::Ended;
use crate::node::Verdict;

/// A task whose end was to be written, and whether it is.
pub(super) type Written = (Remote, io::Result<()>);

impl Work {
    /// Begins to end a task as its node says: others go on while it is written. What follows comes by
    /// [`has_finished`](Self::has_finished).
    pub(super) fn begin_to_finish(&mut self, task: TaskId, ended: Ended) -> Result<(), Event> {
        let Some(remote) = self.tasks.remove(&task) else { return Err(log_is_gone(task)) };
        let script = ended.debug_script.map(|script| for_the_node(&self.name, &script));
        let result = remote.own_words(ended.result);
        self.finishing.spawn_blocking(move || write(remote, result, script));
        Ok(())
    }

    /// The end of a task is written, or could not be.
    pub(super) async fn has_finished(&mut self, written: Result<Written, JoinError>) {
        let task = written.as_ref().ok().map(|(remote, _)| remote.order.id.clone());
        let is_done = self.settle(written).is_some();
        // Of one that is not known any more the next start of this agent finds what there is.
        let Some(task) = task else { return };
        let event = if is_done { Event::Finished { task } } else { Event::NotFinished { task } };
        self.on(event, Came::Nothing).await;
    }

    /// Ends a task of which its node says nothing.
    pub(super) async fn finish_as(&mut self, task: TaskId, result: ExecutionResult) -> Result<Event, Event> {
        self.end(task, result, None).await
    }

    async fn end(
        &mut self,
        task: TaskId,
        result: ExecutionResult,
        debug_script: Option<String>,
    ) -> Result<Event, Event> {
        let Some(remote) = self.tasks.get(&task) else { return Err(log_is_gone(task)) };
        let result = remote.own_words(result);
        match self.finished(&task, result, debug_script).await {
            Some(_) => Ok(Event::Finished { task }),
            None => Err(Event::NotFinished { task }),
        }
    }

    /// Writes log and result of a task, and gives the log back; none where they cannot be written, which is tried again.
    pub(super) async fn finished(
        &mut self,
        task: &TaskId,
        result: ExecutionResult,
        debug_script: Option<String>,
    ) -> Option<Mirror> {
        let remote = self.tasks.remove(task)?;
        let written = tokio::task::spawn_blocking(move || write(remote, result, debug_script)).await;
        self.settle(written)
    }

    /// Gives the log back of a task whose end is written; none where it is not.
    fn settle(&mut self, written: Result<Written, JoinError>) -> Option<Mirror> {
        match written {
            Ok((remote, Ok(()))) => {
                self.gives_room(&remote.order.id);
                return Some(remote.mirror);
            }
            Ok((remote, Err(error))) => {
                let task = remote.order.id.clone();
                tracing::error!(task_id = %task, %error, "the end of a node's task cannot be written; trying on");
                self.tasks.insert(task, remote);
            }
            Err(error) => {
                tracing::error!(node = %self.name, %error, "the end of a node's task was not written");
            }
        }
        None
    }

    /// The task has no place on the node any more.
    pub(super) fn gives_room(&self, task: &TaskId) {
        let mut is_less = false;
        self.change_view(|view| is_less = view.tasks.remove(task));
        if is_less {
            self.fleet.room.notify_one();
        }
    }
}

impl Remote {
    /// The result of a node that was asked to end what could not be assigned to it says why that was.
    fn own_words(&self, result: ExecutionResult) -> ExecutionResult {
        match &self.withheld {
            Some(error) if result.outcome == Outcome::Cancelled => {
                let report = ErrorReport { code: error.code().to_owned(), message: error.to_string() };
                ExecutionResult { outcome: Outcome::Interrupted, error: Some(report), ..result }
            }
            _ => result,
        }
    }
}

/// Writes log and result of a task, and gives the task back whatever becomes of that: what is lost with a thread would be ended
/// by nobody.
fn write(mut remote: Remote, result: ExecutionResult, debug_script: Option<String>) -> Written {
    let written = AssertUnwindSafe(|| try_to_write(&mut remote, result, debug_script));
    let finished =
        catch_unwind(written).unwrap_or_else(|_| Err(io::Error::other("its writing has panicked")));
    (remote, finished)
}

/// The same, with the reproduction script where there is one.
fn try_to_write(
    remote: &mut Remote,
    result: ExecutionResult,
    debug_script: Option<String>,
) -> io::Result<()> {
    let kept = debug_script.map(|script| remote.mirror.keep_debug_script(script.as_bytes()));
    if let Some(Err(error)) = kept {
        tracing::warn!(task_id = %remote.order.id, %error, "the reproduction script cannot be kept");
    }
    remote.mirror.finish(result)
}

/// The end of a task that was cancelled in time.
pub(super) fn unheard() -> ExecutionResult {
    let message = "cancelled before the node had heard of it; nothing was started";
    ExecutionResult::without_run(Outcome::Cancelled, "cancelled_unheard", message)
}

/// The end of a task whose node knows nothing of it any more.
pub(super) fn gone() -> ExecutionResult {
    let message = "the node has forgotten this task; whether and how it ran is not known";
    ExecutionResult::without_run(Outcome::Interrupted, "history_gone", message)
}

/// The end of a task in whose place its node has an older one.
pub(super) fn of_before() -> ExecutionResult {
    let Verdict { code, message } = Verdict::of_before();
    ExecutionResult::without_run(Outcome::NotStarted, &code, message)
}

fn log_is_gone(task: TaskId) -> Event {
    tracing::error!(task_id = %task, "the log of a node's task is gone; it is taken up at the next start");
    Event::NotFinished { task }
}

/// A reproduction script of a node as it is kept here: it does nothing for whoever runs it elsewhere by mistake.
fn for_the_node(name: &str, script: &str) -> String {
    let body = script.strip_prefix("#!/bin/sh\n").unwrap_or(script);
    format!(
        r#"#!/bin/sh
# This task ran on the node {name}, and the paths below are those of its host.
if [ "${{TASK_NODE:-}}" != "{name}" ]; then
  echo "debug.sh: run this on the host of the node {name}, as: TASK_NODE={name} sh debug.sh" >&2
  exit 126
fi
{body}"#
    )
}
