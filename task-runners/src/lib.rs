//! Tasks: what may be asked, what was accepted, and the runners that carry it out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`spec`] | the task spec: what is asked, read from JSON with every mistake named at once |
//! | [`secrets`] | values of secret parameters, which nothing writes or shows |
//! | [`task`] | the task: a spec that was accepted, with its state and result |
//! | [`runner`] | the trait of a runner, and what it is handed |
//! | [`retry`] | what is tried again, how often and when |
//! | [`registry`] | the runners by name |
//! | [`scripts`] | the scripts folder, verified or not: where execution and integrity meet |
//! | [`script_runner`] | the runners `script` and `task_debug` |
//! | [`function_runner`] | a runner made of an async function, for embedders |
//! | [`header`] | what a script says of itself: bytes in, a description or all that is wrong out |
//! | [`description`] | what a header declares |
//! | [`catalogue`] | scripts as lists show them |
//! | [`watch`] | sees to it that changes of the scripts folder are known soon |
//! | [`schema`] | parameters as JSON Schema |
//! | [`validate`] | parameters and arguments against a description |
//! | [`refusal`] | why a spec was not accepted, the same words for every front |

mod binding;
pub mod catalogue;
pub mod description;
mod error_chain;
pub mod function_runner;
pub mod header;
mod inventory;
mod outputs;
pub mod refusal;
pub mod registry;
pub mod retry;
pub mod runner;
pub mod schema;
pub mod script_runner;
pub mod scripts;
mod scripts_status;
pub mod secrets;
mod snapshot_source;
pub mod spec;
pub mod task;
pub mod validate;
pub mod watch;

pub use binding::check_remote;
pub use catalogue::{Catalogue, CatalogueChanges, ScriptEntry, script_names};
pub use description::ScriptDescription;
pub use error_chain::error_chain;
pub use executor_core::{
    ATTEMPTS_FOLDER, BuildError, Completion, Containment, ErrorReport, ExecuteScriptRequest, Execution,
    ExecutionDriver, ExecutionResult, ExposeSecret, KillScope, Leftovers, LineMatch, LogMatches, LogProgress,
    LogReader, LogSummary, Metadata, Mirror, NameError, Outcome, Preview, Problem, Problems, RESULT_FILE,
    Recorder, Records, ScriptExecutor, ScriptExecutorBuilder, ScriptName, SearchLimits, SearchPlace,
    SecretString, StartError, TASK_FILE, TaskId, WorkspaceName, folder_bytes, inspect, remove_folder,
};
pub use executor_integrity::{PublicKey, ScriptsSettings, VerificationMode};
pub use function_runner::{FunctionLimits, FunctionRunner, TaskHandle};
pub use refusal::Refusal;
pub use registry::RunnerRegistry;
pub use retry::{RetryKind, RetryPolicy};
pub use runner::{Lane, NODE_RUNNER, Plan, StartFuture, TaskOrder, TaskRunner};
pub use script_runner::{SCRIPT_RUNNER, ScriptRunner, TaskDebugRunner};
pub use scripts::{Scripts, ScriptsStatus};
pub use secrets::Secrets;
pub use spec::{OnBusy, Target, TaskSpec};
pub use task::{Attempt, Task, TaskStatus};
pub use watch::Watch;
