//! What a runner is: something that checks a spec and carries a task out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use executor_core::{Execution, StartError, TaskId, WorkspaceName};
use jiff::Timestamp;

use crate::refusal::Refusal;
use crate::retry::RetryPolicy;
use crate::spec::TaskSpec;

/// Name of the runner that hands tasks with a target to nodes, where there is one.
pub const NODE_RUNNER: &str = "node";

/// What [`TaskRunner::start`] gives: an execution under way, or why there is none.
pub type StartFuture<'a> = Pin<Box<dyn Future<Output = Result<Execution, StartError>> + Send + 'a>>;

/// What a runner says about a spec that it would carry out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Digest of the verified snapshot that the task must run from, however long it waits.
    pub pinned: Option<String>,
    /// The shared workspace that nobody else may work in meanwhile.
    pub workspace: Option<WorkspaceName>,
    /// Parameters of the spec whose values are secret.
    pub secrets: Vec<String>,
    /// What bounds how many of its kind run at once, where something does.
    pub lane: Option<Lane>,
    /// What of it is tried again.
    pub retry: RetryPolicy,
    /// What it waits for where that is not there, as [`StartError::Away`] names it. A task does not pass those that wait for
    /// the same.
    pub door: Option<String>,
    /// Whether that is not there now, so that the task is not even tried.
    pub is_shut: bool,
}

/// A bound on the tasks of one name. Those of one lane start in the order in which they were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The name that they share: that of their script.
    pub name: String,
    /// Most of them that run at once.
    pub concurrency: u32,
    /// Most of them that wait; without it the service's queue alone bounds that.
    pub queue: Option<u32>,
}

/// A task whose turn has come.
#[derive(Debug, Clone)]
pub struct TaskOrder {
    /// The task's id.
    pub id: TaskId,
    /// What was asked, as it was accepted.
    pub spec: Arc<TaskSpec>,
    /// The snapshot that was pinned when it was accepted.
    pub pinned: Option<String>,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// Who asked.
    pub created_by: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Since when what carries it out has been out of reach, where it was so when this agent was stopped.
    pub unreachable_since: Option<Timestamp>,
    /// Whether an earlier run of this agent has begun it, so that it may run elsewhere by now.
    pub is_taken_up: bool,
    /// The node that it runs on, or is to run on, as far as the history knows.
    pub node: Option<String>,
}

/// A named way to do a task. Embedders register their own beside those that come with the agent.
pub trait TaskRunner: Send + Sync + 'static {
    /// The name in task specs. It has neither dot nor slash, as few scripts' names have; a script of the same name can still
    /// be run by the runner `script`.
    fn name(&self) -> &str;

    /// One sentence for lists.
    fn description(&self) -> &str;

    /// Checks a spec without running anything.
    ///
    /// # Errors
    /// Every mistake in the spec at once, or why it cannot be accepted now.
    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal>;

    /// Starts an accepted task.
    ///
    /// # Errors
    /// When nothing could be started; what ran and failed is a result.
    fn start(&self, order: TaskOrder) -> StartFuture<'_>;

    /// Whether its tasks run on other agents. Such a task takes none of this agent's slots, is not ended by its stop, and is
    /// started again after it: [`start`](Self::start) then takes up what it has begun before.
    fn runs_elsewhere(&self) -> bool {
        false
    }
}
