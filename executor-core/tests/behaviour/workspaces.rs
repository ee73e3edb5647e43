//! A shared workspace belongs to one execution at a time, whichever agent runs it.

use std::path::Path;

use executor_core::{ExecuteScriptRequest, StartError};

use crate::bench::{Bench, builder_in, eventually};
use crate::helper::Helper;

#[test]
fn a_shared_one_is_locked_against_other_executors_and_free_when_the_result_is_there() {
    let bench = Bench::new();
    let (first, second) = (bench.executor(), bench.executor());
    let slow = bench.script("slow.sh", "echo up; sleep 300");
    let quick = bench.script("quick.sh", "exit 0");
    let execution = bench.start_on(&first, ExecuteScriptRequest::new(&slow).work_dir("s1"));
    bench.wait_for_output(&execution, "up");
    for executor in [&first, &second] {
        let error = bench.refusal(executor, ExecuteScriptRequest::new(&quick).work_dir("s1").id("refused"));
        assert!(matches!(&error, StartError::WorkspaceBusy(name) if name == "s1"), "{error}");
        assert_eq!((error.code(), error.is_retriable()), ("work_dir_busy", true));
    }
    assert!(!bench.path("state/tasks/refused").exists(), "a refused request has a record");
    // Another one is free meanwhile.
    assert!(bench.run_on(&second, ExecuteScriptRequest::new(&quick).work_dir("s2")).0.success);
    execution.cancel();
    bench.wait(&execution);
    assert!(bench.run_on(&second, ExecuteScriptRequest::new(&quick).work_dir("s1").id("refused")).0.success);
}

#[test]
fn runs_of_one_workspace_follow_each_other_without_a_gap_in_which_it_is_busy() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("count.sh", "echo x >> count; wc -l < count");
    for round in 1..=50 {
        let (_, output) = bench.run_on(&executor, ExecuteScriptRequest::new(&name).work_dir("s1"));
        assert_eq!(output.trim(), round.to_string());
    }
}

#[test]
fn of_sixty_four_at_once_one_works_in_it_at_a_time() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("alone.sh", "mkdir alone || exit 9; sleep 0.02; rmdir alone");
    let (done, busy) = bench.runtime.block_on(async {
        let started: Vec<_> = (0..64)
            .map(|_| {
                let (executor, request) = (executor.clone(), ExecuteScriptRequest::new(&name).work_dir("s1"));
                tokio::spawn(async move { executor.execute(request).await })
            })
            .collect();
        let (mut done, mut busy) = (0, 0);
        for task in started {
            match task.await.unwrap() {
                Ok(result) => {
                    assert!(result.success, "two of them worked in it at once");
                    done += 1;
                }
                Err(StartError::WorkspaceBusy(_)) => busy += 1,
                Err(other) => panic!("{other}"),
            }
        }
        (done, busy)
    });
    assert!(done >= 1 && done + busy == 64, "{done} {busy}");
}

#[test]
fn a_shared_one_is_locked_against_other_processes_until_they_are_gone() {
    let bench = Bench::new();
    let quick = bench.script("quick.sh", "exit 0");
    bench.script("hold.sh", "touch held; sleep 300");
    let executor = bench.executor();
    let mut helper = Helper::start("hold a workspace", &bench.path(""));
    eventually("the other agent did not start", || bench.path("workspace/shared/s1/held").exists());
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&quick).work_dir("s1"));
    assert!(matches!(error, StartError::WorkspaceBusy(_)), "{error}");
    helper.kill();
    executor.recover().unwrap();
    assert!(bench.run_on(&executor, ExecuteScriptRequest::new(&quick).work_dir("s1")).0.success);
}

pub(crate) fn help(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    runtime.block_on(executor.execute(ExecuteScriptRequest::new("hold.sh").work_dir("s1"))).unwrap();
}
