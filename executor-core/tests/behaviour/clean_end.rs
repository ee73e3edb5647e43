//! An executor that ends leaves no cgroup, scratch folder or file of its own.

use std::fs;
use std::path::Path;

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, both_scopes, builder_in, eventually};
use crate::helper;
use crate::recovery::instance_file;

/// What lies anywhere under the name of an executor.
fn traces(bench: &Bench, name: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let cgroups = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = cgroups.filter_map(|line| line.split(' ').nth(1)).next().unwrap_or("/nowhere");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let places = [
        Path::new(mount).join(own.trim_start_matches('/')).join(format!("devops-agent.{name}")),
        bench.path("scratch").join(format!("devops-agent-{name}")),
        bench.path("state/instances").join(name),
    ];
    places.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect()
}

#[test]
fn nothing_of_it_is_left_when_its_last_handle_is_dropped() {
    both_scopes("clean end", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).scratch_dir(bench.path("scratch")).build().unwrap();
        let name = instance_file(&bench).file_name().unwrap().to_str().unwrap().to_owned();
        for body in
            ["exit 0", "sleep 300 & exit 0", "kill -9 $$", "mkdir \"$TMPDIR/a\"; chmod 0 \"$TMPDIR/a\""]
        {
            bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("once.sh", body)));
        }
        let expected = if scope == executor_core::KillScope::Cgroup { 3 } else { 2 };
        assert_eq!(traces(&bench, &name).len(), expected, "{:?}", traces(&bench, &name));
        drop(executor);
        // The thread of the last execution may still be removing what it left.
        eventually("traces are left", || traces(&bench, &name).is_empty());
    });
}

#[test]
fn close_returns_when_nothing_of_it_is_left() {
    both_scopes("close", |scope| {
        let bench = Bench::new();
        for _ in 0..4 {
            let executor =
                bench.builder().kill_scope(scope).scratch_dir(bench.path("scratch")).build().unwrap();
            let name = instance_file(&bench).file_name().unwrap().to_str().unwrap().to_owned();
            let body = "cd \"$TMPDIR\" && seq 100 | xargs mkdir";
            let execution =
                bench.start_on(&executor, ExecuteScriptRequest::new(bench.script("many.sh", body)));
            drop(execution);
            bench.runtime.block_on(executor.close());
            assert_eq!(traces(&bench, &name), [] as [String; 0]);
        }
    });
}

#[test]
fn an_executor_that_is_dropped_while_a_script_runs_ends_with_the_script() {
    let bench = Bench::new();
    let executor = bench.builder().scratch_dir(bench.path("scratch")).build().unwrap();
    let name = instance_file(&bench).file_name().unwrap().to_str().unwrap().to_owned();
    let body = "while ! [ -e ../../../go ]; do sleep 0.01; done; touch \"$TMPDIR/usable\" && exit 4";
    let execution = bench.start_on(&executor, ExecuteScriptRequest::new(bench.script("wait.sh", body)));
    drop(executor);
    assert!(!traces(&bench, &name).is_empty());
    fs::write(bench.path("go"), "").unwrap();
    assert_eq!(bench.wait(&execution).exit_code, Some(4));
    eventually("traces are left", || traces(&bench, &name).is_empty());
}

#[test]
fn what_a_program_leaves_that_ends_without_waiting_is_cleaned_up_by_the_next_one() {
    let bench = Bench::new();
    helper::run("end at once", &bench.path(""));
    let left = instance_file(&bench).file_name().unwrap().to_str().unwrap().to_owned();
    assert!(!traces(&bench, &left).is_empty());
    bench.builder().scratch_dir(bench.path("scratch")).build().unwrap();
    assert_eq!(traces(&bench, &left), [] as [String; 0]);
}

pub(crate) fn help(folder: &Path) {
    crate::bench::write_script(&folder.join("scripts"), "quick.sh", "#!/bin/sh\nexit 0\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).scratch_dir(folder.join("scratch")).build().unwrap();
    assert!(runtime.block_on(executor.execute(ExecuteScriptRequest::new("quick.sh"))).unwrap().success);
    // Without dropping anything, as a program does that calls exit.
    std::process::exit(0);
}
