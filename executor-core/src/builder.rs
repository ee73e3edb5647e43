//! Builds an executor: its settings, what this host offers, and the cleaning up after agents that died.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::environment::{self, Account};
use crate::executor::{Inner, ScriptExecutor};
use crate::instance::Instance;
use crate::orphans::Children;
use crate::policy::Leftovers;
use crate::problem::{Problem, join};
use crate::record::Records;
use crate::request::string_problem;
use crate::result::KillScope;
use crate::scope::CgroupPool;
use crate::scratch::ScratchRoot;
use crate::script_source::{ScriptFolder, ScriptSource};
use crate::sys;
use crate::workspace::Workspaces;

/// Oldest kernel that has openat2, pidfds that can be waited for, and close_range.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// What the builder collects. Its defaults are those of the agent's configuration file.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    script_dir: PathBuf,
    work_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) scratch_dir: Option<PathBuf>,
    pub(crate) runtime_dir: Option<PathBuf>,
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
    reap_orphans: bool,
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
    /// The kernel lacks what the promises are kept by.
    #[error("this kernel is {found}; Linux {}.{} or newer is needed", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    Kernel {
        /// Its release, as uname(2) tells it.
        found: String,
    },
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

impl Default for ScriptExecutorBuilder {
    /// As [`ScriptExecutor::builder`].
    fn default() -> Self {
        Self { settings: Settings::default(), source: None }
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
            runtime_dir: None,
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
            reap_orphans: false,
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

    /// A folder of the service's own that goes with it, such as systemd's `$RUNTIME_DIRECTORY`. Scratch folders are made
    /// there if it is on a memory file system that may execute.
    #[must_use]
    pub fn runtime_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.runtime_dir = Some(path.into());
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

    /// Whether to wait for processes that lost their parent and became this one's children, as the first process of a
    /// container must, lest they stay as zombies. Only for a program with no other children of its own: their ends
    /// would be taken away from it. Off by default.
    #[must_use]
    pub fn reap_orphans(mut self, reap: bool) -> Self {
        self.settings.reap_orphans = reap;
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
        check_kernel()?;
        if sys::ignores_children() {
            return Err(BuildError::ChildrenIgnored);
        }
        let records = Records::open(&settings.state_dir);
        let records = records.map_err(failed("make the state folder", &settings.state_dir))?;
        settings.state_dir = settings
            .state_dir
            .canonicalize()
            .map_err(failed("find the state folder", &settings.state_dir))?;
        let records = Records::open(&settings.state_dir).unwrap_or(records).bounded(settings.max_log_bytes);
        let workspaces = Workspaces::open(&settings.work_dir, &settings.state_dir)
            .map_err(failed("make the folder of workspaces", &settings.work_dir))?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let (wanted, runtime) = (settings.scratch_dir.as_deref(), settings.runtime_dir.as_deref());
        let scratch = ScratchRoot::create(wanted, runtime, &settings.state_dir, &name)
            .map_err(failed("make a scratch folder below", &settings.state_dir))?;
        let cgroups = probe_cgroups(settings.kill_scope, &name)?;
        let cgroup_path = cgroups.as_ref().map(|pool| pool.path().to_owned());
        let instance = Instance::create(&settings.state_dir, &name, scratch.path(), cgroup_path.as_deref())
            .map_err(failed("enter this agent into", &settings.state_dir))?;
        let children = Arc::<Children>::default();
        if settings.reap_orphans {
            children
                .begin_reaping()
                .map_err(failed("start a thread for orphans beside", &settings.state_dir))?;
        }
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
            own_peak_kib: AtomicU64::new(0),
            children,
        };
        let executor = ScriptExecutor::new(inner);
        executor.recover().map_err(failed("look for agents that died on", &state_dir))?;
        Ok(executor)
    }
}

fn check_kernel() -> Result<(), BuildError> {
    let found = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    match found {
        Ok(found) if is_too_old(&found) => Err(BuildError::Kernel { found }),
        _ => Ok(()),
    }
}

/// Whether a release, such as `6.1.0-13-amd64`, is older than what is needed; one that is not understood is not.
fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST_KERNEL)
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

impl std::fmt::Debug for ScriptExecutorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptExecutorBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_is_known_to_be_too_old_is_refused() {
        for release in ["5.9.16", "4.19.0-26-amd64", "3.10", "5.4-rc1"] {
            assert!(is_too_old(release), "{release}");
        }
        for release in ["5.10.0-34-amd64", "6.1", "10.0.1", "", "custom", "5", "99999999999.1"] {
            assert!(!is_too_old(release), "{release}");
        }
    }
}
