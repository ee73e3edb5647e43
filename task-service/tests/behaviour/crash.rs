//! The agent is killed at random moments under load, again and again on one state folder: no task that was acknowledged is
//! lost, none is started twice, and no end that was told changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use task_service::{
    Execution, Plan, Records, Refusal, RunnerRegistry, StartFuture, TaskOrder, TaskRunner, TaskService,
    TaskSpec, TaskStatus,
};

use crate::support::{exited, settings, soon};

/// Where the helper process finds the state folder; unset, this binary is an ordinary test.
const STATE: &str = "TASK_SERVICE_CRASH_STATE";
/// Which round it is, for ids that are new.
const ROUND: &str = "TASK_SERVICE_CRASH_ROUND";
/// Kills in the test, and in each of its twins.
const KILLS: (u32, u32) = (50, 8);

/// A runner that notes each start in a file before it does anything, takes a moment, and leaves a record of every
/// second task.
struct Noting(PathBuf);

impl TaskRunner for Noting {
    fn name(&self) -> &str {
        "noting"
    }

    fn description(&self) -> &str {
        "notes its starts"
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan { workspace: spec.work_dir.clone(), ..Plan::default() })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(self.0.join("starts"));
            // In one write: two could be torn apart by the kill, or by another start.
            file.unwrap().write_all(format!("{}\n", order.id).as_bytes()).unwrap();
            let records = Records::open(&self.0).unwrap();
            let (execution, driver) = Execution::new(order.id.clone(), records.log_path(&order.id));
            tokio::spawn(async move {
                let number = order.id.as_str().bytes().map(u32::from).sum::<u32>();
                // Work, not synchronisation: so that there is something to be killed in.
                tokio::time::sleep(Duration::from_micros(u64::from(number % 7) * 400)).await;
                if number % 2 == 0 {
                    let id = order.id.clone();
                    let written = tokio::task::spawn_blocking(move || records.write_result(&id, &exited(0)));
                    written.await.unwrap().unwrap();
                }
                driver.finish(exited(0));
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
                let spec = TaskSpec { id: Some(id.parse().unwrap()), work_dir, ..TaskSpec::new("noting") };
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
                let before = told.ended.get(id).filter(|before| **before != task.status.as_str());
                broken.extend(before.map(|before| format!("{id} was {before} and is {}", task.status)));
            }
        }
    }
    let mut started = BTreeSet::new();
    for id in std::fs::read_to_string(folder.path().join("starts")).unwrap().lines() {
        if !started.insert(id.to_owned()) {
            broken.push(format!("{id} was started twice"));
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
