//! Whose the open tasks are: a node that was moved to another API server tells that nothing of the tasks of the one before,
//! which would have it forget them, and keeps them for when that is back.

use std::collections::HashMap;

use task_service::TaskId;

use crate::keys::PublicKey;

/// The API servers of the open tasks, by their keys. A task without one is whoever's speaks of it: an older agent has taken it.
#[derive(Debug, Default)]
pub(super) struct Owners {
    of: HashMap<TaskId, PublicKey>,
    /// The one that was connected last.
    connected: Option<PublicKey>,
}

impl Owners {
    /// An API server has let the node in.
    pub(super) fn connected(&mut self, server: PublicKey) {
        self.connected = Some(server);
    }

    /// The journal says whose a task is, or does not.
    pub(super) fn take_up(&mut self, task: TaskId, server: Option<PublicKey>) {
        self.of.extend(server.map(|server| (task, server)));
    }

    /// A task becomes that of whoever is connected, unless it is somebody's; gives whose it is.
    pub(super) fn own(&mut self, task: &TaskId) -> Option<PublicKey> {
        if let (None, Some(server)) = (self.of.get(task), self.connected) {
            self.of.insert(task.clone(), server);
        }
        self.of.get(task).copied()
    }

    pub(super) fn forget(&mut self, task: &TaskId) {
        self.of.remove(task);
    }

    pub(super) fn is_of(&self, task: &TaskId, server: &PublicKey) -> bool {
        self.of.get(task).is_none_or(|owner| owner == server)
    }

    /// Whether a task is that of who was connected last, or nobody's.
    pub(super) fn is_of_connected(&self, task: &TaskId) -> bool {
        self.connected.is_none_or(|server| self.is_of(task, &server))
    }

    /// How many are others'.
    pub(super) fn of_others(&self) -> usize {
        let Some(connected) = self.connected else { return 0 };
        self.of.values().filter(|owner| **owner != connected).count()
    }
}
