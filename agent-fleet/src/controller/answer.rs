//! What a node is answered that speaks of a task which its desk does not know.

use std::fmt::Display;

use task_service::{Task, TaskId};

use super::work::Input;
use crate::message::{AcceptedAt, are_two};

/// The answer, by what the history has found of the task; none where the task is about to be taken up, or nobody knows: the
/// node says it again.
pub(super) fn answer(
    found: Result<Option<Task>, impl Display>,
    node: &str,
    task: TaskId,
    accepted: AcceptedAt,
) -> Option<Input> {
    match found {
        // The one that it speaks of was forgotten: another has its id by now, wherever that runs.
        Ok(Some(found)) if are_two(Some(found.created_at), accepted) => Some(Input::Over { task, accepted }),
        Ok(Some(found)) if is_of_another(&found, node) => {
            tracing::error!(node, task_id = %task,
                "a node speaks of a task that was not handed to it; nothing was changed");
            Some(Input::Foreign { task })
        }
        Ok(Some(found)) if !found.status.is_terminal() => None,
        Ok(_) => Some(Input::Over { task, accepted }),
        Err(error) => {
            tracing::warn!(task_id = %task, %error, "whether a node's task has ended cannot be read");
            None
        }
    }
}

/// Whether a task that has not ended runs at another node, or here.
fn is_of_another(task: &Task, node: &str) -> bool {
    let is_elsewhere = task.node.as_ref().is_some_and(|owner| owner != node);
    !task.status.is_terminal() && (is_elsewhere || task.spec.target.is_none())
}
