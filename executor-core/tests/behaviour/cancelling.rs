//! How an execution is ended before its time: timeout, cancel once and twice, by token, with and without a group.

use std::time::{Duration, Instant};

use executor_core::{ExecuteScriptRequest, Outcome};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, both_scopes, eventually, live_with, unique_sleep};

const LONG: Duration = Duration::from_secs(60);
const POLITE: &str = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.02; done";
const STUBBORN: &str = "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done";

#[test]
fn a_script_that_runs_out_of_time_is_asked_to_end_first() {
    both_scopes("timeout", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let request =
            ExecuteScriptRequest::new(bench.script("slow.sh", POLITE)).timeout(Duration::from_millis(400));
        let (result, output) = bench.run_on(&executor, request.kill_grace(LONG));
        assert_eq!(result.outcome, Outcome::TimedOut);
        assert!(output.starts_with("up\n") && output.ends_with("asked\n"), "{output}");
        assert_eq!((result.success, result.exit_code, result.command_line_code()), (false, None, 124));
        assert!((400..1500).contains(&result.duration_ms), "{}", result.duration_ms);
    });
}

#[test]
fn one_that_does_not_end_when_asked_is_killed_when_its_grace_is_over() {
    both_scopes("TERM ignored", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let request = ExecuteScriptRequest::new(bench.script("slow.sh", STUBBORN))
            .timeout(Duration::from_millis(300))
            .kill_grace(Duration::from_millis(300));
        let (result, output) = bench.run_on(&executor, request);
        assert_eq!(result.outcome, Outcome::TimedOut);
        assert!(output.starts_with("up\n") && output.ends_with("asked\n"), "{output}");
        assert!((600..1100).contains(&result.duration_ms), "{}", result.duration_ms);
    });
}

#[test]
fn a_script_is_not_ended_before_its_time() {
    let bench = Bench::new();
    let request =
        ExecuteScriptRequest::new(bench.script("quick.sh", "sleep 0.2")).timeout(Duration::from_secs(30));
    assert_eq!(bench.run_on(&bench.executor(), request).0.outcome, Outcome::Exited { code: 0 });
}

#[test]
fn a_limit_beyond_what_a_clock_can_say_is_none() {
    let bench = Bench::new();
    let executor = bench.builder().max_timeout(Duration::MAX).build().unwrap();
    let request = ExecuteScriptRequest::new(bench.script("quick.sh", "exit 0"))
        .timeout(Duration::MAX)
        .kill_grace(Duration::MAX);
    assert_eq!(bench.run_on(&executor, request).0.exit_code, Some(0));
}

#[test]
fn the_first_cancel_asks_and_the_second_kills_at_once() {
    both_scopes("cancel twice", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).kill_grace(LONG).build().unwrap();
        let name = bench.script("slow.sh", STUBBORN);
        let execution = bench.start_on(&executor, ExecuteScriptRequest::new(name));
        bench.wait_for_output(&execution, "up");
        execution.cancel();
        bench.wait_for_output(&execution, "asked");
        assert_eq!(execution.result(), None);
        let again = Instant::now();
        execution.cancel();
        let result = bench.wait(&execution);
        assert!(again.elapsed() < Duration::from_millis(700), "{:?}", again.elapsed());
        assert_eq!((result.outcome.clone(), result.command_line_code()), (Outcome::Cancelled, 130));
    });
}

#[test]
fn a_cancellation_token_asks_for_the_end_whenever_it_is_cancelled() {
    let bench = Bench::new();
    let executor = bench.builder().kill_grace(LONG).build().unwrap();
    let name = bench.script("slow.sh", POLITE);

    let before = CancellationToken::new();
    before.cancel();
    let (result, _) = bench.run_on(&executor, ExecuteScriptRequest::new(&name).cancellation(before));
    assert_eq!(result.outcome, Outcome::Cancelled);

    let during = CancellationToken::new();
    let request = ExecuteScriptRequest::new(&name).cancellation(during.clone());
    let execution = bench.start_on(&executor, request);
    bench.wait_for_output(&execution, "up");
    during.cancel();
    assert_eq!(bench.wait(&execution).outcome, Outcome::Cancelled);

    let after = CancellationToken::new();
    let request = ExecuteScriptRequest::new(bench.script("quick.sh", "exit 0")).cancellation(after.clone());
    let (result, _) = bench.run_on(&executor, request);
    after.cancel();
    assert_eq!(result.exit_code, Some(0));
}

#[test]
fn cancelling_what_has_ended_changes_nothing() {
    let bench = Bench::new();
    let execution =
        bench.start_on(&bench.executor(), ExecuteScriptRequest::new(bench.script("quick.sh", "exit 5")));
    let result = bench.wait(&execution);
    execution.cancel();
    execution.cancel();
    assert_eq!(bench.wait(&execution), result);
    assert_eq!(result.exit_code, Some(5));
}

#[test]
fn dropping_the_handle_ends_nothing() {
    let bench = Bench::new();
    let executor = bench.executor();
    let (go, done) = (bench.path("go"), bench.path("done"));
    let body = format!("until [ -e {} ]; do sleep 0.01; done; echo yes > {}", go.display(), done.display());
    drop(bench.start_on(&executor, ExecuteScriptRequest::new(bench.script("on.sh", &body))));
    std::fs::write(go, "").unwrap();
    eventually("the script was ended with its handle", || done.exists());
}

#[test]
fn the_polite_signal_reaches_the_whole_group() {
    let (asked, result) = who_is_asked(|request| request);
    assert_eq!((asked.as_str(), result), ("main child", Outcome::Cancelled));
}

#[test]
fn without_group_kill_it_reaches_the_main_process_only() {
    let (asked, result) = who_is_asked(|request| request.group_kill(false));
    assert_eq!((asked.as_str(), result), ("main", Outcome::Cancelled));
}

#[test]
fn without_a_process_group_it_reaches_the_main_process_only_and_the_session_is_the_agents() {
    let (asked, result) = who_is_asked(|request| request.process_group(false));
    assert_eq!((asked.as_str(), result), ("main", Outcome::Cancelled));
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("ids.sh", "cut -d' ' -f5,6 /proc/$$/stat"));
    let (_, output) = bench.run_on(&bench.executor(), request.process_group(false));
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    let own: Vec<&str> = own.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(output.trim(), format!("{} {}", own[2], own[3]));
}

/// Cancels a script with a child once; tells which of the two were asked to end, and how it ended. The main process
/// waits a little before it ends, so that what is asked has the time to say so.
fn who_is_asked(change: impl Fn(ExecuteScriptRequest) -> ExecuteScriptRequest) -> (String, Outcome) {
    let bench = Bench::new();
    let sleep = unique_sleep();
    let child = "trap 'echo child >> asked; kill $pid; exit 0' TERM; sleep SLEEP & pid=$!; echo up; wait";
    let child = child.replace("SLEEP", &sleep);
    let body = format!(
        "trap 'sleep 0.3; echo main > asked.main; sed \"s/^/ /\" asked > asked.child 2>/dev/null; exit 0' TERM\n\
         (exec sh -c '{}') & while :; do sleep 0.02; done",
        child.replace('\'', "'\\''")
    );
    let executor = bench.builder().kill_grace(LONG).build().unwrap();
    let request = change(ExecuteScriptRequest::new(bench.script("two.sh", &body)).id("two"));
    let execution = bench.start_on(&executor, request);
    bench.wait_for_output(&execution, "up");
    execution.cancel();
    let result = bench.wait(&execution);
    let folder = bench.path("workspace/tasks/two");
    let read =
        |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default().trim_end().to_owned();
    assert_eq!(live_with(&sleep), [] as [i32; 0]);
    (read("asked.main") + &read("asked.child"), result.outcome.clone())
}
