//! The agent is killed at random moments under load, again and again on one state folder: no task that was acknowledged is
//! lost, no attempt of one is started twice or has another one's result, and no end that was told changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use task_service::{
    Execution, Outcome, Plan, Records, Refusal, RetryKind, RetryPolicy, RunnerRegistry, StartFuture, Task,
    TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus,
};

use crate::support::{exited, settings, soon};

/// Where the helper process finds the state folder; unset, this binary is an ordinary test.
const STATE: &str = "TASK_SERVICE_CRASH_STATE";
/// Which round it is, for ids that are new.
const ROUND: &str = "TASK_SERVICE_CRASH_ROUND";
/// Kills in the test, and in each of its twins.
const KILLS: (u32, u32) = (50, 8);

/// How often tasks are tried again that are.
const RETRIES: u32 = 2;

/// A runner that notes each start in a file before it does anything, takes a moment, and leaves a record of every
/// second task. Some are tried again: their attempts exit with their number, but for the last.
struct Noting(PathBuf);

impl TaskRunner for Noting {
    fn name(&self) -> &str {
        "noting"
    }

    fn description(&self) -> &str {
        "notes its starts"
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        let retry = RetryPolicy {
            retries: spec.retries.unwrap_or(0),
            on: [RetryKind::Exited, RetryKind::Interrupted].into(),
            delay: Duration::from_millis(1),
        };
        Ok(Plan { workspace: spec.work_dir.clone(), retry, ..Plan::default() })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(self.0.join("starts"));
            // In one write: two could be torn apart by the kill, or by another start.
            file.unwrap().write_all(format!("{} {}\n", order.id, order.attempt).as_bytes()).unwrap();
            let records = Records::open(&self.0).unwrap();
            let (execution, driver) = Execution::new(order.id.clone(), records.log_path(&order.id));
            tokio::spawn(async move {
                let number = order.id.as_str().bytes().map(u32::from).sum::<u32>();
                // Work, not synchronisation: so that there is something to be killed in.
                tokio::time::sleep(Duration::from_micros(u64::from(number % 7) * 400)).await;
                let is_last = order.attempt > order.spec.retries.unwrap_or(0);
                let result = exited(if is_last { 0 } else { i32::try_from(order.attempt).unwrap() });
                if number % 2 == 0 {
                    let (id, result) = (order.id.clone(), result.clone());
                    let written = tokio::task::spawn_blocking(move || records.write_result(&id, &result));
                    written.await.unwrap().unwrap();
                }
                driver.finish(result);
            });
            Ok(execution)
        })
    }
}

async fn service(state: &Path) -> TaskService {
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(Noting(state.to_owned()))).unwrap();
    TaskService::open(settings(state, 3, 10_000), registry).await.unwrap()
}

/// The process that is killed. It says `accepted <id>` and `ended <id> <state>` once it was told so itself.
#[tokio::test(flavor = "multi_thread")]
async fn helper_process_of_the_crash_tests() {
    let (Ok(state), Ok(round)) = (std::env::var(STATE), std::env::var(ROUND)) else {
        return;
    };
    let service = service(Path::new(&state)).await;
    let submitters = (0..4).map(|submitter| {
        let (service, round) = (service.clone(), round.clone());
        tokio::spawn(async move {
            for number in 0_u32.. {
                let id = format!("r{round}-{submitter}-{number}");
                let work_dir = (number % 5 == 0).then(|| "shared".parse().unwrap());
                let retries = (number % 3 == 0).then_some(RETRIES);
                let id_of_task = Some(id.parse().unwrap());
                let spec = TaskSpec { id: id_of_task, work_dir, retries, ..TaskSpec::new("noting") };
                let task = service.submit(spec, "tester").await.unwrap().task;
                println!("\naccepted {id}");
                let service = service.clone();
                let wait = async move {
                    let ended = service.wait(&task.id).await.unwrap().unwrap();
                    println!("\nended {} {}", ended.id, ended.status);
                };
                if number % 4 == 3 { wait.await } else { drop(tokio::spawn(wait)) }
            }
        })
    });
    for submitter in submitters.collect::<Vec<_>>() {
        submitter.await.unwrap();
    }
}

/// What the killed processes had said.
#[derive(Default)]
struct Told {
    accepted: BTreeSet<String>,
    ended: BTreeMap<String, String>,
}

/// Runs a helper on the folder and kills it when it has said `lines` lines.
fn run_and_kill(state: &Path, round: u32, lines: usize, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::helper_process_of_the_crash_tests", "--nocapture"])
        .env(STATE, state)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["accepted", id] => drop(told.accepted.insert(id.to_owned())),
            ["ended", id, status] => {
                if let Some(before) = told.ended.insert(id.to_owned(), status.to_owned()) {
                    assert_eq!(before, status, "{id} has ended twice");
                }
            }
            _ => continue,
        }
        said += 1;
        if said == lines {
            // The rest of what it says until it is dead is read and counts as well.
            child.kill().unwrap();
        }
    }
    assert!(said >= lines, "the helper ended by itself: {:?}", child.wait());
    child.wait().unwrap();
}

/// Kills so often, with `weaken` done to the folder after each kill, and names every promise that was broken.
async fn broken_promises(kills: u32, weaken: impl Fn(&Path)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    for round in 0..kills {
        let lines = 1 + (round as usize * 7919) % 61;
        let state = folder.path().to_owned();
        let mut so_far = std::mem::take(&mut told);
        told = tokio::task::spawn_blocking(move || {
            run_and_kill(&state, round, lines, &mut so_far);
            so_far
        })
        .await
        .unwrap();
        weaken(folder.path());
    }
    let service = service(folder.path()).await;
    let mut broken = Vec::new();
    for id in &told.accepted {
        match soon(service.wait(&id.parse().unwrap())).await.unwrap() {
            None => broken.push(format!("{id} was accepted and is lost")),
            Some(task) if !task.status.is_terminal() => broken.push(format!("{id} never ended")),
            Some(task) => {
                broken.extend(broken_attempts(folder.path(), &task));
                let before = told.ended.get(id).filter(|before| **before != task.status.as_str());
                broken.extend(before.map(|before| format!("{id} was {before} and is {}", task.status)));
            }
        }
    }
    let mut started = BTreeSet::new();
    for attempt in std::fs::read_to_string(folder.path().join("starts")).unwrap().lines() {
        if !started.insert(attempt.to_owned()) {
            broken.push(format!("{attempt} was started twice"));
        }
    }
    let interrupted =
        task_service::TaskFilter { statuses: vec![TaskStatus::Interrupted], ..Default::default() };
    let interrupted = service.list(interrupted, 1000, None).await.unwrap().tasks.len();
    println!(
        "{kills} kills: {} accepted, {} told to have ended, {} started, {interrupted} interrupted",
        told.accepted.len(),
        told.ended.len(),
        started.len()
    );
    soon(service.drain(Duration::ZERO)).await;
    broken
}

/// What is wrong with the attempts of a task that has ended.
fn broken_attempts(state: &Path, task: &Task) -> Vec<String> {
    let mut broken = Vec::new();
    let most = task.spec.retries.unwrap_or(0) + 1;
    let numbers: Vec<u32> = task.attempts.iter().map(|ended| ended.attempt).collect();
    if task.attempt > most || numbers != (1..task.attempt).collect::<Vec<_>>() {
        broken.push(format!("{} has had {} attempts, of which {numbers:?} are told", task.id, task.attempt));
    }
    let records = Records::open(state).unwrap();
    for ended in &task.attempts {
        let (id, number) = (&task.id, ended.attempt);
        let own = i32::try_from(number).ok();
        if ended.outcome != Outcome::Interrupted && ended.exit_code != own {
            broken.push(format!("{id} {number} has another attempt's result: {:?}", ended.outcome));
        }
        let kept = records.attempt_result(id, number).unwrap();
        if kept.is_none_or(|result| result.exit_code != ended.exit_code) {
            broken.push(format!("{id} {number} is lost"));
        }
    }
    let code = task.result.as_ref().and_then(|result| result.exit_code);
    if code.is_some_and(|code| code != 0) {
        broken.push(format!("{} ended with an attempt's result: {code:?}", task.id));
    }
    broken
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_result_is_taken_for_the_next_ones_would_be_noticed() {
    let broken = broken_promises(KILLS.1, |state| {
        for record in std::fs::read_dir(state.join("tasks")).unwrap().map(|entry| entry.unwrap().path()) {
            let attempts = std::fs::read_dir(record.join("attempts")).into_iter().flatten();
            let newest = attempts.map(|entry| entry.unwrap().path()).max();
            // As if nothing had been set aside.
            if let Some(newest) = newest.filter(|newest| newest.join("result.json").exists())
                && !record.join("result.json").exists()
            {
                std::fs::copy(newest.join("result.json"), record.join("result.json")).unwrap();
            }
        }
    })
    .await;
    let is_mistaken = |what: &String| what.contains("attempt's result");
    assert!(broken.iter().any(is_mistaken), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_load_lose_nothing_and_start_nothing_twice() {
    assert_eq!(broken_promises(KILLS.0, |_| {}).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_lost_at_a_kill_would_be_noticed() {
    let broken =
        broken_promises(KILLS.1, |state| std::fs::remove_file(state.join("agent.db")).unwrap()).await;
    assert!(broken.iter().any(|what| what.ends_with("is lost")), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_starts_running_tasks_again_would_be_noticed() {
    let broken = broken_promises(KILLS.1, |state| {
        let database = rusqlite::Connection::open(state.join("agent.db")).unwrap();
        database.execute("UPDATE task SET status = 'queued' WHERE status = 'running'", []).unwrap();
        // As if no record was looked at either.
        std::fs::remove_dir_all(state.join("tasks")).unwrap();
    })
    .await;
    assert!(broken.iter().any(|what| what.ends_with("started twice")), "{broken:?}");
}
