//! The agent as a service: everything that stands behind the routes, opened from the settings, and stopped in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_config::Settings;
use agent_fleet::controller::{Fleet, FleetError};
use agent_fleet::node::Node;
use axum::Router;
use metrics_exporter_prometheus::BuildError as MetricsError;
use task_runners::{
    BuildError, Records, ScriptExecutor, ScriptRunner, Scripts, ScriptsStatus, TaskDebugRunner, Watch,
};
use task_service::{DrainReport, OpenError, Retention, RunnerRegistry, ServiceSettings, TaskService};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::{self, Access, AppState, Shared};
use crate::audit::{self, Audit, AuditLimits};
use crate::background;
use crate::first_token::{self, FirstTokenError};
use crate::hosts::HostRules;
use crate::metrics::Metrics;
use crate::node;
use crate::peer::PeerError;
use crate::routes::{LogScans, Turns};
use crate::tls::Tls;
use crate::tokens::Tokens;

/// Most reproduction scripts that are held at a time. Each may be several times as large as a body may be.
const DEBUG_SCRIPTS: usize = 4;
/// Most logs that are looked through at a time, each with a core of its own; further callers wait.
const LOG_SCANS: usize = 2;

/// What the agent is to know of the process that it is opened in, since it reads no environment and no limits itself.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The soft and the hard limit of open files that scripts get (getrlimit(2)), where the program has raised its own.
    pub open_files: Option<(u64, u64)>,
    /// What the service speaks TLS with, if it does.
    pub tls: Option<Arc<Tls>>,
    /// A folder that goes with the service, where it was given one: the first choice for scratch folders.
    pub runtime_dir: Option<PathBuf>,
}

/// An open agent. Dropped, it stops what it does in the background; [`Agent::drain`] ends its tasks first.
#[derive(Debug)]
pub struct Agent {
    state: AppState,
    settings: Mutex<Settings>,
    first_token: Option<PathBuf>,
    verify_now: Arc<Notify>,
    _background: JoinSet<()>,
    _watch: Watch,
}

/// Why an agent was not opened.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state folder is in use, or cannot be used.
    #[error(transparent)]
    Service(#[from] OpenError),
    /// The executor's folders cannot be made, or the host lacks what it needs.
    #[error("cannot prepare to run scripts: {0}")]
    Executor(#[from] BuildError),
    /// The folder of verified copies of scripts cannot be opened.
    #[error("cannot open the verified copies of scripts in {}: {reason}", .state_dir.display())]
    Scripts {
        /// The state folder.
        state_dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be said who is let in.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What is decided about requests cannot be written down.
    #[error("cannot open the audit log {}: {source}", .path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What belongs to nodes cannot be opened.
    #[error("cannot open what the API server of nodes needs: {0}")]
    Fleet(#[from] FleetError),
    /// The agent cannot be the node that its settings say.
    #[error("cannot be a node: {0}")]
    Node(String),
    /// The measurements cannot be set up.
    #[error("cannot set up the measurements: {0}")]
    Metrics(#[from] MetricsError),
}

/// Why it cannot be said who is let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no token to give to the first caller.
    #[error(transparent)]
    FirstToken(#[from] FirstTokenError),
    /// A file that was emptied, or is half of itself, must not open the service to the token of its first start.
    #[error(
        "the new ones have no [[auth.token]], and those in force have some; name one, or start the service again if \
         the token of its first start is to hold"
    )]
    NoToken,
    /// Users that tokens list cannot be let in.
    #[error(transparent)]
    Peers(#[from] PeerError),
}

impl Agent {
    /// Opens everything that the settings name, in this order: executor (which ends what a dead agent left running),
    /// scripts, task service (which takes the lock of the state folder), first token. No task starts before
    /// [`begin`](Self::begin).
    ///
    /// # Errors
    /// See [`AgentError`]. A scripts folder that does not verify is none: the service says so in its answers.
    pub async fn open(settings: &Settings, host: Host) -> Result<Self, AgentError> {
        let tls = host.tls.clone();
        let (executor, scripts) = run_blocking(settings, host).await?;
        let metrics = Metrics::new()?;
        let records = executor.records().clone();
        let fleet = open_fleet(settings, records.clone()).await?;
        let registry = registry(&metrics, ScriptRunner::new(executor, scripts.clone()), &fleet);
        let service = TaskService::open_held(service_settings(settings), registry).await?;
        let (tokens, first_token) = tokens(settings)?;
        let node = node::open(settings, &service, &scripts).await?;
        let access = Access { tokens, hosts: HostRules::new(&settings.http, tls.clone()) };
        let audit = audit(settings, metrics.clone())?;
        let state = AppState::new(Shared {
            service,
            scripts,
            fleet,
            records,
            access: watch::Sender::new(Arc::new(access)),
            metrics,
            audit,
            node: node.as_ref().map(Node::counts),
            tls,
            body_limit: settings.limits.body,
            public_metrics: settings.http.public_metrics,
            is_draining: AtomicBool::new(false),
            debug_scripts: Arc::new(Semaphore::new(DEBUG_SCRIPTS)),
            log_scans: LogScans::new(LOG_SCANS),
            turns: Turns::default(),
        });
        let verify_now = Arc::new(Notify::new());
        let mut background = JoinSet::new();
        if let Some(node) = node {
            background.spawn(node.run());
        }
        // A node has said by now what it needs.
        state.service().keep_clean(retention(settings));
        background.spawn(state.fleet().clone().answer_by(state.service().clone()));
        background.spawn(state.fleet().clone().attend(state.service().clone()));
        let (scripts, service) = (state.scripts().clone(), state.service().clone());
        background.spawn(background::verify_scripts(scripts, service, verify_now.clone()));
        background.spawn(background::tidy_metrics(state.clone()));
        if let Some(tls) = state.tls() {
            background.spawn(background::warn_of_expiry(tls.clone()));
        }
        background.spawn(state.metrics().clone().follow(state.service().changes()));
        let settings = Mutex::new(settings.clone());
        let watch = state.scripts().watch();
        Ok(Self { state, settings, first_token, verify_now, _background: background, _watch: watch })
    }

    /// Lets tasks start that wait since the last run. Called when nothing can fail any more, so that a start which fails
    /// has started none of them.
    pub fn begin(&self) {
        self.state.service().begin();
    }

    /// The routes, with everything in front of them.
    pub fn app(&self) -> Router {
        app::app(self.state.clone())
    }

    /// What the service speaks TLS with, if it does.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.state.tls()
    }

    /// The file of the admin token, if it was made just now: nobody has heard of it yet.
    pub fn new_token(&self) -> Option<&Path> {
        self.first_token.as_deref()
    }

    /// What stands behind the scripts: what is wrong with their folder, and the command that mends it.
    pub fn scripts_status(&self) -> Arc<ScriptsStatus> {
        self.state.scripts().status()
    }

    /// Has all scripts read, and their folder verified, again soon.
    pub fn read_scripts_again(&self) {
        self.verify_now.notify_one();
    }

    /// Takes over what new settings say about tokens, host names and origins, from the next request on, and gives the
    /// sections in which something else has changed: that takes a restart.
    ///
    /// # Errors
    /// When it cannot be said who is let in by them, for one because they name no token where those in force do; everything
    /// stays as it was then.
    pub async fn reload(&self, new: &Settings) -> Result<Vec<&'static str>, AccessError> {
        let (had_none, state_dir) = {
            let settings = self.settings();
            (settings.auth.tokens.is_empty(), settings.script_executor.state_dir.clone())
        };
        let named = new.auth.tokens.clone();
        // Files are read, and users looked up, which may be over a network.
        let made = tokio::task::spawn_blocking(move || {
            let tokens = match (named.is_empty(), had_none) {
                (false, _) => named,
                (true, true) => vec![first_token::open_again(&state_dir)?.token],
                (true, false) => return Err(AccessError::NoToken),
            };
            Ok(Tokens::new(tokens)?)
        });
        let made = made.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let tokens = made?.after(&self.state.access().tokens);
        let mut settings = self.settings();
        settings.auth = new.auth.clone();
        settings.http.hosts.clone_from(&new.http.hosts);
        settings.http.origins.clone_from(&new.http.origins);
        // What else the section says takes a restart, here too.
        let hosts = HostRules::new(&settings.http, self.tls().cloned());
        self.state.set_access(Access { tokens, hosts });
        Ok(settings.sections_that_differ(new))
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        // They are replaced part by part, each of which is whole.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the task service has stopped, though nobody told it to: the thread that decides and writes has panicked.
    pub async fn failed(&self) {
        self.state.service().stopped().await;
    }

    /// Stops the task service: nothing more is accepted, `/readyz` says so, what runs has `patience` to end by itself.
    /// Called again meanwhile, with a patience of zero, it cancels at once.
    pub async fn drain(&self, patience: Duration) -> DrainReport {
        self.state.start_draining();
        self.state.service().drain(patience).await
    }
}

/// The tokens of a start by these settings, and the file of the admin's token if it was made just now.
fn tokens(settings: &Settings) -> Result<(Tokens, Option<PathBuf>), AccessError> {
    if !settings.auth.tokens.is_empty() {
        return Ok((Tokens::new(settings.auth.tokens.clone())?, None));
    }
    let opened = first_token::open(&settings.script_executor.state_dir)?;
    Ok((Tokens::new(vec![opened.token])?, opened.is_new.then_some(opened.path)))
}

fn audit(settings: &Settings, metrics: Arc<Metrics>) -> Result<Audit, AgentError> {
    let state_dir = &settings.script_executor.state_dir;
    let limits = AuditLimits { file_bytes: settings.audit.file_size, files: settings.audit.files };
    Audit::open(state_dir, limits, metrics)
        .map_err(|source| AgentError::Audit { path: state_dir.join(audit::FILE), source })
}

/// The address that a service listens on by its settings.
pub fn address(settings: &Settings) -> SocketAddr {
    SocketAddr::new(settings.http.host, settings.http.port)
}

/// Executor and scripts, whose opening reads and writes the disk.
async fn run_blocking(settings: &Settings, host: Host) -> Result<(ScriptExecutor, Arc<Scripts>), AgentError> {
    let mut builder = settings.executor();
    if let Some((soft, hard)) = host.open_files {
        builder = builder.open_files_limit(soft, hard);
    }
    if let Some(folder) = host.runtime_dir {
        builder = builder.runtime_dir(folder);
    }
    let scripts = settings.scripts();
    let state_dir = scripts.state_dir.clone();
    let failed = move |reason: String| AgentError::Scripts { state_dir, reason };
    let opened = tokio::task::spawn_blocking(move || {
        let executor = builder.build()?;
        let scripts = Scripts::open(scripts).map_err(|error| failed(error.to_string()))?;
        Ok((executor, Arc::new(scripts)))
    });
    opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn retention(settings: &Settings) -> Retention {
    Retention {
        tasks: settings.retention.tasks,
        max_tasks: settings.retention.max_tasks,
        max_bytes: settings.retention.max_bytes,
        workspaces: settings.retention.workspaces,
        max_workspaces: settings.retention.max_workspaces,
        max_workspace_bytes: settings.retention.max_workspace_bytes,
        work_dir: settings.script_executor.work_dir_prefix.clone(),
    }
}

fn service_settings(settings: &Settings) -> ServiceSettings {
    ServiceSettings {
        state_dir: settings.script_executor.state_dir.clone(),
        concurrent: settings.limits.concurrent,
        queue: settings.limits.queue,
    }
}

/// The fleet, whose opening reads and writes the disk.
async fn open_fleet(settings: &Settings, records: Records) -> Result<Fleet, AgentError> {
    let state_dir = settings.script_executor.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Fleet::open(&state_dir, records));
    Ok(opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
}

fn registry(metrics: &Arc<Metrics>, scripts: ScriptRunner, fleet: &Fleet) -> RunnerRegistry {
    let mut registry = RunnerRegistry::new();
    let runners = [
        metrics.measured(TaskDebugRunner::new(scripts.clone())),
        metrics.measured(scripts),
        metrics.measured(fleet.runner()),
    ];
    for runner in runners {
        registry.register(runner).expect("the three names fit and differ");
    }
    registry
}
