//! The values of secret parameters of tasks that have not ended. They are nowhere else: rows, records and answers hold the
//! names only, so that they are gone with this process.

use std::collections::{HashMap, HashSet};

use task_runners::{ExposeSecret, Secrets, TaskId};

/// Most bytes of all values: the queue may hold ten thousand tasks, each with a secret of 1 MiB, and unlike all else that
/// waits these are in memory.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Secrets by task.
#[derive(Debug, Default)]
pub(crate) struct Vault {
    secrets: HashMap<TaskId, Secrets>,
    /// Length of all values.
    bytes: usize,
}

impl Vault {
    /// Whether these values can be kept beside the others.
    pub(super) fn has_room_for(&self, secrets: &Secrets) -> bool {
        secrets.is_empty() || self.bytes + bytes(secrets) <= MAX_BYTES
    }

    /// Keeps the values for a task that was accepted, if it has any.
    pub(super) fn keep(&mut self, id: &TaskId, secrets: &Secrets) {
        if !secrets.is_empty() {
            self.bytes += bytes(secrets);
            self.secrets.insert(id.clone(), secrets.clone());
        }
    }

    /// The values for a task that is about to start; they stay, since it may be put back.
    pub(super) fn of(&self, id: &TaskId) -> Secrets {
        self.secrets.get(id).cloned().unwrap_or_default()
    }

    /// Drops the values of a task that has ended.
    pub(super) fn forget(&mut self, id: &TaskId) {
        self.bytes -= self.secrets.remove(id).as_ref().map_or(0, bytes);
    }

    /// Drops the values of all other tasks: those whose acceptance was undone.
    pub(super) fn keep_only(&mut self, open: &HashSet<&TaskId>) {
        self.secrets.retain(|id, _| open.contains(id));
        self.bytes = self.secrets.values().map(bytes).sum();
    }
}

fn bytes(secrets: &Secrets) -> usize {
    let values = secrets.names().filter_map(|name| secrets.get(name));
    values.map(|value| value.expose_secret().len()).sum()
}
