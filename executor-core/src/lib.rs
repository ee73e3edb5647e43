//! Runs a script as a supervised process tree and records what it did.

mod durable;
mod error;
mod execution;
mod log_reader;
mod names;
mod policy;
mod problem;
mod progress;
mod record;
mod result;
mod wake;

pub use error::{ScriptFault, StartError};
pub use execution::{Execution, ExecutionDriver};
pub use log_reader::LogReader;
pub use names::{NameError, ScriptName, TaskId, WorkspaceName};
pub use policy::Leftovers;
pub use problem::Problem;
pub use progress::LogProgress;
pub use record::{DEBUG_FILE, LOG_FILE, RESULT_FILE, Records, TASK_FILE};
pub use result::{
    Confinement, Containment, ErrorReport, ExecutionResult, KillScope, LogSummary, Outcome, Usage,
};
