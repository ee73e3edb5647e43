//! Runs a script as a supervised process tree and records what it did.

mod banner;
mod callbacks;
mod collect;
mod debug_script;
mod durable;
mod environment;
mod error;
mod execution;
mod executor;
mod folder;
mod instance;
mod launch;
mod log_reader;
mod log_writer;
mod names;
mod output_params;
mod policy;
mod prepare;
mod preview;
mod problem;
mod proc;
mod progress;
mod record;
mod recorder;
mod request;
mod result;
mod run;
mod scope;
mod scratch;
mod script_head;
mod script_source;
mod supervise;
mod sys;
mod task_file;
mod threads;
mod wake;
mod workspace;

pub use environment::{is_refused_variable, is_variable_name};
pub use error::{ScriptFault, StartError};
pub use execution::{Execution, ExecutionDriver};
pub use executor::{BuildError, ScriptExecutor, ScriptExecutorBuilder};
pub use instance::Recovered;
pub use log_reader::LogReader;
pub use names::{NameError, ScriptName, TaskId, WorkspaceName};
pub use output_params::{OutputError, OutputParams, parse as parse_output_params};
pub use policy::Leftovers;
pub use preview::Preview;
pub use problem::Problem;
pub use progress::LogProgress;
pub use record::{DEBUG_FILE, LOG_FILE, RESULT_FILE, Records, TASK_FILE};
pub use recorder::{Completion, Recorder};
pub use request::{ExecuteScriptRequest, LogCallback, Metadata};
pub use result::{
    Confinement, Containment, ErrorReport, ExecutionResult, KillScope, LogSummary, Outcome, Usage,
};
pub use script_source::{ResolvedScript, ScriptFolder, ScriptSource, inspect};
