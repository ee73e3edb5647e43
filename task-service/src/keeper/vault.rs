//! The values of secret parameters of tasks that have not ended. They are nowhere else: rows, records and answers hold the
//! names only, so that they are gone with this process.

use std::collections::HashMap;

use task_runners::{Secrets, TaskId};

/// Secrets by task.
#[derive(Debug, Default)]
pub(crate) struct Vault(HashMap<TaskId, Secrets>);

impl Vault {
    /// Keeps the values for a task that was accepted, if it has any.
    pub(super) fn keep(&mut self, id: &TaskId, secrets: &Secrets) {
        if !secrets.is_empty() {
            self.0.insert(id.clone(), secrets.clone());
        }
    }

    /// The values for a task that is about to start; they stay, since it may be put back.
    pub(super) fn of(&self, id: &TaskId) -> Secrets {
        self.0.get(id).cloned().unwrap_or_default()
    }

    /// Drops the values of a task that has ended.
    pub(super) fn forget(&mut self, id: &TaskId) {
        self.0.remove(id);
    }

    /// Drops the values of all other tasks: those whose acceptance was undone.
    pub(super) fn keep_only(&mut self, is_open: impl Fn(&TaskId) -> bool) {
        self.0.retain(|id, _| is_open(id));
    }
}
