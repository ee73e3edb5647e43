//! What the tests share: an executor on temporary folders, scripts written into them, and looks at processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use executor_core::{
    ExecuteScriptRequest, Execution, ExecutionResult, KillScope, Records, ScriptExecutor,
    ScriptExecutorBuilder, StartError, TaskId,
};
use tempfile::TempDir;

/// Longest wait for something that must happen; far above what it takes, so that a loaded machine passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Temporary folders and a runtime.
pub(crate) struct Bench {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) root: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let bench = Self { runtime: runtime.unwrap(), root: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.path("scripts")).unwrap();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    /// A builder whose folders all lie in the temporary one.
    pub(crate) fn builder(&self) -> ScriptExecutorBuilder {
        builder_in(&self.path(""))
    }

    pub(crate) fn executor(&self) -> ScriptExecutor {
        self.builder().build().unwrap()
    }

    /// Writes a shell script.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        write_script(&self.path("scripts"), name, &format!("#!/bin/sh\n{body}\n"));
        name.to_owned()
    }

    pub(crate) fn records(&self) -> Records {
        Records::open(&self.path("state")).unwrap()
    }

    /// The bytes of a task's log, banners included.
    pub(crate) fn log(&self, id: &str) -> Vec<u8> {
        fs::read(self.records().log_path(&task_id(id))).unwrap()
    }

    /// Runs a script of that body once, to its result.
    pub(crate) fn run(&self, body: &str) -> (Arc<ExecutionResult>, String) {
        self.run_on(&self.executor(), ExecuteScriptRequest::new(self.script("once.sh", body)))
    }

    /// Runs a request to its result, and gives what the script itself wrote.
    pub(crate) fn run_on(
        &self,
        executor: &ScriptExecutor,
        request: ExecuteScriptRequest,
    ) -> (Arc<ExecutionResult>, String) {
        let execution = self.start_on(executor, request);
        let result = self.wait(&execution);
        (result, String::from_utf8_lossy(&body_of(&execution)).into_owned())
    }

    /// The same, with the time from the end of the main process to the result: what a busy machine takes to start the
    /// script is no part of that.
    pub(crate) fn run_timed(
        &self,
        executor: &ScriptExecutor,
        request: ExecuteScriptRequest,
    ) -> (Arc<ExecutionResult>, String, Duration) {
        let execution = self.start_on(executor, request);
        let started = Instant::now();
        let result = self.wait(&execution);
        let behind_the_end = started.elapsed().saturating_sub(Duration::from_millis(result.duration_ms));
        (result, String::from_utf8_lossy(&body_of(&execution)).into_owned(), behind_the_end)
    }

    pub(crate) fn start_on(&self, executor: &ScriptExecutor, request: ExecuteScriptRequest) -> Execution {
        self.runtime.block_on(executor.start(request)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why a request is not started.
    pub(crate) fn refusal(&self, executor: &ScriptExecutor, request: ExecuteScriptRequest) -> StartError {
        match self.runtime.block_on(executor.start(request)) {
            Err(error) => error,
            Ok(execution) => panic!("{} was started", execution.id()),
        }
    }

    pub(crate) fn wait(&self, execution: &Execution) -> Arc<ExecutionResult> {
        self.runtime.block_on(async {
            tokio::time::timeout(3 * PATIENCE, execution.wait()).await.expect("there is no result")
        })
    }

    /// Waits until the script's own output holds a text.
    pub(crate) fn wait_for_output(&self, execution: &Execution, text: &str) {
        self.runtime.block_on(async {
            let mut reader = execution.log().unwrap();
            let mut length = 0;
            loop {
                let waiting = tokio::time::timeout(PATIENCE, reader.wait_beyond(length));
                let progress = waiting.await.unwrap_or_else(|_| panic!("'{text}' was not written"));
                length = progress.bytes;
                if String::from_utf8_lossy(&body_of(execution)).contains(text) {
                    return;
                }
                assert!(!progress.is_complete(), "the script ended without '{text}'");
            }
        });
    }
}

impl Drop for Bench {
    /// Waits until the executors of a test are gone. They were dropped by then, but the thread of a last execution may
    /// still hold one, and what it has yet to remove would stay if the program ended first.
    fn drop(&mut self) {
        let instances = self.root.path().join("state/instances");
        let is_gone = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count) == 0;
        let deadline = Instant::now() + Duration::from_secs(2);
        while !std::thread::panicking() && !is_gone(&instances) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // An agent that the test killed, and after which nobody looked, left more than its temporary folder holds.
        if !is_gone(&instances) {
            let _ = self.builder().build();
        }
    }
}

pub(crate) fn builder_in(root: &Path) -> ScriptExecutorBuilder {
    ScriptExecutor::builder()
        .script_dir(root.join("scripts"))
        .work_dir(root.join("workspace"))
        .state_dir(root.join("state"))
}

pub(crate) fn task_id(id: &str) -> TaskId {
    id.parse().unwrap()
}

pub(crate) fn write_script(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What the script itself wrote so far.
pub(crate) fn body_of(execution: &Execution) -> Vec<u8> {
    let progress = execution.log_progress();
    let bytes = fs::read(execution.log_path()).unwrap();
    let end = progress.body_end.unwrap_or(progress.bytes) as usize;
    bytes[progress.header_bytes as usize..end].to_vec()
}

/// Both kill scopes, as far as this host has them; says loudly when one is missing.
pub(crate) fn both_scopes(test: &str, check: impl Fn(KillScope)) {
    for scope in [KillScope::Cgroup, KillScope::Marker] {
        if scope == KillScope::Cgroup && !has_cgroups() {
            println!("TIER: {test}: THIS HOST HAS NO CGROUP SCOPE; only the marker scope was tried");
            continue;
        }
        println!("TIER: {test}: {scope:?}");
        check(scope);
    }
}

/// Whether the engine finds its best kill scope on this host.
pub(crate) fn has_cgroups() -> bool {
    let folder = tempfile::tempdir().unwrap();
    builder_in(folder.path()).build().unwrap().kill_scope() == KillScope::Cgroup
}

/// Waits until something holds, looking again and again; panics when it never does.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process of that number is live: there, and no zombie.
pub(crate) fn is_live(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// The live processes whose command line holds a text that no other test uses.
pub(crate) fn live_with(text: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(text) && is_live(pid)
    })
    .collect()
}

/// A number of seconds to sleep that tells the processes of one test from all others.
pub(crate) fn unique_sleep() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{:07}{:03}", 300, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A memory file system that goes when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one on a new folder; none where this user may not, which is said loudly.
    pub(crate) fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(folder);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder.to_owned()));
        }
        println!("TIER: NOTHING CAN BE MOUNTED HERE: a file system with {options} was not tried");
        None
    }

    pub(crate) fn remount(&self, options: &str) {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a failing test may still have something open on it.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
