//! Tasks: what may be asked, what was accepted, and the runners that carry it out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | the task spec: what is asked, read from JSON with every mistake named at once |
//! | [`task`] | the task: a spec that was accepted, with its state and result |
//! | [`runner`] | the trait of a runner, and what it is handed |
//! | [`registry`] | the runners by name |
//! | [`refusal`] | why a spec was not accepted, the same words for every front |

pub mod refusal;
pub mod registry;
pub mod runner;
pub mod spec;
pub mod task;

pub use executor_core::{
    ErrorReport, Execution, ExecutionDriver, ExecutionResult, LogProgress, LogReader, LogSummary, NameError,
    Outcome, Problem, Records, ScriptName, StartError, TaskId, WorkspaceName,
};
pub use refusal::Refusal;
pub use registry::RunnerRegistry;
pub use runner::{Plan, StartFuture, TaskOrder, TaskRunner};
pub use spec::{OnBusy, TaskSpec};
pub use task::{Task, TaskStatus};
