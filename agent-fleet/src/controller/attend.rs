//! Stands between the fleet and the task service: tasks that wait for a node are let go on as soon as one has room, and what
//! is known of where a task runs is noted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use task_runners::Target;
use task_service::TaskService;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::{Fleet, Seat};
use super::runner::Door;

/// A task begins to wait a moment after nobody had room for it: who looks only when there is room may have missed it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most notes that are written together.
const MAX_NOTES: usize = 256;

impl Fleet {
    /// Attends to the tasks of a service, without end.
    pub async fn attend(self, service: TaskService) {
        let to_note = self.inner.to_note.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut to_note) = to_note else { return };
        tokio::spawn(self.clone().remove_left_over(service.clone()));
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notes = Vec::new();
        loop {
            tokio::select! {
                count = to_note.recv_many(&mut notes, MAX_NOTES) => {
                    if count == 0 {
                        return;
                    }
                    service.note(std::mem::take(&mut notes));
                }
                () = self.inner.room.notified() => self.let_in(&service),
                _ = looks.tick() => self.let_in(&service),
            }
        }
    }

    /// Lets as many tasks go on as there is room for.
    fn let_in(&self, service: &TaskService) {
        let (seats, mut taken) = (self.inner.seats(), HashMap::new());
        for (text, waiting) in service.awaited() {
            let most = match serde_json::from_str(&text) {
                Ok(door) => room_behind(&seats, &door, waiting, &mut taken),
                // It says itself what it waits for when it is tried again.
                Err(_) => waiting,
            };
            if most > 0 {
                service.let_in(&text, most);
            }
        }
    }
}

/// For how many of those that wait there is room; `taken` is what was given to others of each node.
pub(super) fn room_behind(
    seats: &BTreeMap<String, Arc<Seat>>,
    door: &Door,
    waiting: usize,
    taken: &mut HashMap<String, usize>,
) -> usize {
    if let Target::Node(name) = &door.target {
        let is_open = seats.get(name).is_some_and(|seat| seat.view().is_open());
        return if is_open { waiting } else { 0 };
    }
    let mut room = 0;
    for (name, seat) in seats {
        let view = seat.view();
        let is_meant = door.target.means(name, &view.facts.labels);
        if room >= waiting || !is_meant || !view.offered.scripts.contains_key(&door.script) {
            continue;
        }
        let taken = taken.entry(name.clone()).or_default();
        let here = view.room().saturating_sub(*taken).min(waiting - room);
        *taken += here;
        room += here;
    }
    room
}
