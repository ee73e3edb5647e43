//! What the open tasks ask for, with their secrets, until the task service has it or never will: no longer, and not more of it
//! than there is room for.

use std::collections::HashMap;

use task_service::TaskId;

use crate::assignment::Assignment;

/// Most bytes of assignments that wait for the task service.
const MOST_BYTES: usize = 64 << 20;

/// The assignments of tasks that are to be started.
#[derive(Debug)]
pub(super) struct Assignments {
    /// With the bytes that each of them came in.
    by_task: HashMap<TaskId, (Assignment, usize)>,
    bytes: usize,
    most: usize,
}

impl Default for Assignments {
    fn default() -> Self {
        Self { by_task: HashMap::new(), bytes: 0, most: MOST_BYTES }
    }
}

impl Assignments {
    /// Whether there is room for one more of so many bytes. A single one always has it.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.by_task.is_empty() || self.bytes + bytes <= self.most
    }

    pub(super) fn of(&self, task: &TaskId) -> Option<&Assignment> {
        self.by_task.get(task).map(|(assignment, _)| assignment)
    }

    pub(super) fn keep(&mut self, task: TaskId, assignment: Assignment, bytes: usize) {
        self.let_go_of(&task);
        self.bytes += bytes;
        self.by_task.insert(task, (assignment, bytes));
    }

    pub(super) fn let_go_of(&mut self, task: &TaskId) {
        if let Some((_, bytes)) = self.by_task.remove(task) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use task_service::TaskSpec;

    use super::*;
    use crate::keys::{NodeKeys, Nonce};

    #[test]
    fn there_is_room_for_so_many_bytes_and_again_when_a_task_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let node_key = NodeKeys::open(&folder.path().join("node.key")).unwrap().public();
        let assignment = |id: &str| Assignment {
            node: "node".to_owned(),
            node_key,
            task: id.parse().unwrap(),
            nonce: Nonce::random().unwrap(),
            script_sha256: None,
            spec: TaskSpec::new("a.sh"),
            sealed: Default::default(),
            created_by: "a test".to_owned(),
            not_before: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            accepted: None,
        };
        let mut kept = Assignments { most: 100, ..Default::default() };
        assert!(kept.has_room_for(101), "one always has room");
        for id in ["a", "a", "b"] {
            kept.keep(id.parse().unwrap(), assignment(id), 40);
        }
        assert!(kept.has_room_for(20) && !kept.has_room_for(21));
        kept.let_go_of(&"a".parse().unwrap());
        kept.let_go_of(&"a".parse().unwrap());
        assert!(kept.has_room_for(60) && !kept.has_room_for(61));
    }
}
