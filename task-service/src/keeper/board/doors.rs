//! Doors: before each stand tasks that wait for something on another agent, until it has room for them. Whoever knows what
//! is there lets them in, the oldest first.

use std::collections::{BTreeMap, BTreeSet};

use task_runners::TaskId;

use super::{Board, Running, Until, Waiting};

/// Who waits before which door.
#[derive(Debug, Default)]
pub(super) struct Doors(BTreeMap<String, BTreeSet<i64>>);

impl Doors {
    pub(super) fn is_waited_at(&self, door: &str) -> bool {
        self.0.contains_key(door)
    }

    pub(super) fn enter(&mut self, door: String, seq: i64) {
        self.0.entry(door).or_default().insert(seq);
    }

    pub(super) fn leave(&mut self, door: &str, seq: i64) {
        if let Some(waiting) = self.0.get_mut(door) {
            waiting.remove(&seq);
            if waiting.is_empty() {
                self.0.remove(door);
            }
        }
    }
}

impl Board {
    /// A running task waits again, because what would carry it out is not there.
    pub(crate) fn put_before(&mut self, door: &str, seq: i64, id: &TaskId) {
        if let Some(Running { places, is_elsewhere, .. }) = self.stop(id) {
            let task = Waiting::new(id.clone(), places, is_elsewhere);
            self.insert(seq, Waiting { door: Some(door.to_owned()), ..task }, Until::LetIn);
        }
    }

    /// Lets so many of those in that wait before a door, the oldest first.
    pub(crate) fn let_in(&mut self, door: &str, most: usize) {
        let waiting = self.doors.0.get(door).into_iter().flatten();
        for seq in waiting.take(most).copied().collect::<Vec<_>>() {
            if let Some(task) = self.take(seq) {
                self.insert(seq, task, Until::Now);
            }
        }
    }

    /// How many wait before each door.
    pub(crate) fn awaited(&self) -> BTreeMap<String, usize> {
        self.doors.0.iter().map(|(door, waiting)| (door.clone(), waiting.len())).collect()
    }
}
