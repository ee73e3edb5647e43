//! An agent that runs out of descriptors or processes says so, harms nothing that runs, and leaks nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use executor_core::{ExecuteScriptRequest, Execution, KillScope, Outcome, ScriptExecutor, StartError};
use nix::sys::resource::{Resource, setrlimit};

use crate::bench::{Bench, builder_in, eventually, write_script};
use crate::helper::{self, NOBODY};

const SLEEPING: &str = "#!/bin/sh\nexec sleep 300\n";

#[test]
fn out_of_descriptors_is_typed_and_retriable_and_nothing_else_is_harmed() {
    let bench = Bench::new();
    let told = helper::run("run with few descriptors", &bench.path(""));
    assert!(told.contains("met out_of_descriptors"), "{told}");
}

pub(crate) fn help_with_few_descriptors(folder: &Path) {
    write_script(&folder.join("scripts"), "sleep.sh", SLEEPING);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = descriptors();
    let executor = builder_in(folder).build().unwrap();
    runtime.block_on(warm_up(&executor, folder));
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    // The limit is met at another step each time.
    for held in 0..8 {
        let held: Vec<fs::File> = (0..held).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        runtime.block_on(until_refused(&executor, "out_of_descriptors"));
        drop(held);
    }
    leaves_nothing(executor, folder, &runtime);
    // The executor's threads end by themselves, each with its own one.
    eventually("all descriptors are given back", || descriptors() == before);
}

#[test]
fn out_of_processes_is_typed_and_retriable_and_nothing_else_is_harmed() {
    if !nix::unistd::geteuid().is_root() {
        println!(
            "TIER: NOT ROOT HERE: the limit of processes was not tried, since it counts all of this user's"
        );
        return;
    }
    let bench = Bench::new();
    let folder = bench.root.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    write_script(&bench.path("scripts"), "sleep.sh", SLEEPING);
    for path in [folder.to_owned(), bench.path("scripts"), bench.path("scripts/sleep.sh")] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let told = helper::finish(helper::as_nobody(&helper::command("run with few processes", folder)));
    assert!(told.contains("met out_of_processes"), "{told}");
}

pub(crate) fn help_with_few_processes(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    runtime.block_on(warm_up(&executor, folder));
    // The limit counts every thread of this user; a few more than there are now.
    let of_nobody = |path: std::path::PathBuf| {
        use std::os::unix::fs::MetadataExt;
        let is_its = fs::metadata(&path).is_ok_and(|data| data.uid() == NOBODY);
        if is_its { fs::read_dir(path.join("task")).map_or(0, Iterator::count) } else { 0 }
    };
    let now: usize = fs::read_dir("/proc").unwrap().flatten().map(|entry| of_nobody(entry.path())).sum();
    setrlimit(Resource::RLIMIT_NPROC, now as u64 + 7, now as u64 + 7).unwrap();
    runtime.block_on(until_refused(&executor, "out_of_processes"));
    leaves_nothing(executor, folder, &runtime);
}

async fn warm_up(executor: &ScriptExecutor, folder: &Path) {
    write_script(&folder.join("scripts"), "quick.sh", "#!/bin/sh\nexit 0\n");
    assert!(executor.execute(ExecuteScriptRequest::new("quick.sh")).await.unwrap().success);
    executor.clone().close().await;
}

/// Starts scripts that sleep until one is refused, as it must be; those that run must end well afterwards, and then
/// there must be room again.
async fn until_refused(executor: &ScriptExecutor, expected: &str) {
    let mut running: Vec<Execution> = Vec::new();
    let error = loop {
        match executor.start(ExecuteScriptRequest::new("sleep.sh")).await {
            Ok(execution) => running.push(execution),
            Err(error) => break error,
        }
        assert!(running.len() < 100, "nothing ran out");
    };
    assert!(matches!(error, StartError::Host { .. }), "{error}");
    assert_eq!((error.code(), error.is_retriable()), (expected, true), "{error}");
    println!("met {} behind {} running: {error}", error.code(), running.len());
    assert!(running.len() > 1 && executor.running().len() == running.len());
    for execution in &running {
        assert_eq!(execution.result(), None, "a running script was harmed");
        execution.cancel();
        execution.cancel();
    }
    for execution in &running {
        assert_eq!(execution.wait().await.outcome, Outcome::Cancelled);
    }
    // What the threads held is given back by then.
    executor.clone().close().await;
    assert!(executor.execute(ExecuteScriptRequest::new("quick.sh")).await.unwrap().success);
    executor.clone().close().await;
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Every record has its result, and the end of the executor leaves no file of it.
fn leaves_nothing(executor: ScriptExecutor, folder: &Path, runtime: &tokio::runtime::Runtime) {
    for task in fs::read_dir(folder.join("state/tasks")).unwrap() {
        let path = task.unwrap().path();
        assert!(path.join("result.json").exists(), "{} has no result", path.display());
    }
    let scope = executor.kill_scope();
    println!("TIER: {}", if scope == KillScope::Cgroup { "Cgroup" } else { "Marker" });
    runtime.block_on(executor.close());
    assert_eq!(fs::read_dir(folder.join("state/instances")).unwrap().count(), 0);
}
