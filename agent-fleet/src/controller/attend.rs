//! Stands between the fleet and the task service: tasks that wait for a node are let go on as soon as one has room, and what
//! is known of where a task runs is noted.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use task_service::TaskService;
use tokio::time::{MissedTickBehavior, interval};

use super::door::room_behind;
use super::fleet::Fleet;

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
