//! Intents: that a node may hear of a task is written before it does, and removed when the task has ended. What comes
//! together is written together, since each flush takes its time and holds the others up.

use std::io;
use std::sync::{MutexGuard, PoisonError};

use task_service::{TaskId, TaskOrder, TaskService};
use tokio::sync::mpsc;

use super::event::Event;
use super::fleet::{Fleet, Inner};
use super::store::{Accepted, Intent, Intents};
use super::work::{Input, MOST_TOGETHER, Remote, Work};
use crate::keys::Nonce;

impl Work {
    /// Takes what has come. Of tasks that came together the intents are written together.
    pub(super) async fn take_all(&mut self, first: Input, inputs: &mut mpsc::Receiver<Input>) {
        let mut all = vec![first];
        while matches!(all[0], Input::Submit(..))
            && all.len() < MOST_TOGETHER
            && let Ok(input) = inputs.try_recv()
        {
            all.push(input);
        }
        self.write_ahead(&mut all).await;
        for input in all {
            self.take(input).await;
        }
    }

    /// Writes the intents of several tasks in one flush. One alone, or all where that fails, are written in their turn.
    pub(super) async fn write_ahead(&self, inputs: &mut [Input]) {
        let mut remotes: Vec<&mut Remote> = inputs
            .iter_mut()
            .filter_map(|input| match input {
                Input::Submit(remote, _) if !remote.was_handed && remote.withheld.is_none() => {
                    Some(&mut **remote)
                }
                _ => None,
            })
            .collect();
        if remotes.len() < 2 || self.line.is_none() {
            return;
        }
        let tasks = remotes.iter().map(|remote| (remote.accepted(), remote.nonce)).collect();
        let is_written = self.write_intents(tasks).await.is_ok();
        remotes.iter_mut().for_each(|remote| remote.is_written = is_written);
    }

    async fn write_intents(&self, tasks: Vec<(Accepted, Nonce)>) -> Result<(), String> {
        let (fleet, node) = (self.fleet.clone(), self.name.clone());
        let written = tokio::task::spawn_blocking(move || fleet.store().hand_out(&node, &tasks));
        written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Removes the intents of tasks that have ended. Nobody waits for that: what cannot be removed is tried again, and what is
    /// left when this agent stops is removed at its next start.
    pub(super) fn remove_intents(&mut self) {
        let tasks = std::mem::take(&mut self.forgotten);
        if !tasks.is_empty() {
            let fleet = self.fleet.clone();
            drop(tokio::task::spawn_blocking(move || fleet.forget(tasks)));
        }
    }

    /// Has an intent removed with others, soon.
    pub(super) fn forget_intent(&mut self, task: &TaskId) {
        self.forgotten.extend(self.accepted.remove(task));
        if self.forgotten.len() >= MOST_TOGETHER {
            self.remove_intents();
        }
    }

    pub(super) async fn write_handed(&self, task: TaskId) -> Result<(), Event> {
        let Some(remote) = self.tasks.get(&task).filter(|remote| !remote.is_written) else { return Ok(()) };
        let Err(why) = self.write_intents(vec![(remote.accepted(), remote.nonce)]).await else {
            return Ok(());
        };
        tracing::error!(task_id = %task, why, "that a task is handed to its node cannot be written; trying on");
        Err(Event::NotWritten { task })
    }
}

impl Remote {
    /// Which task it is.
    pub(super) fn accepted(&self) -> Accepted {
        Accepted::new(&self.order.id, self.order.created_at)
    }
}

/// Where a task is.
pub(super) enum Whereabouts {
    /// This node may have heard of it.
    Handed(Intent),
    /// Nobody has; these nodes may still have an older task of its id.
    Unheard { shut: Vec<String> },
    /// Somebody may have, and nobody knows who.
    Unknown,
}

impl Inner {
    /// Where a task is, by its intent. That there is none says nothing of a task that was begun before, where what was known
    /// then is lost: such a task goes on at the node that the history names, and nowhere else.
    pub(super) fn whereabouts(&self, order: &TaskOrder) -> io::Result<Whereabouts> {
        let (mut store, accepted) = (self.store(), Accepted::new(&order.id, order.created_at));
        if order.is_taken_up {
            store.complete(&accepted).map_err(io::Error::other)?;
        }
        let Intents { own, older } = store.intents(&accepted).map_err(io::Error::other)?;
        if let Some(intent) = own {
            return Ok(Whereabouts::Handed(intent));
        }
        if !order.is_taken_up || !(store.has_past() || self.has_log(&order.id)) {
            return Ok(Whereabouts::Unheard { shut: older });
        }
        let Some(node) = order.node.clone() else { return Ok(Whereabouts::Unknown) };
        let nonce = Nonce::random().map_err(io::Error::other)?;
        store.hand_out(&node, &[(accepted, nonce)]).map_err(io::Error::other)?;
        Ok(Whereabouts::Handed(Intent { node, nonce, given_up: None }))
    }

    /// Whether something has come of a task's log.
    fn has_log(&self, task: &TaskId) -> bool {
        std::fs::metadata(self.records.log_path(task)).is_ok_and(|log| log.len() > 0)
    }

    fn unforgotten(&self) -> MutexGuard<'_, Vec<Accepted>> {
        self.unforgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes intents, and with them those that could not be removed before.
    fn forget(&self, tasks: Vec<Accepted>) {
        let tasks = [std::mem::take(&mut *self.unforgotten()), tasks].concat();
        if let Err(error) = self.store().forget(&tasks) {
            tracing::warn!(%error, "that tasks were handed to nodes cannot be forgotten; it is tried again");
            self.unforgotten().extend(tasks);
        }
        // Another task of one of these ids may wait for that.
        self.room.notify_one();
    }

    /// The intents whose tasks have ended.
    async fn left_over(&self, service: &TaskService) -> Vec<Accepted> {
        let handed_out = self.store().handed_out().unwrap_or_default();
        let mut left_over = Vec::new();
        for (_, accepted) in handed_out {
            if has_ended(service, &accepted).await {
                left_over.push(accepted);
            }
        }
        left_over
    }
}

/// Whether a task has ended, by what the history says. One that cannot be read says nothing.
pub(super) async fn has_ended(service: &TaskService, accepted: &Accepted) -> bool {
    match service.task(&accepted.task).await {
        Ok(Some(task)) => {
            let is_another = accepted.at != 0 && Accepted::new(&task.id, task.created_at) != *accepted;
            is_another || task.status.is_terminal()
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

impl Fleet {
    /// Removes what an earlier run of this agent has left: intents of tasks that have ended.
    pub(super) async fn remove_left_over(self, service: TaskService) {
        let left_over = self.inner.left_over(&service).await;
        if !left_over.is_empty() {
            // It says itself what does not work.
            let _ = tokio::task::spawn_blocking(move || self.inner.forget(left_over)).await;
        }
    }
}
