//! Tasks that somebody else still needs: retention leaves them, ended as they may be.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use task_runners::TaskId;

use crate::service::TaskService;

/// Their ids.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeSet<TaskId>>);

impl TaskService {
    /// Keeps retention from removing a task, known by now or not, for as long as this service is open.
    pub fn hold(&self, id: &TaskId) {
        self.inner.held.ids().insert(id.clone());
    }

    /// Lets retention remove a task that was held, when its time has come.
    pub fn let_go_of(&self, id: &TaskId) {
        self.inner.held.ids().remove(id);
    }
}

impl Held {
    pub(crate) fn has(&self, id: &TaskId) -> bool {
        self.ids().contains(id)
    }

    /// All of them, as a statement takes them.
    pub(crate) fn as_json(&self) -> String {
        let ids = self.ids();
        let ids: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
        // Ids have no character that JSON escapes, and a list of them can be written.
        serde_json::to_string(&ids).unwrap_or_else(|_| "[]".to_owned())
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
