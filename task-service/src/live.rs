//! The tasks that have not ended, for whoever follows them: in which phase each is, its execution while it runs, and
//! the ended task for those who waited. The keeper changes it only after the database was written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use task_runners::{Execution, Task, TaskId, TaskStatus};
use tokio::sync::{broadcast, watch};

/// Changes that a slow subscriber may be behind before it misses some.
const CHANGES: usize = 1024;
/// More requests for the end than this make no difference: the second one already kills.
const MAX_CANCELS: u32 = 2;

/// A state that a task has reached; it is in the database already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskChange {
    /// The task.
    pub id: TaskId,
    /// The state.
    pub status: TaskStatus,
}

/// Where a task is that has not ended, or has just.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Queued,
    /// Nothing of it runs, and how it ended cannot be read yet.
    Undecided,
    /// Its turn has come; so often was its end asked for meanwhile.
    Starting(u32),
    /// It runs; whether its end was asked for.
    Running { execution: Execution, attempt: u32, cancelled: bool },
    /// It has ended.
    Ended(Arc<Task>),
}

/// What a request for the end met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelling {
    /// The execution was told, or will be as soon as there is one.
    Told,
    /// The task does not run: it waits, has ended, or never was.
    NotRunning,
}

/// The tasks that have not ended.
#[derive(Debug)]
pub(crate) struct Live {
    phases: Mutex<HashMap<TaskId, watch::Sender<Phase>>>,
    changes: broadcast::Sender<TaskChange>,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { phases: Mutex::default(), changes: broadcast::Sender::new(CHANGES) }
    }

    /// Follows every change from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<TaskChange> {
        self.changes.subscribe()
    }

    /// Follows one task; none when it has ended or never was.
    pub(crate) fn follow(&self, id: &TaskId) -> Option<watch::Receiver<Phase>> {
        self.phases().get(id).map(watch::Sender::subscribe)
    }

    /// The task waits, as a new one or again.
    pub(crate) fn queued(&self, id: &TaskId) {
        self.enter(id, Phase::Queued, TaskStatus::Queued);
    }

    /// A task whose turn had come is about to wait again, because nothing was started of it, or for its next attempt:
    /// whether its end was asked for meanwhile. From now on whoever asks for that is sent to the keeper, so that no wish is lost in between.
    pub(crate) fn put_back(&self, id: &TaskId) -> bool {
        let phases = self.phases();
        let Some(phase) = phases.get(id) else { return false };
        let was = phase.send_replace(Phase::Queued);
        matches!(was, Phase::Starting(1..) | Phase::Running { cancelled: true, .. })
    }

    /// How the task of an agent that died ended cannot be read yet. That is nothing new of it to tell.
    pub(crate) fn undecided(&self, id: &TaskId) {
        self.phases().insert(id.clone(), watch::Sender::new(Phase::Undecided));
    }

    /// There is nothing more to follow of a task.
    pub(crate) fn forget(&self, id: &TaskId) {
        self.phases().remove(id);
    }

    /// The task's turn has come.
    pub(crate) fn starting(&self, id: &TaskId) {
        self.enter(id, Phase::Starting(0), TaskStatus::Running);
    }

    /// The task's execution is under way. What was asked of it meanwhile is passed on.
    pub(crate) fn running(&self, id: &TaskId, attempt: u32, execution: &Execution) {
        let phases = self.phases();
        let Some(phase) = phases.get(id) else { return };
        phase.send_modify(|phase| {
            let cancels = if let Phase::Starting(cancels) = *phase { cancels } else { 0 };
            (0..cancels).for_each(|_| execution.cancel());
            *phase = Phase::Running { execution: execution.clone(), attempt, cancelled: cancels > 0 };
        });
    }

    /// The task has ended: its followers get it, and it is forgotten.
    pub(crate) fn ended(&self, task: &Arc<Task>) {
        if let Some(phase) = self.phases().remove(&task.id) {
            phase.send_replace(Phase::Ended(task.clone()));
        }
        self.announce(&task.id, task.status);
    }

    /// Asks for the end of a task that runs or is about to.
    pub(crate) fn cancel(&self, id: &TaskId) -> Cancelling {
        let phases = self.phases();
        let Some(phase) = phases.get(id) else { return Cancelling::NotRunning };
        let mut told = Cancelling::Told;
        phase.send_modify(|phase| match phase {
            Phase::Starting(cancels) => *cancels = (*cancels + 1).min(MAX_CANCELS),
            Phase::Running { execution, cancelled, .. } => {
                *cancelled = true;
                execution.cancel();
            }
            Phase::Queued | Phase::Undecided | Phase::Ended(_) => told = Cancelling::NotRunning,
        });
        told
    }

    /// Asks for the end of every task that runs or is about to, and names them.
    pub(crate) fn cancel_all(&self) -> Vec<TaskId> {
        let mut ids = self.started();
        ids.retain(|id| self.cancel(id) == Cancelling::Told);
        ids
    }

    /// The tasks that run or are about to.
    pub(crate) fn started(&self) -> Vec<TaskId> {
        let phases = self.phases();
        let started = phases
            .iter()
            .filter(|(_, phase)| matches!(*phase.borrow(), Phase::Starting(_) | Phase::Running { .. }));
        started.map(|(id, _)| id.clone()).collect()
    }

    /// Adds to a task read from the database what only its execution knows.
    pub(crate) fn complete(&self, task: &mut Task) {
        if task.status != TaskStatus::Running {
            return;
        }
        if let Some(phase) = self.phases().get(&task.id)
            && let Phase::Running { execution, .. } = &*phase.borrow()
        {
            task.log_bytes = execution.log_progress().bytes;
        }
    }

    /// Forgets all tasks: nothing more will happen to them, and whoever waits is woken.
    pub(crate) fn close(&self) {
        self.phases().clear();
    }

    fn enter(&self, id: &TaskId, phase: Phase, status: TaskStatus) {
        match self.phases().entry(id.clone()) {
            Entry::Occupied(entry) => {
                entry.get().send_replace(phase);
            }
            Entry::Vacant(entry) => {
                entry.insert(watch::Sender::new(phase));
            }
        }
        self.announce(id, status);
    }

    fn announce(&self, id: &TaskId, status: TaskStatus) {
        // It fails only when nobody listens.
        let _ = self.changes.send(TaskChange { id: id.clone(), status });
    }

    fn phases(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<Phase>>> {
        // Nothing in here is left half changed by a panic.
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
