//! An agent that died under its scripts: the next one on the state folder ends them and says so, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use executor_core::{ExecuteScriptRequest, KillScope, Outcome};
use nix::fcntl::{Flock, FlockArg};

use crate::bench::{
    Bench, both_scopes, builder_in, eventually, live_with, task_id, unique_sleep, write_script,
};
use crate::helper::Helper;

/// Time in which everything must be as it should after the next start.
const LIMIT: Duration = Duration::from_secs(5);

/// Lets another agent start scripts and die by SIGKILL; gives what tells their processes from all others. The scripts
/// are `t0`, `t1` and so on, each of which has a child that ignores TERM.
pub(crate) fn dead_agent(bench: &Bench, scope: KillScope, scripts: usize) -> String {
    let sleep = unique_sleep();
    let body = format!("#!/bin/sh\ntrap '' TERM\necho hello\nsleep {sleep} & sleep {sleep}\n");
    write_script(&bench.path("scripts"), "slow.sh", &body);
    fs::write(bench.path("scope"), if scope == KillScope::Cgroup { "cgroup" } else { "marker" }).unwrap();
    fs::write(bench.path("count"), scripts.to_string()).unwrap();
    let mut helper = Helper::start("run until killed", &bench.path(""));
    eventually("the other agent did not start", || bench.path("started").exists());
    eventually("its scripts did not start", || live_with(&sleep).len() == 2 * scripts);
    helper.kill();
    assert_eq!(live_with(&sleep).len(), 2 * scripts, "they died with their agent");
    sleep
}

pub(crate) fn help(folder: &Path) {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let scope = if text("scope") == "cgroup" { KillScope::Cgroup } else { KillScope::Marker };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).kill_scope(scope).build().unwrap();
    runtime.block_on(async {
        for number in 0..text("count").parse::<usize>().unwrap() {
            let request = ExecuteScriptRequest::new("slow.sh").id(format!("t{number}"));
            let execution = executor.start(request).await.unwrap();
            // Its first line is in the log before the agent may die.
            let mut log = execution.log().unwrap();
            log.wait_beyond(log.progress().header_bytes).await;
        }
        fs::write(folder.join("started"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

/// The file of the one agent that the state folder knows.
pub(crate) fn instance_file(bench: &Bench) -> PathBuf {
    let mut files = fs::read_dir(bench.path("state/instances")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

/// What the file of the one agent that the state folder knows says of it.
pub(crate) fn instance_header(bench: &Bench) -> serde_json::Value {
    let text = fs::read(instance_file(bench)).unwrap();
    serde_json::from_slice(&text[..4096]).unwrap()
}

/// The scratch folder of the one agent that the state folder knows.
pub(crate) fn scratch_of_instance(bench: &Bench) -> PathBuf {
    PathBuf::from(instance_header(bench)["scratch"].as_str().unwrap())
}

#[test]
fn a_record_that_cannot_be_written_does_not_keep_the_others_from_their_results() {
    let bench = Bench::new();
    dead_agent(&bench, KillScope::Marker, 3);
    // As a script with the agent's own rights could leave it.
    let (record, elsewhere) = (bench.path("state/tasks/t0"), bench.path("elsewhere"));
    fs::rename(&record, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &record).unwrap();
    let executor = bench.executor();
    for id in ["t1", "t2"] {
        let result = bench.records().read_result(&task_id(id)).unwrap().expect("a task without a result");
        assert_eq!(result.outcome, Outcome::Interrupted);
    }
    assert!(!elsewhere.join("result.json").exists(), "the result went through the link");
    // It is tried again, and works once the record is back.
    fs::remove_file(&record).unwrap();
    fs::rename(&elsewhere, &record).unwrap();
    assert_eq!(executor.recover().unwrap().len(), 1);
    let result = bench.records().read_result(&task_id("t0")).unwrap().unwrap();
    assert_eq!(result.outcome, Outcome::Interrupted);
}

#[test]
fn a_pipe_or_a_link_in_the_place_of_a_log_holds_no_recovery_up_and_is_not_followed() {
    let bench = Bench::new();
    dead_agent(&bench, KillScope::Marker, 2);
    for id in ["t0", "t1"] {
        fs::remove_file(bench.path("state/tasks").join(id).join("stdout.txt")).unwrap();
    }
    nix::unistd::mkfifo(&bench.path("state/tasks/t0/stdout.txt"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/proc/kmsg", bench.path("state/tasks/t1/stdout.txt")).unwrap();
    let begun = Instant::now();
    bench.executor();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    for id in ["t0", "t1"] {
        let result = bench.records().read_result(&task_id(id)).unwrap().expect("a task without a result");
        assert_eq!((result.outcome, result.log.bytes), (Outcome::Interrupted, 0));
    }
}

#[test]
fn what_a_dead_agent_left_running_is_killed_and_every_task_of_it_is_interrupted() {
    both_scopes("SIGKILL of the agent", |scope| {
        let bench = Bench::new();
        let sleep = dead_agent(&bench, scope, 3);
        let scratch = scratch_of_instance(&bench);
        assert!(scratch.is_dir());
        let begun = Instant::now();
        let executor = bench.executor();
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
        for id in ["t0", "t1", "t2"] {
            let result = bench.records().read_result(&task_id(id)).unwrap().expect("a task without a result");
            assert_eq!((result.outcome, result.success), (Outcome::Interrupted, false));
            assert_eq!(result.error.unwrap().code, "agent_died");
            assert_eq!(result.log.bytes, bench.log(id).len() as u64);
            assert!(String::from_utf8_lossy(&bench.log(id)).ends_with("hello\n"));
        }
        assert!(!scratch.exists(), "the dead agent's scratch is still there");
        // Only the new one's own file is left, and a second look finds nothing to do.
        instance_file(&bench);
        assert_eq!(executor.recover().unwrap(), []);
    });
}

#[test]
fn without_a_recovery_they_live_on() {
    // The twin: what the test above kills would be there for good.
    let bench = Bench::new();
    let sleep = dead_agent(&bench, KillScope::Marker, 1);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(live_with(&sleep).len(), 2);
    bench.executor();
    assert_eq!(live_with(&sleep), [] as [i32; 0]);
}

#[test]
fn recover_tells_what_it_did() {
    both_scopes("recover", |scope| {
        let bench = Bench::new();
        let executor = bench.executor();
        dead_agent(&bench, scope, 2);
        let recovered = executor.recover().unwrap();
        assert_eq!(recovered.len(), 1);
        let mut tasks: Vec<_> = recovered[0].tasks.iter().map(|id| id.as_str()).collect();
        tasks.sort();
        assert_eq!(tasks, ["t0", "t1"]);
        // Two children of two shells; a shell may end by itself once its children are dead.
        assert!((4..=6).contains(&recovered[0].killed), "{}", recovered[0].killed);
    });
}

#[test]
fn a_live_agent_and_what_it_runs_is_left_alone() {
    both_scopes("a live agent beside a dead one", |scope| {
        let bench = Bench::new();
        let living = bench.builder().kill_scope(scope).build().unwrap();
        let name =
            bench.script("living.sh", "echo up; while ! [ -e ../../../go ]; do sleep 0.01; done; echo done");
        let execution = bench.start_on(&living, ExecuteScriptRequest::new(name).id("living"));
        bench.wait_for_output(&execution, "up");
        let sleep = dead_agent(&bench, scope, 2);
        bench.executor();
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
        assert_eq!(execution.result(), None);
        assert!(bench.records().read_result(&task_id("living")).unwrap().is_none());
        fs::write(bench.path("go"), "").unwrap();
        assert_eq!(bench.wait(&execution).exit_code, Some(0));
    });
}

#[test]
fn a_lock_that_outlives_its_agent_for_a_moment_is_waited_for() {
    // As a child holds it that was just being started when the agent died.
    let bench = Bench::new();
    let sleep = dead_agent(&bench, KillScope::Marker, 1);
    let file = fs::File::open(instance_file(&bench)).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    let held = Duration::from_millis(200);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(held);
            drop(lock);
        });
        bench.executor();
    });
    assert!(begun.elapsed() >= held, "it was not waited for");
    assert_eq!(live_with(&sleep), [] as [i32; 0]);
}

#[test]
fn after_a_restart_of_the_machine_nothing_is_killed_and_the_tasks_are_interrupted() {
    both_scopes("another boot", |scope| {
        let bench = Bench::new();
        let sleep = dead_agent(&bench, scope, 1);
        let path = instance_file(&bench);
        let text = fs::read_to_string(&path).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(text.contains(boot.trim()));
        let another = text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
        fs::write(&path, another).unwrap();
        bench.executor();
        assert_eq!(live_with(&sleep).len(), 2, "numbers of another start of the machine were believed");
        let result = bench.records().read_result(&task_id("t0")).unwrap().unwrap();
        assert_eq!(result.outcome, Outcome::Interrupted);
        // The twin: with the true one they are.
        fs::write(&path, text).unwrap();
        bench.executor();
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
    });
}

#[test]
fn a_result_that_was_written_before_the_agent_died_stands() {
    let bench = Bench::new();
    dead_agent(&bench, KillScope::Marker, 1);
    let (result, _) = bench.run_on(
        &builder_in(&bench.path("elsewhere")).script_dir(bench.path("scripts")).build().unwrap(),
        ExecuteScriptRequest::new(bench.script("quick.sh", "exit 3")).id("t0"),
    );
    bench.records().write_result(&task_id("t0"), &result).unwrap();
    bench.executor();
    assert_eq!(bench.records().read_result(&task_id("t0")).unwrap().as_ref(), Some(&*result));
}

#[test]
fn whenever_an_agent_dies_every_task_that_it_began_has_one_result_and_no_process() {
    both_scopes("SIGKILL at many points", |scope| {
        let bench = Bench::new();
        let sleep = unique_sleep();
        bench.script("brief.sh", &format!("sleep {sleep} & sleep {sleep} & echo A=1 > \"$TASK_OUTPUT\""));
        fs::write(bench.path("scope"), if scope == KillScope::Cgroup { "cgroup" } else { "marker" }).unwrap();
        let mut interrupted = 0;
        for round in 0..20 {
            let mut helper = Helper::start("run many until killed", &bench.path(""));
            let started = bench.path("started");
            eventually("the other agent did not start", || started.exists());
            // Not for anything to happen: the very moment is what is to differ.
            std::thread::sleep(Duration::from_millis(round * 7 % 60));
            helper.kill();
            fs::remove_file(started).unwrap();
            let begun = Instant::now();
            let executor = bench.executor();
            assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
            assert_eq!(live_with(&sleep), [] as [i32; 0], "in round {round}");
            interrupted += count_interrupted(&bench);
            bench.runtime.block_on(executor.close());
        }
        println!("{interrupted} tasks were interrupted by 20 deaths");
        assert!(interrupted > 0, "none of the deaths met a running task");
    });
}

/// Looks at every record, of which each must have a result if anything was promised for it, and removes them.
fn count_interrupted(bench: &Bench) -> usize {
    let tasks = bench.path("state/tasks");
    let mut interrupted = 0;
    for record in fs::read_dir(&tasks).unwrap() {
        let path = record.unwrap().path();
        let id = task_id(path.file_name().unwrap().to_str().unwrap());
        match bench.records().read_result(&id).unwrap() {
            Some(result) if result.outcome == Outcome::Interrupted => interrupted += 1,
            Some(result) => assert_eq!((result.exit_code, result.output_params.len()), (Some(0), 1)),
            None => panic!("{id} has no result"),
        }
    }
    fs::remove_dir_all(&tasks).unwrap();
    fs::create_dir(&tasks).unwrap();
    interrupted
}

pub(crate) fn help_with_many(folder: &Path) {
    let scope = match fs::read_to_string(folder.join("scope")).unwrap().as_str() {
        "cgroup" => KillScope::Cgroup,
        _ => KillScope::Marker,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).kill_scope(scope).build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            let (executor, started) = (executor.clone(), folder.join("started"));
            tokio::spawn(async move {
                loop {
                    executor.execute(ExecuteScriptRequest::new("brief.sh")).await.unwrap();
                    fs::write(&started, "").unwrap();
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

/// Ways to damage a file, at every 512 bytes of it.
fn damaged(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![("empty".to_owned(), Vec::new())];
    for at in (0..whole.len()).step_by(512) {
        let end = (at + 512).min(whole.len());
        found.push((format!("cut at {at}"), whole[..at].to_vec()));
        for (what, change) in
            [("zeroed", (|_| 0) as fn(u8) -> u8), ("garbled", |byte| byte.wrapping_mul(37) ^ 0x5a)]
        {
            let mut bytes = whole.to_vec();
            bytes[at..end].iter_mut().for_each(|byte| *byte = change(*byte));
            found.push((format!("{what} at {at}"), bytes));
        }
    }
    found
}

#[test]
fn a_damaged_file_of_a_dead_agent_is_set_aside_and_the_start_goes_on() {
    let bench = Bench::new();
    let sleep = dead_agent(&bench, KillScope::Marker, 2);
    let path = instance_file(&bench);
    let whole = fs::read(&path).unwrap();
    let bystander = unique_sleep();
    let mut other = std::process::Command::new("sleep").arg(&bystander).spawn().unwrap();
    let mut set_aside = 0;
    for (what, bytes) in damaged(&whole) {
        fs::write(&path, &bytes).unwrap();
        let executor = bench.builder().build().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!path.exists(), "{what}: it is still there to be tried again");
        set_aside += usize::from(path.with_extension("damaged").exists());
        // Set aside or not, the next start does not stumble over it.
        assert_eq!(executor.recover().unwrap(), [], "{what}");
        let _ = fs::remove_file(path.with_extension("damaged"));
    }
    assert!(set_aside > 20, "{set_aside} were set aside");
    // The name of the agent is in the mark of what it ran, so that even a file without a word in it leads there.
    assert_eq!(live_with(&sleep), [] as [i32; 0]);
    assert_eq!(live_with(&bystander).len(), 1, "something else was killed");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_damaged_result_is_set_aside_and_counts_as_none() {
    let bench = Bench::new();
    let executor = bench.executor();
    let body = "printf 'A=%02000d\\n' 1 > output.env";
    bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("once.sh", body)).id("t1"));
    let (id, path) = (task_id("t1"), bench.path("state/tasks/t1/result.json"));
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 2048);
    for (what, bytes) in damaged(&whole) {
        fs::write(&path, &bytes).unwrap();
        let read = bench.records().read_result(&id).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(read, None, "{what}");
        assert_eq!(fs::read(path.with_extension("json.damaged")).unwrap(), bytes, "{what}");
        assert!(!path.exists());
    }
    // The twin: the whole one is read.
    fs::write(&path, &whole).unwrap();
    assert!(bench.records().read_result(&id).unwrap().is_some());
}

#[test]
fn executors_that_are_made_and_dropped_at_once_on_one_state_folder_do_not_take_each_other_for_dead() {
    let bench = Bench::new();
    let name = bench.script("quick.sh", "exit 0");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..15 {
                    let executor = bench.builder().kill_scope(KillScope::Marker).build().unwrap();
                    let result =
                        bench.runtime.block_on(executor.execute(ExecuteScriptRequest::new(&name))).unwrap();
                    assert!(result.success, "{result:?}");
                    bench.runtime.block_on(executor.close());
                }
            });
        }
    });
    assert_eq!(fs::read_dir(bench.path("state/instances")).unwrap().count(), 0);
}
