//! When an execution has ended nothing that it started is alive, and its result is there in time: promises 2 and 5.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use executor_core::{Containment, ExecuteScriptRequest, KillScope, Leftovers, Outcome};

use crate::bench::{
    Bench, both_scopes, eventually, has_cgroups, is_live, live_with, unique_sleep, write_script,
};
use crate::recovery::instance_header;

/// When the result must be there, whoever still holds the output open.
const RESULT_LIMIT: Duration = Duration::from_millis(2500);

/// A program that starts daemons the old way: a session of their own, forked twice, TERM ignored.
const DAEMONS: &str = r#"#!/usr/bin/env python3
import os, signal, sys, time
count, name = int(sys.argv[1]), sys.argv[2]
for _ in range(count):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execv("/bin/sleep", ["sleep", name])
        os._exit(0)
for _ in range(count):
    os.wait()
print("daemons are there", flush=True)
if len(sys.argv) > 3:
    time.sleep(300)
sys.exit(4)
"#;

/// A live fork bomb with bounds of its own, so that a failing test harms nobody: there are always 20 processes, each of
/// which ends after 20 ms and leaves another one, for 20 seconds at most. The first one reaps (prctl(2),
/// PR_SET_CHILD_SUBREAPER), so that their numbers do not run out.
const FORK_BOMB: &str = r#"#!/usr/bin/env python3
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
deadline = time.time() + 20
for _ in range(20):
    if os.fork() == 0:
        while time.time() < deadline:
            time.sleep(0.02)
            if os.fork() > 0:
                os._exit(0)
        os._exit(0)
print("bomb", flush=True)
time.sleep(20)
"#;

#[test]
fn the_result_of_a_script_whose_grandchild_holds_the_output_open_is_there_in_time() {
    both_scopes("grandchild holds the output", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let sleep = unique_sleep();
        let name = bench.script("leak.sh", &format!("echo a; sleep {sleep} & exit 3"));
        let (result, output, took) = bench.run_timed(&executor, ExecuteScriptRequest::new(name));
        assert!(took < RESULT_LIMIT, "{took:?}");
        assert_eq!(result.outcome, Outcome::Exited { code: 3 });
        assert_eq!((output.as_str(), result.leaked_output, result.leftovers_killed), ("a\n", true, 1));
        assert_eq!(result.kill_scope, Some(scope));
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
    });
}

#[test]
fn a_grandchild_that_ignores_term_does_not_delay_the_result_beyond_its_limit() {
    both_scopes("stubborn grandchild", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let sleep = unique_sleep();
        let body = format!(
            "trap '' TERM; sh -c 'sleep {sleep} & echo > up; wait' & until [ -e up ]; do sleep 0.01; done; exit 3"
        );
        let (result, _, took) =
            bench.run_timed(&executor, ExecuteScriptRequest::new(bench.script("leak.sh", &body)));
        assert!(took < RESULT_LIMIT, "{took:?}");
        assert_eq!((result.exit_code, result.leftovers_killed), (Some(3), 2));
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
    });
}

#[test]
fn leftovers_that_are_only_reported_live_on_and_the_promise_is_waived() {
    both_scopes("leftovers reported", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).leftovers(Leftovers::Report).build().unwrap();
        let sleep = unique_sleep();
        let name = bench.script("leave.sh", &format!("sleep {sleep} & echo $!; exit 0"));
        let (result, output, took) = bench.run_timed(&executor, ExecuteScriptRequest::new(name));
        assert!(took < RESULT_LIMIT, "{took:?}");
        assert_eq!((result.exit_code, result.leaked_output, result.leftovers_killed), (Some(0), true, 1));
        assert_eq!(result.containment, Some(Containment::Waived));
        let left: i32 = output.trim().parse().unwrap();
        assert!(is_live(left), "what is only to be reported was killed");
        kill(left);
    });
}

#[test]
fn a_cgroup_in_which_something_lives_on_is_removed_once_that_has_ended() {
    if !has_cgroups() {
        println!("TIER: NO CGROUP SCOPE HERE: what is left of cgroups was not looked at");
        return;
    }
    let bench = Bench::new();
    let executor = bench.builder().leftovers(Leftovers::Report).build().unwrap();
    let cgroup = PathBuf::from(instance_header(&bench)["cgroup"].as_str().unwrap());
    let name = bench.script("leave.sh", "sleep 300 <&- >&- 2>&- & grep ^0:: /proc/$!/cgroup; echo $!");
    let (_, output) = bench.run_on(&executor, ExecuteScriptRequest::new(name));
    bench.runtime.block_on(executor.clone().close());
    let lines: Vec<&str> = output.lines().collect();
    let own = cgroup.join(lines[0].rsplit_once('/').unwrap().1);
    assert!(own.is_dir(), "{}", own.display());
    let left: i32 = lines.last().unwrap().parse().unwrap();
    kill(left);
    eventually("it was killed", || !is_live(left));
    let next = bench.script("next.sh", "exit 0");
    eventually("its cgroup is removed", || {
        bench.run_on(&executor, ExecuteScriptRequest::new(&next));
        !own.exists()
    });
}

#[test]
fn nobody_of_a_hundred_daemons_that_left_the_session_and_ignore_term_survives() {
    both_scopes("100 daemons", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        write_script(&bench.path("scripts"), "daemons", DAEMONS);
        let sleep = unique_sleep();
        let request = ExecuteScriptRequest::new("daemons").args(["100", &sleep]);
        let begun = Instant::now();
        let execution = bench.start_on(&executor, request);
        bench.wait_for_output(&execution, "daemons are there");
        let ended = Instant::now();
        let result = bench.wait(&execution);
        assert!(ended.elapsed() < RESULT_LIMIT, "{:?} of {:?}", ended.elapsed(), begun.elapsed());
        assert_eq!((result.exit_code, result.leftovers_killed), (Some(4), 100));
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
        let expected = match scope {
            KillScope::Cgroup => Containment::Guaranteed,
            KillScope::Marker => Containment::BestEffort,
        };
        assert_eq!(result.containment, Some(expected));
    });
}

#[test]
fn the_sweep_is_what_ends_daemons() {
    // The twin of the tests above: with the sweep waived the very same daemons are there afterwards.
    let bench = Bench::new();
    let executor = bench.builder().leftovers(Leftovers::Report).build().unwrap();
    write_script(&bench.path("scripts"), "daemons", DAEMONS);
    let sleep = unique_sleep();
    let (result, _) = bench.run_on(&executor, ExecuteScriptRequest::new("daemons").args(["5", &sleep]));
    assert_eq!(result.leftovers_killed, 5);
    let left = live_with(&sleep);
    assert_eq!(left.len(), 5);
    left.into_iter().for_each(kill);
}

#[test]
fn daemons_of_a_script_that_runs_out_of_time_are_dead_a_quarter_of_a_second_after_the_kill() {
    both_scopes("daemons at timeout", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        write_script(&bench.path("scripts"), "daemons", DAEMONS);
        let sleep = unique_sleep();
        let request = ExecuteScriptRequest::new("daemons")
            .args(["100", &sleep, "and stay"])
            .timeout(Duration::from_secs(3))
            .kill_grace(Duration::ZERO);
        let execution = bench.start_on(&executor, request);
        bench.wait_for_output(&execution, "daemons are there");
        let result = bench.wait(&execution);
        assert_eq!((&result.outcome, result.leftovers_killed), (&Outcome::TimedOut, 100));
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
        assert!(result.duration_ms < 3_000 + 750, "{}", result.duration_ms);
    });
}

#[test]
fn a_live_fork_bomb_is_killed_whole() {
    both_scopes("fork bomb", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let name = format!("bomb-{}", unique_sleep());
        write_script(&bench.path("scripts"), &name, FORK_BOMB);
        let request = ExecuteScriptRequest::new(&name).kill_grace(Duration::from_millis(100));
        let execution = bench.start_on(&executor, request);
        bench.wait_for_output(&execution, "bomb");
        let cancelled = Instant::now();
        execution.cancel();
        let result = bench.wait(&execution);
        assert!(cancelled.elapsed() < RESULT_LIMIT, "{:?}", cancelled.elapsed());
        assert_eq!(result.outcome, Outcome::Cancelled);
        assert_eq!(live_with(&name), [] as [i32; 0]);
    });
}

#[test]
fn by_cgroup_a_process_that_cleared_its_environment_and_left_the_session_is_killed() {
    if !has_cgroups() {
        println!("TIER: THIS HOST HAS NO CGROUP SCOPE: the guarantee was not tried");
        return;
    }
    let (left, containment) = escape(KillScope::Cgroup);
    assert!(!is_live(left));
    assert_eq!(containment, Some(Containment::Guaranteed));
}

#[test]
fn by_marker_it_may_escape_and_the_result_claims_no_more_than_best_effort() {
    let (left, containment) = escape(KillScope::Marker);
    assert_eq!(containment, Some(Containment::BestEffort));
    // Not a promise: were it found, all the better.
    if is_live(left) {
        kill(left);
    }
}

/// Runs a script that does all it can to be forgotten; gives the daemon's number, and how sure its end is said to be.
fn escape(scope: KillScope) -> (i32, Option<Containment>) {
    let bench = Bench::new();
    let executor = bench.builder().kill_scope(scope).build().unwrap();
    let body = "setsid env -i sh -c 'setsid sleep 300 <&- >&- 2>&- & echo $! > pid' <&- >&- 2>&-; \
        while ! [ -s pid ]; do sleep 0.01; done; cat pid";
    let (result, output) =
        bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("escape.sh", body)));
    assert_eq!(result.exit_code, Some(0), "{output}");
    (output.trim().parse().unwrap(), result.containment)
}

#[test]
fn a_cgroup_below_its_own_does_not_hide_a_daemon() {
    if !has_cgroups() || !nix::unistd::geteuid().is_root() {
        println!("TIER: NO CGROUP SCOPE OR NOT ROOT HERE: cgroups below the script's own were not tried");
        return;
    }
    let bench = Bench::new();
    let sleep = unique_sleep();
    let body = format!(
        "own=$(sed -n s/^0:://p /proc/self/cgroup); mount=$(awk '$3 == \"cgroup2\" {{print $2}}' /proc/mounts)\n\
         mkdir \"$mount$own/below\"; sleep {sleep} & echo $! > \"$mount$own/below/cgroup.procs\"; exit 0"
    );
    let (result, output) = bench.run(&body);
    assert_eq!((result.exit_code, result.leftovers_killed), (Some(0), 1), "{output}");
    assert_eq!(live_with(&sleep), [] as [i32; 0]);
}

#[test]
fn a_script_that_stops_itself_is_dead_when_its_grace_is_over() {
    both_scopes("self-stopped", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let name = bench.script("stop.sh", "trap '' TERM; kill -STOP $$; sleep 300");
        let grace = Duration::from_millis(300);
        let request = ExecuteScriptRequest::new(name).timeout(Duration::from_millis(200)).kill_grace(grace);
        let begun = Instant::now();
        let (result, _) = bench.run_on(&executor, request);
        assert_eq!(result.outcome, Outcome::TimedOut);
        assert!(begun.elapsed() < Duration::from_millis(200 + 300 + 500), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_stopped_script_hears_that_it_is_to_end() {
    let bench = Bench::new();
    let name = bench.script("stop.sh", "trap 'echo heard; exit 0' TERM; kill -STOP $$; sleep 300");
    let request = ExecuteScriptRequest::new(name).timeout(Duration::from_millis(300));
    let (result, output) = bench.run_on(&bench.executor(), request);
    assert_eq!((result.outcome.clone(), output.as_str()), (Outcome::TimedOut, "heard\n"));
}

#[test]
fn a_stopped_leftover_hears_that_it_is_to_end() {
    both_scopes("stopped leftover", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let child = "trap \"echo heard; exit 0\" TERM; kill -STOP $$; sleep 300";
        let body =
            format!("sh -c '{child}' & while ! grep -q 'State:.T' /proc/$!/status; do :; done; exit 0");
        let (result, output) =
            bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("stop.sh", &body)));
        assert_eq!((result.leftovers_killed, output.as_str()), (1, "heard\n"));
    });
}

#[test]
fn a_whole_group_that_was_stopped_is_dead_when_its_grace_is_over() {
    both_scopes("stopped group", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let sleep = unique_sleep();
        let name = bench.script("stop.sh", &format!("trap '' TERM; sleep {sleep} & kill -STOP 0; wait"));
        let request = ExecuteScriptRequest::new(name)
            .timeout(Duration::from_millis(300))
            .kill_grace(Duration::from_millis(200));
        let begun = Instant::now();
        let (result, _) = bench.run_on(&executor, request);
        assert_eq!(result.outcome, Outcome::TimedOut);
        assert!(begun.elapsed() < Duration::from_millis(300 + 200 + 500), "{:?}", begun.elapsed());
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
    });
}

#[test]
fn a_frozen_cgroup_is_killed_all_the_same() {
    if !has_cgroups() || !nix::unistd::geteuid().is_root() {
        println!("TIER: NO CGROUP SCOPE OR NOT ROOT HERE: a frozen cgroup was not tried");
        return;
    }
    let bench = Bench::new();
    let body = "own=$(sed -n s/^0:://p /proc/self/cgroup); mount=$(awk '$3 == \"cgroup2\" {print $2}' /proc/mounts)\n\
        echo frozen; echo 1 > \"$mount$own/cgroup.freeze\"; echo thawed; sleep 300";
    let request = ExecuteScriptRequest::new(bench.script("freeze.sh", body))
        .timeout(Duration::from_millis(500))
        .kill_grace(Duration::from_millis(200));
    let begun = Instant::now();
    let (result, output) = bench.run_on(&bench.executor(), request);
    assert_eq!((result.outcome.clone(), output.as_str()), (Outcome::TimedOut, "frozen\n"));
    assert!(begun.elapsed() < Duration::from_millis(500 + 200 + 500), "{:?}", begun.elapsed());
}

#[test]
fn what_runs_beside_an_execution_is_not_touched_by_its_end() {
    both_scopes("bystanders", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let other = bench
            .start_on(&executor, ExecuteScriptRequest::new(bench.script("other.sh", "echo up; sleep 300")));
        bench.wait_for_output(&other, "up");
        let (result, _) =
            bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("leak.sh", "sleep 300 & exit 0")));
        assert_eq!(result.leftovers_killed, 1);
        assert_eq!(other.result(), None);
        other.cancel();
        assert_eq!(bench.wait(&other).outcome, Outcome::Cancelled);
    });
}

#[test]
fn an_end_by_any_signal_is_told_real_time_ones_too() {
    let bench = Bench::new();
    for signal in [9, 11, 34, 64] {
        let (result, _) = bench.run(&format!("kill -{signal} $$; sleep 5"));
        assert_eq!(result.outcome, Outcome::Signaled { signal });
        assert_eq!((result.exit_code, result.command_line_code()), (None, 128 + signal));
        assert!(!fs::read(bench.path("scripts/once.sh")).unwrap().is_empty());
    }
}

fn kill(pid: i32) {
    use nix::sys::signal::{Signal, kill};
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}
