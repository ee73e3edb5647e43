//! The agent as a service: everything that stands behind the routes, opened from the settings, and stopped in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agent_config::Settings;
use axum::Router;
use metrics_exporter_prometheus::BuildError as MetricsError;
use task_runners::{
    BuildError, ScriptExecutor, ScriptRunner, Scripts, ScriptsStatus, TaskDebugRunner, Watch,
};
use task_service::{DrainReport, OpenError, Retention, RunnerRegistry, ServiceSettings, TaskService};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::app::{self, AppState, Shared};
use crate::auth::Tokens;
use crate::background;
use crate::first_token::{self, FirstTokenError};
use crate::hosts::HostRules;
use crate::metrics::Metrics;

/// Most reproduction scripts that are held at a time. Each may be several times as large as a body may be.
const DEBUG_SCRIPTS: usize = 4;

/// What the agent is to know of the process that it is opened in, since it reads no environment and no limits itself.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The soft and the hard limit of open files that scripts get (getrlimit(2)), where the program has raised its own.
    pub open_files: Option<(u64, u64)>,
    /// A folder that goes with the service, where it was given one: the first choice for scratch folders.
    pub runtime_dir: Option<PathBuf>,
}

/// An open agent. Dropped, it stops what it does in the background; [`Agent::drain`] ends its tasks first.
#[derive(Debug)]
pub struct Agent {
    state: AppState,
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
    /// There is no token to give to the first caller.
    #[error(transparent)]
    FirstToken(#[from] FirstTokenError),
    /// The measurements cannot be set up.
    #[error("cannot set up the measurements: {0}")]
    Metrics(#[from] MetricsError),
}

impl Agent {
    /// Opens everything that the settings name, in this order: executor (which ends what a dead agent left running),
    /// scripts, task service (which takes the lock of the state folder), first token.
    ///
    /// # Errors
    /// See [`AgentError`]. A scripts folder that does not verify is none: the service says so in its answers.
    pub async fn open(settings: &Settings, host: Host) -> Result<Self, AgentError> {
        let state_dir = settings.script_executor.state_dir.clone();
        let (executor, scripts) = run_blocking(settings, host).await?;
        let metrics = Metrics::new()?;
        let records = executor.records().clone();
        let registry = registry(&metrics, ScriptRunner::new(executor, scripts.clone()));
        let service = TaskService::open(service_settings(settings), registry).await?;
        service.keep_clean(Retention {
            tasks: settings.retention.tasks,
            workspaces: settings.retention.workspaces,
            work_dir: settings.script_executor.work_dir_prefix.clone(),
        });
        let mut first_token = None;
        let mut tokens = settings.auth.tokens.clone();
        if tokens.is_empty() {
            let opened = first_token::open(&state_dir)?;
            first_token = opened.is_new.then_some(opened.path);
            tokens.push(opened.token);
        }
        let state = AppState::new(Shared {
            service,
            scripts,
            records,
            tokens: Tokens::new(tokens),
            hosts: HostRules::new(&settings.http),
            metrics,
            body_limit: settings.limits.body,
            public_metrics: settings.http.public_metrics,
            is_draining: AtomicBool::new(false),
            debug_scripts: Arc::new(Semaphore::new(DEBUG_SCRIPTS)),
        });
        let verify_now = Arc::new(Notify::new());
        let mut background = JoinSet::new();
        let (scripts, service) = (state.scripts().clone(), state.service().clone());
        background.spawn(background::verify_scripts(scripts, service, verify_now.clone()));
        background.spawn(background::tidy_metrics(state.clone()));
        background.spawn(state.metrics().clone().follow(state.service().changes()));
        let watch = state.scripts().watch();
        Ok(Self { state, first_token, verify_now, _background: background, _watch: watch })
    }

    /// The routes, with everything in front of them.
    pub fn app(&self) -> Router {
        app::app(self.state.clone())
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

    /// Stops the task service: nothing more is accepted, `/readyz` says so, what runs has `patience` to end by itself.
    /// Called again meanwhile, with a patience of zero, it cancels at once.
    pub async fn drain(&self, patience: Duration) -> DrainReport {
        self.state.start_draining();
        self.state.service().drain(patience).await
    }
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
