//! Accepts tasks durably and idempotently, queues and admits them, runs them through the registered runners,
//! records how they ended, and recovers them after a crash. It is the only owner of history.
//!
//! ```
//! # use task_service::{RunnerRegistry, ServiceSettings, TaskFilter, TaskService};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let settings = ServiceSettings { state_dir: folder.path().to_owned(), concurrent: 4, queue: 100 };
//! let service = TaskService::open(settings, RunnerRegistry::new()).await?;
//! let page = service.list(TaskFilter::default(), 100, None).await?;
//! assert!(page.tasks.is_empty() && page.next.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `service` | [`TaskService`]: opening, reading one task, waiting for its end |
//! | `submit`, `cancel`, `list`, `log`, `drain` | one operation each, with its errors |
//! | `elsewhere` | what is told of tasks that run on other agents |
//! | `search` | the words by which tasks are found |
//! | `keeper` | the one thread that decides and writes; its queue, slots and locks |
//! | `clock` | the time by which waiting tasks become due |
//! | `run` | carries one task out, from its start to its result |
//! | `live` | the tasks that have not ended, for whoever follows them |
//! | `recorded` | what a record says of a task that the history does not know |
//! | `recovery` | what happens to the tasks of an agent that died |
//! | `retention` | removes what has been kept long enough |
//! | `workspaces` | the same for the folders that tasks worked in |
//! | `steady` | the time by which it goes |
//! | `held` | the tasks that it leaves because somebody else needs them |
//! | `folders` | removes folders of tasks, following no link |
//! | `backup` | copies of a state folder, and what is restored from them |
//! | `store` | the database: schema, rows, queries, damage |

mod backup;
mod cancel;
mod clock;
mod digest;
mod drain;
mod elsewhere;
mod folders;
mod held;
mod keeper;
mod list;
mod live;
mod lock;
mod log;
mod recorded;
mod recovery;
mod retention;
mod run;
mod search;
mod service;
mod settings;
mod steady;
mod store;
mod submit;
mod workspaces;

pub use backup::{Backup, BackupError, back_up, restore};
pub use cancel::CancelError;
pub use clock::{Clock, ManualClock};
pub use drain::DrainReport;
pub use elsewhere::Awaited;
pub use keeper::Note;
pub use list::{Cursor, ParseCursorError, TaskFilter, TaskPage, Visible};
pub use live::TaskChange;
pub use log::{LogError, LogSource, LogWait};
pub use recorded::Recorded;
pub use retention::{CleanUpError, Removed, Retention};
pub use run::{given_up, was_given_up};
pub use search::{ParseSearchError, Search};
pub use service::{OpenError, ReadError, ServiceStats, TaskService};
pub use settings::ServiceSettings;
pub use steady::Steady;
pub use store::StoreError;
pub use submit::{SubmitError, Submitted, WantedPin};
pub use task_runners::{
    Attempt, ErrorReport, Execution, ExecutionDriver, ExecutionResult, KillScope, Lane, LineMatch,
    LogMatches, LogProgress, LogReader, LogSummary, OnBusy, Outcome, Plan, Problem, Records, Refusal,
    RetryKind, RetryPolicy, RunnerRegistry, SearchLimits, SearchPlace, StartError, StartFuture, Task, TaskId,
    TaskOrder, TaskRunner, TaskSpec, TaskStatus, WorkspaceName,
};
