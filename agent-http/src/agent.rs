//! The agent as a service: everything that stands behind the routes, opened from the settings, and stopped in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_config::Settings;
use axum::Router;
use metrics_exporter_prometheus::BuildError as MetricsError;
use task_runners::{
    BuildError, ScriptExecutor, ScriptRunner, Scripts, ScriptsStatus, TaskDebugRunner, Watch,
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
use crate::peer::PeerError;
use crate::routes::Turns;
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
    /// Users that tokens list cannot be let in.
    #[error(transparent)]
    Peers(#[from] PeerError),
}

impl Agent {
    /// Opens everything that the settings name, in this order: executor (which ends what a dead agent left running),
    /// scripts, task service (which takes the lock of the state folder), first token.
    ///
    /// # Errors
    /// See [`AgentError`]. A scripts folder that does not verify is none: the service says so in its answers.
    pub async fn open(settings: &Settings, host: Host) -> Result<Self, AgentError> {
        let tls = host.tls.clone();
        let (executor, scripts) = run_blocking(settings, host).await?;
        let metrics = Metrics::new()?;
        let records = executor.records().clone();
        let registry = registry(&metrics, ScriptRunner::new(executor, scripts.clone()));
        let service = TaskService::open(service_settings(settings), registry).await?;
        service.keep_clean(Retention {
            tasks: settings.retention.tasks,
            max_tasks: settings.retention.max_tasks,
            max_bytes: settings.retention.max_bytes,
            workspaces: settings.retention.workspaces,
            work_dir: settings.script_executor.work_dir_prefix.clone(),
        });
        let (access, first_token) = access(settings, tls.clone())?;
        let audit = audit(settings)?;
        let state = AppState::new(Shared {
            service,
            scripts,
            records,
            access: watch::Sender::new(Arc::new(access)),
            metrics,
            audit,
            tls,
            body_limit: settings.limits.body,
            public_metrics: settings.http.public_metrics,
            is_draining: AtomicBool::new(false),
            debug_scripts: Arc::new(Semaphore::new(DEBUG_SCRIPTS)),
            log_scans: Arc::new(Semaphore::new(LOG_SCANS)),
            turns: Turns::default(),
        });
        let verify_now = Arc::new(Notify::new());
        let mut background = JoinSet::new();
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
    /// When it cannot be said who is let in by them, for one because they name no token and that of the first start cannot
    /// be read; everything stays as it was then.
    pub fn reload(&self, new: &Settings) -> Result<Vec<&'static str>, AccessError> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let (access, _) = access(
            &Settings { script_executor: settings.script_executor.clone(), ..new.clone() },
            self.tls().cloned(),
        )?;
        self.state.set_access(access);
        settings.auth = new.auth.clone();
        settings.http.hosts.clone_from(&new.http.hosts);
        settings.http.origins.clone_from(&new.http.origins);
        Ok(settings.sections_that_differ(new))
    }

    /// Stops the task service: nothing more is accepted, `/readyz` says so, what runs has `patience` to end by itself.
    /// Called again meanwhile, with a patience of zero, it cancels at once.
    pub async fn drain(&self, patience: Duration) -> DrainReport {
        self.state.start_draining();
        self.state.service().drain(patience).await
    }
}

/// Who is let in by these settings, and the file of the admin's token if it was made just now.
fn access(settings: &Settings, tls: Option<Arc<Tls>>) -> Result<(Access, Option<PathBuf>), AccessError> {
    let mut first_token = None;
    let mut tokens = settings.auth.tokens.clone();
    if tokens.is_empty() {
        let opened = first_token::open(&settings.script_executor.state_dir)?;
        first_token = opened.is_new.then_some(opened.path);
        tokens.push(opened.token);
    }
    Ok((Access { tokens: Tokens::new(tokens)?, hosts: HostRules::new(&settings.http, tls) }, first_token))
}

fn audit(settings: &Settings) -> Result<Audit, AgentError> {
    let state_dir = &settings.script_executor.state_dir;
    let limits = AuditLimits { file_bytes: settings.audit.file_size, files: settings.audit.files };
    Audit::open(state_dir, limits)
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

fn service_settings(settings: &Settings) -> ServiceSettings {
    ServiceSettings {
        state_dir: settings.script_executor.state_dir.clone(),
        concurrent: settings.limits.concurrent,
        queue: settings.limits.queue,
    }
}

fn registry(metrics: &Arc<Metrics>, scripts: ScriptRunner) -> RunnerRegistry {
    let mut registry = RunnerRegistry::new();
    let runners = [metrics.measured(TaskDebugRunner::new(scripts.clone())), metrics.measured(scripts)];
    for runner in runners {
        registry.register(runner).expect("the two names fit and differ");
    }
    registry
}
