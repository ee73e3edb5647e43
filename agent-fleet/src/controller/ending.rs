//! The end of a task: log and result are written, its place on the node is free.

use task_runners::{ErrorReport, Mirror};
use task_service::{ExecutionResult, Outcome, TaskId};

use super::event::Event;
use super::work::{Remote, Work};
use crate::message::Ended;

impl Work {
    /// Ends a task as its node says.
    pub(super) async fn finish(&mut self, task: TaskId, ended: Ended) -> Result<Event, Event> {
        let script = ended.debug_script.map(|script| for_the_node(&self.name, &script));
        self.end(task, ended.result, script).await
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
        let Some(remote) = self.tasks.get(&task) else {
            tracing::error!(task_id = %task, "the log of a node's task is gone; it is taken up at the next start");
            return Err(Event::NotFinished { task });
        };
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
        let mut remote = self.tasks.remove(task)?;
        let finished = tokio::task::spawn_blocking(move || {
            let kept = debug_script.map(|script| remote.mirror.keep_debug_script(script.as_bytes()));
            if let Some(Err(error)) = kept {
                tracing::warn!(task_id = %remote.order.id, %error, "the reproduction script cannot be kept");
            }
            let finished = remote.mirror.finish(result);
            (remote, finished)
        });
        match finished.await {
            Ok((remote, Ok(()))) => {
                self.gives_room(task);
                return Some(remote.mirror);
            }
            Ok((remote, Err(error))) => {
                tracing::error!(task_id = %task, %error, "the end of a node's task cannot be written; trying on");
                self.tasks.insert(task.clone(), remote);
            }
            Err(error) => {
                tracing::error!(task_id = %task, %error, "the end of a node's task was not written");
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
