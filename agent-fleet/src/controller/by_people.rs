//! What people have done with nodes and their tasks: a node is drained, a task is given up, and a node that does not come
//! back, or is to come as another one, is forgotten with its key, its labels and what it offers.

use std::sync::Arc;

use task_runners::{Target, TaskSpec};
use task_service::{ReadError, TaskFilter, TaskId, TaskService, TaskStatus};
use tokio::sync::oneshot;

use super::fleet::{Fleet, entry};
use super::intents::has_ended;
use super::store::{GivenUp, StoreError};
use super::view::NodeEntry;
use super::work::Input;

/// Why a node was not told to take tasks, or to take none.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// No node of that name was ever here.
    #[error("there is no node '{0}'; `agent-cli node list` shows those that have connected")]
    NoNode(String),
    /// It cannot be written.
    #[error("whether the node takes tasks cannot be written: {0}; try again later")]
    Unwritten(String),
}

/// Why a task was not given up.
#[derive(Debug, thiserror::Error)]
pub enum AbandonError {
    /// It is not on that node: it has ended, or its end is being written.
    #[error("the task '{0}' is not on its node any more, or ends just now; ask again how it stands")]
    NotThere(TaskId),
    /// It cannot be written.
    #[error("that the task '{0}' is given up cannot be written; the agent's log says why, try again later")]
    Unwritten(TaskId),
}

/// Why a node was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// No node of that name was ever here.
    #[error("there is no node '{0}'; `agent-cli node list` shows those that have connected")]
    NoNode(String),
    /// It would be known again at once.
    #[error(
        "the node '{0}' is connected; stop its agent, or take its token away, and then have it forgotten"
    )]
    Connected(String),
    /// What became of them would never be known, or they would wait for nobody.
    #[error(
        "the node '{node}' has tasks that have not ended, such as '{task}'; cancel them, or give them up, first"
    )]
    HasTasks {
        /// The node.
        node: String,
        /// One of the tasks.
        task: TaskId,
    },
    /// The history cannot be read.
    #[error("whether a node has tasks cannot be read: {0}")]
    Unread(#[from] ReadError),
    /// The database cannot be read or written.
    #[error(transparent)]
    Unwritten(#[from] StoreError),
    /// The thread for that failed.
    #[error("a node was not forgotten: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

impl Fleet {
    /// Has a node take no new tasks, or take them again; what it was handed goes on. It is kept over restarts.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn drain(&self, name: &str, is_draining: bool) -> Result<NodeEntry, DrainError> {
        let seat = self.inner.seat(name).ok_or_else(|| DrainError::NoNode(name.to_owned()))?;
        let (inner, wanted) = (self.inner.clone(), name.to_owned());
        let kept = tokio::task::spawn_blocking(move || inner.store().keep_draining(&wanted, is_draining));
        kept.await
            .map_err(|error| DrainError::Unwritten(error.to_string()))?
            .map_err(|error| DrainError::Unwritten(error.to_string()))?;
        seat.view().is_draining = is_draining;
        self.inner.room.notify_one();
        Ok(entry(name, &seat))
    }

    /// Gives a task up that is on this node: it ends as lost, and its node is to end it as soon as it is back.
    ///
    /// # Errors
    /// See [`AbandonError`].
    pub async fn abandon(&self, node: &str, task: &TaskId, by: &str) -> Result<(), AbandonError> {
        let not_there = || AbandonError::NotThere(task.clone());
        let seat = self.inner.seat(node).ok_or_else(not_there)?;
        let (answer, answered) = oneshot::channel();
        let given_up = GivenUp::By(by.to_owned());
        let input = Input::GiveUp { task: task.clone(), given_up, answer: Some(answer) };
        seat.inputs.send(input).await.map_err(|_| not_there())?;
        answered.await.unwrap_or_else(|_| Err(not_there()))
    }

    /// Forgets a node that is away and has no tasks that have not ended. Whoever comes under its name afterwards is a new
    /// node. A task of it that was given up is not asked for any more.
    ///
    /// # Errors
    /// See [`ForgetError`].
    pub async fn forget(&self, name: &str, service: &TaskService) -> Result<(), ForgetError> {
        if self.inner.seat(name).is_none() {
            return Err(ForgetError::NoNode(name.to_owned()));
        }
        if let Some(task) = self.open_task(name, service).await? {
            return Err(ForgetError::HasTasks { node: name.to_owned(), task });
        }
        let (fleet, wanted) = (self.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || fleet.forget_now(&wanted)).await??;
        tracing::warn!(node = name, "a node is forgotten");
        Ok(())
    }

    /// A task of that node that has not ended, if there is one: also one that was not taken up again since this agent was
    /// started, and one that waits for the node. The intents tell, and the history where they are lost.
    async fn open_task(&self, name: &str, service: &TaskService) -> Result<Option<TaskId>, ForgetError> {
        let inner = self.inner.clone();
        let handed_out = tokio::task::spawn_blocking(move || inner.store().handed_out()).await??;
        for (_, accepted) in handed_out.into_iter().filter(|(node, _)| node == name) {
            if !has_ended(service, &accepted).await {
                return Ok(Some(accepted.task));
            }
        }
        let statuses = vec![TaskStatus::Queued, TaskStatus::Running];
        let open = TaskFilter { statuses, ..TaskFilter::default() };
        let there = TaskFilter { node: Some(name.to_owned()), ..open.clone() };
        if let Some(task) = first(service, &there).await? {
            return Ok(Some(task));
        }
        let name = name.to_owned();
        let names_it = move |spec: &TaskSpec| spec.target.as_ref().and_then(Target::node) == Some(&name);
        first(service, &TaskFilter { visible: Some(Arc::new(names_it)), ..open }).await
    }

    /// Connections get their places, and tasks theirs, under the same locks.
    fn forget_now(&self, name: &str) -> Result<(), ForgetError> {
        let mut store = self.inner.store();
        let removed = {
            let mut seats = self.inner.seats();
            let seat = seats.get(name).ok_or_else(|| ForgetError::NoNode(name.to_owned()))?;
            if Arc::strong_count(&seat.here) > 1 || seat.view().connected.is_some() {
                return Err(ForgetError::Connected(name.to_owned()));
            }
            if let Some(task) = seat.view().tasks.first().cloned() {
                return Err(ForgetError::HasTasks { node: name.to_owned(), task });
            }
            seats.remove(name)
        };
        let forgotten = store.forget_node(name);
        if let (Err(_), Some(seat)) = (&forgotten, removed) {
            // It is known as before.
            self.inner.seats().insert(name.to_owned(), seat);
        }
        Ok(forgotten?)
    }
}

/// A task that is wanted, if there is one.
async fn first(service: &TaskService, wanted: &TaskFilter) -> Result<Option<TaskId>, ForgetError> {
    let mut cursor = None;
    loop {
        let page = service.list(wanted.clone(), 1, cursor).await?;
        match (page.tasks.into_iter().next(), page.next) {
            // A page may be empty although there are more.
            (None, Some(next)) => cursor = Some(next),
            (found, _) => return Ok(found.map(|task| task.id)),
        }
    }
}
