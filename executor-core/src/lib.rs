//! Runs a script as a supervised process tree and records what it did.
//!
//! An executor is built once, on three folders: scripts that operators put there, workspaces that scripts work in, and
//! a state folder of its own. Everything has a default; a program that embeds the engine says what differs:
//!
//! ```no_run
//! use executor_core::ScriptExecutor;
//!
//! let executor = ScriptExecutor::builder().script_dir("scripts").work_dir("workspace").build()?;
//! # Ok::<(), executor_core::BuildError>(())
//! ```
//!
//! A request names a script by its path below the scripts folder. [`execute`](ScriptExecutor::execute) starts it and
//! waits for its result; it fails only when nothing could be started, so a script that ran and failed is a result:
//!
//! ```no_run
//! # use executor_core::{BuildError, ScriptExecutor, StartError};
//! use executor_core::{ExecuteScriptRequest, Outcome};
//!
//! # async fn run(executor: ScriptExecutor) -> Result<(), StartError> {
//! let result = executor.execute(ExecuteScriptRequest::new("deploy/web.sh").args(["--env", "staging"])).await?;
//! match &result.outcome {
//!     Outcome::Exited { code: 0 } => println!("deployed {:?}", result.output_params.get("VERSION")),
//!     other => println!("{other:?}: {} processes were left", result.leftovers_killed),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`start`](ScriptExecutor::start) gives the [`Execution`] while it goes on: its log can be followed from any offset,
//! any number of times, and it can be cancelled, politely first and at once when asked again. The whole of it, which
//! runs as it stands:
//!
//! ```
//! use std::os::unix::fs::PermissionsExt;
//! use std::time::Duration;
//! use executor_core::{ExecuteScriptRequest, Outcome, ScriptExecutor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let (scripts, root) = (place.path().join("scripts"), place.path());
//! # std::fs::create_dir(&scripts)?;
//! let script = scripts.join("hello.sh");
//! std::fs::write(&script, "#!/bin/sh\necho \"hello $1\"\necho GREETED=$1 > \"$TASK_OUTPUT\"\nexit 7\n")?;
//! std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
//!
//! let executor = ScriptExecutor::builder()
//!     .script_dir(&scripts)
//!     .work_dir(root.join("workspace"))
//!     .state_dir(root.join("state"))
//!     .build()?;
//! let request = ExecuteScriptRequest::new("hello.sh")
//!     .args(["world"])
//!     .timeout(Duration::from_secs(30))
//!     .log_callback(|bytes| print!("{}", bytes.escape_ascii()));
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let result = runtime.block_on(async {
//!     let execution = executor.start(request).await?;
//!     let mut log = execution.log().map_err(Box::<dyn std::error::Error>::from)?;
//!     while !log.wait_beyond(log.progress().bytes).await.is_complete() {}
//!     Ok::<_, Box<dyn std::error::Error>>(execution.wait().await)
//! })?;
//!
//! assert_eq!(result.outcome, Outcome::Exited { code: 7 });
//! assert_eq!(result.output_params["GREETED"], "world");
//! runtime.block_on(executor.close());
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! When there is a result, nothing that the script started is alive; [`Containment`] says how sure that is on this
//! host. It is there 2.5 s after the main process ended at the latest, whoever still holds the output open. The log is
//! what the script wrote, to the byte, in order. The environment, descriptors and signals of a script are made from
//! nothing. A record that was made gets one result, through a crash of the program too: the next executor on the same
//! state folder ends what was left, and says `interrupted`.
//!
//! # Modules
//!
//! | concern | modules |
//! |---|---|
//! | what is asked | `request`, `names`, `policy`, `problem`, `error`, `environment` |
//! | the executor | `builder`, `executor`, `threads`, `instance` (its lock, and recovery after others), `preview` |
//! | the way of an execution | `run`: `prepare`, `task_file`, `launch`, `supervise`, `collect` |
//! | scripts | `script_source`, `script_head` |
//! | folders | `workspace`, `scratch`, `secret_files`, `record`, `attempts`, `raw_text`, `durable`, `folder`, `removal`, `folder_bytes` |
//! | the log | `log_writer`, `banner`, `progress`, `log_reader`, `log_lines`, `log_search`, `callbacks` |
//! | what comes of it | `execution`, `result`, `output_params`, `debug_script`, `recorder` (for what is no script), `mirror` (for what runs elsewhere) |
//! | processes | `scope` (cgroup, marker), `proc`, `sys` (all unsafe code), `wake` |

#[cfg(not(target_os = "linux"))]
compile_error!("this crate needs Linux: pidfds, openat2 and cgroups are what it keeps its promises by");

mod attempts;
mod banner;
mod boot;
mod builder;
mod callbacks;
mod collect;
mod debug_script;
mod durable;
mod environment;
mod error;
mod execution;
mod executor;
mod folder;
mod folder_bytes;
mod instance;
mod launch;
mod log_lines;
mod log_reader;
mod log_search;
mod log_writer;
mod mirror;
mod names;
mod orphans;
mod output_params;
mod policy;
mod prepare;
mod preview;
mod problem;
mod proc;
mod progress;
mod raw_text;
mod record;
mod recorder;
mod removal;
mod request;
mod result;
mod run;
mod scope;
mod scratch;
mod script_head;
mod script_source;
mod secret_files;
mod supervise;
mod sys;
mod task_file;
mod threads;
mod wake;
mod workspace;

pub use attempts::ATTEMPTS_FOLDER;
pub use builder::{BuildError, ScriptExecutorBuilder};
pub use environment::{is_refused_variable, is_variable_name};
pub use error::{ScriptFault, StartError};
pub use execution::{Execution, ExecutionDriver};
pub use executor::ScriptExecutor;
pub use folder_bytes::folder_bytes;
pub use instance::Recovered;
pub use log_reader::LogReader;
pub use log_search::{LineMatch, LogMatches, SearchLimits, SearchPlace};
pub use mirror::Mirror;
pub use names::{NameError, ScriptName, TaskId, WorkspaceName};
pub use output_params::{OutputError, OutputParams, parse as parse_output_params};
pub use policy::Leftovers;
pub use preview::Preview;
pub use problem::{Problem, Problems, join as join_problems};
pub use progress::LogProgress;
pub use record::{DEBUG_FILE, LOG_FILE, RESULT_FILE, Records, TASK_FILE};
pub use recorder::{Completion, Recorder};
pub use removal::remove_folder;
pub use request::{DURATION_EXPECTED, ExecuteScriptRequest, LogCallback, Metadata, OutputCheck};
pub use result::{
    Confinement, Containment, ErrorReport, ExecutionResult, KillScope, LogSummary, Outcome, Usage,
};
pub use script_source::{ResolvedScript, ScriptFolder, ScriptSource, inspect};
pub use secrecy::{ExposeSecret, SecretString};
