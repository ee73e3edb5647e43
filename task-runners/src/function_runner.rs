//! A runner made of an async function: the short way for embedders to register something that is no script.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use executor_core::{Problem, Recorder, Records, StartError};

use crate::refusal::Refusal;
use crate::runner::{Plan, StartFuture, TaskOrder, TaskRunner};
use crate::spec::TaskSpec;

type Work = Arc<dyn Fn(TaskOrder, Recorder) -> WorkFuture + Send + Sync>;
type WorkFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type Check = Arc<dyn Fn(&TaskSpec) -> Vec<Problem> + Send + Sync>;

/// A runner that carries tasks out by an async function. Such a task has log, banners, result and history like any
/// other; see `examples/embedders_runner.rs`.
#[derive(Clone)]
pub struct FunctionRunner {
    name: String,
    description: String,
    records: Records,
    check: Check,
    work: Work,
}

impl FunctionRunner {
    /// A runner of that name. The function gets the order, and a recorder whose
    /// [`finish`](Recorder::finish) ends the task; it runs on the tokio runtime of whoever starts tasks.
    pub fn new<W, F>(name: &str, description: &str, records: Records, work: W) -> Self
    where
        W: Fn(TaskOrder, Recorder) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            records,
            check: Arc::new(|_| Vec::new()),
            work: Arc::new(move |order, recorder| Box::pin(work(order, recorder))),
        }
    }

    /// Checks specs by this function, which names every mistake.
    #[must_use]
    pub fn check_with(mut self, check: impl Fn(&TaskSpec) -> Vec<Problem> + Send + Sync + 'static) -> Self {
        self.check = Arc::new(check);
        self
    }
}

impl TaskRunner for FunctionRunner {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        match (self.check)(spec) {
            problems if problems.is_empty() => Ok(Plan::default()),
            problems => Err(Refusal::Invalid(problems)),
        }
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let begun = Recorder::begin(&self.records, &order.id, &self.name, &order.created_by);
            let (execution, recorder) = begun.map_err(|source| StartError::Host {
                operation: format!("make the record of task {}", order.id),
                source,
            })?;
            // It runs on by itself; whoever wants its result waits on the handle.
            drop(tokio::spawn((self.work)(order, recorder)));
            Ok(execution)
        })
    }
}

impl std::fmt::Debug for FunctionRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionRunner").field("name", &self.name).finish_non_exhaustive()
    }
}
