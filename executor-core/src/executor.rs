//! The executor: its settings, made by a builder, and the table of what it runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::environment::{self, Account};
use crate::error::StartError;
use crate::execution::Execution;
use crate::instance::{self, Instance, Recovered};
use crate::names::TaskId;
use crate::policy::Leftovers;
use crate::preview::{self, Preview};
use crate::problem::{Problem, join};
use crate::record::Records;
use crate::request::{ExecuteScriptRequest, string_problem};
use crate::result::{ExecutionResult, KillScope};
use crate::run;
use crate::scope::CgroupPool;
use crate::scratch::ScratchRoot;
use crate::script_source::{ResolvedScript, ScriptFolder, ScriptSource};
use crate::sys;
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
}

/// What the builder collects. Its defaults are those of the agent's configuration file.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    script_dir: PathBuf,
    work_dir: PathBuf,
    state_dir: PathBuf,
    scratch_dir: Option<PathBuf>,
    kill_scope: Option<KillScope>,
    pub(crate) node: String,
    pub(crate) path: String,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) default_timeout: Duration,
    pub(crate) max_timeout: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) leftovers: Leftovers,
    pub(crate) max_log_bytes: u64,
    pub(crate) open_files: Option<(u64, u64)>,
}

/// Why no executor could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A folder could not be made or opened.
    #[error("cannot {operation}: {source}")]
    Folder {
        /// What the agent was about to do, with the path.
        operation: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The wanted kill scope is not to be had on this host.
    #[error("the kill scope 'cgroup' is not to be had on this host: {0}")]
    NoCgroup(String),
    /// A setting breaks a rule; all of them are named.
    #[error("the executor's settings are invalid: {}", join(.0))]
    Settings(Vec<Problem>),
    /// The embedding program has told the kernel to forget its children, so that how scripts end cannot be learnt.
    #[error(
        "this process ignores SIGCHLD, so how scripts end cannot be learnt; give the signal its default disposition"
    )]
    ChildrenIgnored,
}

/// Builds a [`ScriptExecutor`].
#[derive(Clone)]
pub struct ScriptExecutorBuilder {
    settings: Settings,
    source: Option<Arc<dyn ScriptSource>>,
}

impl ScriptExecutor {
    /// A builder with the defaults: folders `scripts`, `workspace` and `state` of the current folder, an hour for
    /// a script, ten seconds between TERM and KILL, logs of 1 GiB at most, leftovers killed.
    pub fn builder() -> ScriptExecutorBuilder {
        ScriptExecutorBuilder { settings: Settings::default(), source: None }
    }

    /// Starts a script. Returns once it runs; the handle tells the rest.
    ///
    /// # Errors
    /// When nothing was started: the request is wrong, the script is not there or cannot be executed, or the host
    /// does not let the agent do what it needs. Where a record was made already, it holds a result that says so.
    pub async fn start(&self, request: ExecuteScriptRequest) -> Result<Execution, StartError> {
        run::start(self.inner.clone(), request).await
    }

    /// Starts a script and waits for its result. A script that ran and failed is a result, not an error.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn execute(&self, request: ExecuteScriptRequest) -> Result<Arc<ExecutionResult>, StartError> {
        Ok(self.start(request).await?.wait().await)
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
        instance::recover(&self.inner.settings.state_dir, &self.inner.records)
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

impl Settings {
    /// What scripts get must be what execve(2) can pass.
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        environment::check_names(&self.env, &mut problems);
        problems.extend(string_problem("path", self.path.as_ref()));
        problems.extend(string_problem("node", self.node.as_ref()));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            script_dir: "scripts".into(),
            work_dir: "workspace".into(),
            state_dir: "state".into(),
            scratch_dir: None,
            kill_scope: None,
            node: "devops_agent".to_owned(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            env: Vec::new(),
            default_timeout: Duration::from_secs(60 * 60),
            max_timeout: Duration::from_secs(24 * 60 * 60),
            kill_grace: Duration::from_secs(10),
            leftovers: Leftovers::Kill,
            max_log_bytes: 1 << 30,
            open_files: None,
        }
    }
}

impl ScriptExecutorBuilder {
    /// The folder that scripts are looked up in.
    #[must_use]
    pub fn script_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.script_dir = path.into();
        self
    }

    /// Where scripts come from, instead of a plain folder: the hook for verification.
    #[must_use]
    pub fn script_source(mut self, source: Arc<dyn ScriptSource>) -> Self {
        self.source = Some(source);
        self
    }

    /// The folder that workspaces are made in.
    #[must_use]
    pub fn work_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.work_dir = path.into();
        self
    }

    /// The folder that records are kept in. Several executors may share one.
    #[must_use]
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.state_dir = path.into();
        self
    }

    /// The folder that scratch folders are made in, instead of a memory file system that is looked for.
    #[must_use]
    pub fn scratch_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.scratch_dir = Some(path.into());
        self
    }

    /// Insists on a kill scope, instead of the best one that works. `Cgroup` fails to build where there is none.
    #[must_use]
    pub fn kill_scope(mut self, scope: KillScope) -> Self {
        self.settings.kill_scope = Some(scope);
        self
    }

    /// The name that scripts see as TASK_NODE.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.settings.node = name.into();
        self
    }

    /// The PATH that scripts see.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.settings.path = path.into();
        self
    }

    /// Adds a variable for every script.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.settings.env.push((name.into(), value.into()));
        self
    }

    /// Time limit of requests that name none.
    #[must_use]
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.settings.default_timeout = timeout;
        self
    }

    /// Longest time limit that a request may name.
    #[must_use]
    pub fn max_timeout(mut self, timeout: Duration) -> Self {
        self.settings.max_timeout = timeout;
        self
    }

    /// Time between TERM and KILL.
    #[must_use]
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.settings.kill_grace = grace;
        self
    }

    /// What happens to processes that a script leaves behind.
    #[must_use]
    pub fn leftovers(mut self, leftovers: Leftovers) -> Self {
        self.settings.leftovers = leftovers;
        self
    }

    /// Most bytes of a script's output that are kept.
    #[must_use]
    pub fn max_log_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_log_bytes = bytes;
        self
    }

    /// Soft and hard limit of open files that scripts get, where the embedding program changed its own.
    #[must_use]
    pub fn open_files_limit(mut self, soft: u64, hard: u64) -> Self {
        self.settings.open_files = Some((soft, hard));
        self
    }

    /// Makes the folders, probes what this host offers, and cleans up after agents that died on this state folder.
    ///
    /// # Errors
    /// When a setting breaks a rule, a folder cannot be made, a wanted kill scope is not to be had, or this process
    /// ignores SIGCHLD.
    pub fn build(self) -> Result<ScriptExecutor, BuildError> {
        let mut settings = self.settings;
        settings.check().map_err(BuildError::Settings)?;
        if sys::ignores_children() {
            return Err(BuildError::ChildrenIgnored);
        }
        let records = Records::open(&settings.state_dir);
        let records = records.map_err(failed("make the state folder", &settings.state_dir))?;
        settings.state_dir = settings
            .state_dir
            .canonicalize()
            .map_err(failed("find the state folder", &settings.state_dir))?;
        let records = Records::open(&settings.state_dir).unwrap_or(records);
        let workspaces = Workspaces::open(&settings.work_dir, &settings.state_dir)
            .map_err(failed("make the folder of workspaces", &settings.work_dir))?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let scratch = ScratchRoot::create(settings.scratch_dir.as_deref(), &settings.state_dir, &name)
            .map_err(failed("make a scratch folder below", &settings.state_dir))?;
        let cgroups = probe_cgroups(settings.kill_scope, &name)?;
        let cgroup_path = cgroups.as_ref().map(|pool| pool.path().to_owned());
        let instance = Instance::create(&settings.state_dir, &name, scratch.path(), cgroup_path.as_deref())
            .map_err(failed("enter this agent into", &settings.state_dir))?;
        let source = self.source.unwrap_or_else(|| Arc::new(ScriptFolder::new(&settings.script_dir)));
        let state_dir = settings.state_dir.clone();
        let inner = Inner {
            settings,
            pool: Arc::default(),
            source,
            account: Account::of_this_process(),
            workspaces,
            records,
            running: Mutex::new(BTreeMap::new()),
            under_way: Arc::default(),
            cgroups,
            scratch,
            instance,
        };
        let executor = ScriptExecutor { inner: Arc::new(inner) };
        executor.recover().map_err(failed("look for agents that died on", &state_dir))?;
        Ok(executor)
    }
}

fn probe_cgroups(wanted: Option<KillScope>, name: &str) -> Result<Option<Arc<CgroupPool>>, BuildError> {
    if wanted == Some(KillScope::Marker) {
        return Ok(None);
    }
    match CgroupPool::probe(name) {
        Ok(pool) => Ok(Some(pool)),
        Err(error) if wanted == Some(KillScope::Cgroup) => Err(BuildError::NoCgroup(error.to_string())),
        Err(error) => {
            tracing::warn!(%error, "no cgroup scope on this host: what scripts start is ended by best effort");
            Ok(None)
        }
    }
}

fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let operation = format!("{operation} {}", path.display());
    move |source| BuildError::Folder { operation, source }
}

impl std::fmt::Debug for ScriptExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptExecutor").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ScriptExecutorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptExecutorBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
