//! What runs is what was verified, to the byte, even while somebody rewrites the scripts folder: the race that
//! CVE-2015-8239 is about, run many thousand times.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use executor_integrity::{VerificationMode, VerifyPolicy, verify};
use task_runners::{ExecuteScriptRequest, Refusal, ScriptExecutor, ScriptRunner, TaskSpec};

use crate::place::{Place, write_executable};

/// Runs that the promise is shown by.
const RUNS: u64 = 20_000;
/// Runs under way at once.
const WORKERS: u64 = 4;
/// What the vouched-for script says, and what a changed one would say.
const GOOD: &str = "#!/bin/sh\necho good\n";
const CHANGED: &str = "#!/bin/sh\necho changed\n";
/// How long the attacker leaves each content: long enough for a verification to succeed now and then, short enough for
/// it to change between that and the start.
const HOLD: Duration = Duration::from_micros(200);
/// Where the weakened twin gives up looking for the attack to succeed.
const TWIN_LIMIT: Duration = Duration::from_secs(60);

/// Rewrites the script again and again, in place and by rename, to changed bytes and back, until it is dropped.
struct Attacker {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Attacker {
    /// Each content stays for so long.
    fn start(script: PathBuf, hold: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let aside = script.parent().unwrap().parent().unwrap().join("aside.sh");
            let mut rewrites = 0;
            while !stopped.load(Ordering::Relaxed) {
                for content in [CHANGED, GOOD] {
                    rewrite_in_place(&script, content);
                    std::thread::sleep(hold);
                }
                for content in [CHANGED, GOOD] {
                    write_executable(&aside, content);
                    std::fs::rename(&aside, &script).unwrap();
                    std::thread::sleep(hold);
                }
                rewrites += 4;
            }
            rewrites
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it, and says how often it rewrote the script.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The kernel lets nobody write to a file in the moment in which it is executed (ETXTBSY, execve(2)), which happens to
/// the twin that executes the path; the attacker goes on with its next content then.
fn rewrite_in_place(script: &Path, content: &str) {
    match std::fs::write(script, content) {
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
        written => written.unwrap(),
    }
}

#[derive(Default)]
struct Counts {
    good: AtomicU64,
    changed: AtomicU64,
    refused: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_byte_is_executed_in_twenty_thousand_raced_runs() {
    let place = Place::new();
    place.script("raced.sh", GOOD);
    place.manifest();
    let executor = place.executor();
    let in_use = ScriptRunner::new(executor.clone(), place.scripts(VerificationMode::Always));
    let attacker = Attacker::start(place.scripts_dir().join("raced.sh"), HOLD);
    let counts = Arc::new(Counts::default());
    let place = Arc::new(place);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (place, executor, in_use, counts) =
            (place.clone(), executor.clone(), in_use.clone(), counts.clone());
        workers.spawn(async move {
            for run in (worker..RUNS).step_by(usize::try_from(WORKERS).unwrap()) {
                // Half of them verify the folder afresh, as the command line does; the other half run from the
                // snapshot in use while the folder is verified again and again, as the service does.
                if run % 2 == 0 {
                    let fresh = ScriptRunner::new(executor.clone(), place.scripts(VerificationMode::Always));
                    raced_run(&fresh, &counts).await;
                } else {
                    in_use.scripts().refresh();
                    raced_run(&in_use, &counts).await;
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let rewrites = attacker.stop();
    let [good, changed, refused] =
        [&counts.good, &counts.changed, &counts.refused].map(|count| count.load(Ordering::Relaxed));
    println!("{good} ran as vouched for, {changed} changed, {refused} refused, {rewrites} rewrites");
    assert_eq!(changed, 0);
    assert_eq!(good + refused, RUNS);
    assert!(good >= RUNS / 2, "the snapshot in use stays in use: {good}");
    assert!(refused > 0, "the race was run: {rewrites} rewrites");
}

async fn raced_run(runner: &ScriptRunner, counts: &Counts) {
    let count = match runner.request(&TaskSpec::new("raced.sh"), Vec::new()) {
        Ok((request, _)) => match says(runner.executor(), request).await.as_str() {
            "good\n" => &counts.good,
            _ => &counts.changed,
        },
        Err(Refusal::Unverified { .. }) => &counts.refused,
        Err(other) => panic!("refused for another reason than the folder: {other}"),
    };
    count.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_executes_the_checked_path_runs_changed_bytes() {
    let place = Place::new();
    place.script("raced.sh", GOOD);
    place.manifest();
    let executor = place.executor();
    let attacker = Attacker::start(place.scripts_dir().join("raced.sh"), HOLD);
    let deadline = Instant::now() + TWIN_LIMIT;
    let (mut changed, mut verified, mut tries) = (0, 0, 0);
    while changed == 0 {
        let counts = format!("{verified} of {tries} tries verified");
        assert!(
            Instant::now() < deadline,
            "the attack did not succeed where nothing is done against it: {counts}"
        );
        tries += 1;
        // Verify, then execute the path that was verified: what a build without snapshots would do.
        if verify(&place.scripts_dir(), &VerifyPolicy::default()).is_err() {
            continue;
        }
        verified += 1;
        let request = ExecuteScriptRequest::new("raced.sh");
        if let Ok(execution) = executor.start(request).await {
            let result = execution.wait().await;
            changed += u64::from(result.success && body(&executor, &execution, &result) == "changed\n");
        }
    }
    attacker.stop();
}

async fn says(executor: &ScriptExecutor, request: ExecuteScriptRequest) -> String {
    let execution = executor.start(request).await.unwrap();
    let result = execution.wait().await;
    assert!(result.success, "{result:?}");
    body(executor, &execution, &result)
}

fn body(
    executor: &ScriptExecutor,
    execution: &task_runners::Execution,
    result: &task_runners::ExecutionResult,
) -> String {
    let text = crate::place::body(execution.log_path(), &result.log);
    // Twenty thousand records are not kept while the test runs.
    std::fs::remove_dir_all(executor.records().folder(execution.id())).unwrap();
    text
}
