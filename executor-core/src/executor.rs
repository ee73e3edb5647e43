//! The executor: what it is asked for, and the table of what it runs.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::builder::{ScriptExecutorBuilder, Settings};
use crate::environment::Account;
use crate::error::StartError;
use crate::execution::Execution;
use crate::instance::{self, Instance, Recovered};
use crate::names::TaskId;
use crate::orphans::Children;
use crate::preview::{self, Preview};
use crate::problem::Problem;
use crate::record::Records;
use crate::request::ExecuteScriptRequest;
use crate::result::{ExecutionResult, KillScope};
use crate::run;
use crate::scope::CgroupPool;
use crate::scratch::{self, ScratchRoot};
use crate::script_source::{ResolvedScript, ScriptSource};
use crate::threads::Threads;
use crate::workspace::Workspaces;

/// The variable whose value marks an execution's processes: the path of its `output.env`, which no other has.
pub(crate) const MARK_VARIABLE: &str = "TASK_OUTPUT";

/// Starts scripts and watches them. Clones are handles of the same executor; the last one that goes, with no
/// execution under way, takes its scratch folder and cgroups along.
#[derive(Clone)]
pub struct ScriptExecutor {
    inner: Arc<Inner>,
}

/// Everything that executions share.
pub(crate) struct Inner {
    // Dropped first: the instance's file goes last of what a recovery would need, so it stands last below.
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<Threads>,
    pub(crate) source: Arc<dyn ScriptSource>,
    pub(crate) account: Account,
    pub(crate) workspaces: Workspaces,
    pub(crate) records: Records,
    pub(crate) running: Mutex<BTreeMap<TaskId, Execution>>,
    /// How many executions threads are at work for, the removal of what they leave behind included.
    pub(crate) under_way: Arc<watch::Sender<usize>>,
    pub(crate) cgroups: Option<Arc<CgroupPool>>,
    pub(crate) scratch: ScratchRoot,
    pub(crate) instance: Instance,
    /// The agent's own peak of memory when it was last looked at, KiB.
    pub(crate) own_peak_kib: AtomicU64,
    pub(crate) children: Arc<Children>,
}

impl ScriptExecutor {
    /// A builder with the defaults: folders `scripts`, `workspace` and `state` of the current folder, an hour for
    /// a script, ten seconds between TERM and KILL, logs of 1 GiB at most, leftovers killed.
    pub fn builder() -> ScriptExecutorBuilder {
        ScriptExecutorBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Starts a script. Returns once it runs; the handle tells the rest.
    ///
    /// # Errors
    /// When nothing was started: the request is wrong, the script is not there or cannot be executed, or the host
    /// does not let the agent do what it needs. Where a record was made already, it holds a result that says so.
    pub async fn start(&self, request: ExecuteScriptRequest) -> Result<Execution, StartError> {
        run::start(self.inner.clone(), request).await
    }

    /// The same, of a request that is made on the execution's own thread: what makes it may read the disk.
    ///
    /// # Errors
    /// As [`start`](Self::start), and those of `make`.
    pub async fn start_with(
        &self,
        make: impl FnOnce() -> Result<ExecuteScriptRequest, StartError> + Send + 'static,
    ) -> Result<Execution, StartError> {
        run::start_with(self.inner.clone(), make).await
    }

    /// Starts a script and waits for its result. A script that ran and failed is a result, not an error.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn execute(&self, request: ExecuteScriptRequest) -> Result<Arc<ExecutionResult>, StartError> {
        run::execute(self.inner.clone(), request).await
    }

    /// Checks a request against the rules and this executor's limits, without looking for its script.
    ///
    /// # Errors
    /// Every mistake, in the order of the fields.
    pub fn check_request(&self, request: &ExecuteScriptRequest) -> Result<(), Vec<Problem>> {
        match run::checked(&self.inner, request) {
            Err(StartError::Invalid(problems)) => Err(problems),
            _ => Ok(()),
        }
    }

    /// Checks a request, and that its script is there and can be executed, without making or starting anything.
    /// Reads the script's file: asynchronous callers run it on a thread for blocking work.
    ///
    /// # Errors
    /// As [`start`](Self::start), as far as it can be known before.
    pub fn check(&self, request: &ExecuteScriptRequest) -> Result<ResolvedScript, StartError> {
        run::check(&self.inner, request)
    }

    /// What would be executed for a request, without making or starting anything.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn preview(&self, request: &ExecuteScriptRequest) -> Result<Preview, StartError> {
        preview::preview(&self.inner, request)
    }

    /// The executions under way, by task id.
    pub fn running(&self) -> Vec<Execution> {
        self.inner.running().values().cloned().collect()
    }

    /// The execution of that task, if it is under way.
    pub fn find(&self, id: &TaskId) -> Option<Execution> {
        self.inner.running().get(id).cloned()
    }

    /// Cleans up after agents that died on this state folder: kills what they left running and gives each task
    /// that they were running a result. What live agents run is not touched.
    ///
    /// # Errors
    /// When the folder that tells of them cannot be read.
    pub fn recover(&self) -> io::Result<Vec<Recovered>> {
        let Settings { scratch_dir, runtime_dir, state_dir, .. } = &self.inner.settings;
        let places = scratch::places(scratch_dir.as_deref(), runtime_dir.as_deref(), state_dir);
        instance::recover(state_dir, &self.inner.records, &places)
    }

    /// Waits until no execution is under way and what they leave behind them is removed; with the last handle the
    /// executor's own scratch folder and cgroups go as well. A program that ends right after a result should wait for
    /// this: what it leaves otherwise is cleaned up by the next executor on the same state folder.
    pub async fn close(self) {
        let mut under_way = self.inner.under_way.subscribe();
        // The sender lives in `self`, so waiting ends by the condition alone.
        let _ = under_way.wait_for(|&count| count == 0).await;
    }

    /// The records below this executor's state folder.
    pub fn records(&self) -> &Records {
        &self.inner.records
    }

    /// The kill scope that was found to work on this host.
    pub fn kill_scope(&self) -> KillScope {
        if self.inner.cgroups.is_some() { KillScope::Cgroup } else { KillScope::Marker }
    }
}

impl Inner {
    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeMap<TaskId, Execution>> {
        // The table is whole between any two of its calls.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ScriptExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptExecutor").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
