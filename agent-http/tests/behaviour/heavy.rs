//! The service is killed at a hundred random moments under load, and started again each time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{LONG, Random, Service, Site, eventually, read_reply, request_text, tasks};

/// How often the service is killed.
const KILLS: u64 = 100;
/// Most time between its start and its death, milliseconds.
const MAX_LIFE_MS: u64 = 120;
/// The promise: tasks of the dead service have their end by then.
const RECOVERY: Duration = Duration::from_secs(5);
/// Slots, few enough that most tasks wait.
const SETTINGS: &str = "[limits]\nconcurrent = 4\n";

/// Notes its start, leaves a daemon behind, and writes a log whose end can be told.
const SCRIPT: &str = r#"#!/bin/sh
echo "$TASK_ID" >>"$1"
setsid sleep 300 &
n=0
while [ "$n" -lt 200 ]; do n=$((n + 1)); echo "line $n of $TASK_ID"; done
sleep "$2"
echo "the end of $TASK_ID"
"#;

/// What is known of a task from answers alone.
#[derive(Default)]
struct Known {
    /// Ids whose submission was answered, in the order of their submissions.
    acknowledged: Vec<String>,
    /// The first end that was told of a task.
    ends: HashMap<String, Value>,
}

#[test]
fn a_hundred_kills_under_load_lose_nothing_start_nothing_twice_and_leave_nothing_running() {
    let mut site = Site::new(SETTINGS);
    site.write_script("work.sh", SCRIPT);
    site.write_script("beside.sh", "#!/bin/sh\necho beside\nuntil [ -e \"$1\" ]; do sleep 0.05; done\n");
    let starts = site.path("starts");
    std::fs::write(&starts, "").unwrap();
    let mut beside = run_beside(&site);
    let mut random = Random::new();
    let mut known = Known::default();
    for _ in 0..KILLS {
        let started_before = std::fs::read_to_string(&starts).unwrap();
        let (since, began) = (jiff::Timestamp::now(), Instant::now());
        let service = site.start();
        assert!(began.elapsed() < RECOVERY, "it took {:?} to recover", began.elapsed());
        check_no_old_task_is_running(&service, since, &started_before.lines().collect());
        known.look(&service);
        let life = Duration::from_millis(random.below(MAX_LIFE_MS));
        load(&service, &mut known, &starts, &mut random, life);
        site = service.killed();
    }
    let service = site.start();
    let ends = all_ended(&service, &mut known);
    check_starts(&starts, &ends);
    check_order(&known, &ends);
    check_logs(&service, &ends);
    std::fs::write(service.site.path("release"), "").unwrap();
    assert!(beside.wait().unwrap().success(), "the run beside the service was touched");
    let mut said = String::new();
    beside.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "beside\n");
    let site = service.stop();
    assert_eq!(processes_of(site.folder()), Vec::<String>::new());
    print_summary(&known, &ends);
}

/// A script of the command line on the same state folder, which lasts as long as the test.
fn run_beside(site: &Site) -> Child {
    let program = Path::new(env!("CARGO_BIN_EXE_agent-http")).with_file_name("agent-cli");
    assert!(program.exists(), "{} is not built: cargo build --bin agent-cli", program.display());
    let mut command = Command::new(program);
    command.args(["--config"]).arg(site.path("application.toml")).args(["run", "beside.sh"]);
    command.arg(site.path("release")).current_dir(site.folder()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Submits until the time is over or nobody answers.
fn load(service: &Service, known: &mut Known, starts: &Path, random: &mut Random, life: Duration) {
    let end = Instant::now() + life;
    while Instant::now() < end {
        let pause = format!("0.0{}", random.below(9));
        let body = json!({ "name": "work.sh", "args": [starts, pause] });
        let Some(id) = try_submit(service, &body) else { return };
        known.acknowledged.push(id);
    }
}

fn try_submit(service: &Service, body: &Value) -> Option<String> {
    let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(body));
    let mut stream = TcpStream::connect(service.at).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let reply = read_reply(&mut BufReader::new(stream), false)?;
    assert_eq!(reply.status, 202, "{}", reply.text());
    Some(reply.id())
}

/// Whatever runs now was started by this service alone: since its own start, and never before.
fn check_no_old_task_is_running(service: &Service, since: jiff::Timestamp, before: &BTreeSet<&str>) {
    for task in tasks(service, "&status=running") {
        let started: jiff::Timestamp = task["started_at"].as_str().unwrap().parse().unwrap();
        let is_old = started < since || before.contains(task["id"].as_str().unwrap());
        assert!(!is_old, "a task of a dead service is still running: {task}");
    }
}

impl Known {
    /// Looks at all tasks: an end that was told once stays as it was.
    fn look(&mut self, service: &Service) {
        for task in tasks(service, "") {
            let id = task["id"].as_str().unwrap().to_owned();
            if let Some(before) = self.ends.get(&id) {
                assert_eq!(before["status"], task["status"], "an end changed");
                assert_eq!(before["result"], task["result"], "a result changed");
            } else if !task["ended_at"].is_null() {
                self.ends.insert(id, task);
            }
        }
    }
}

/// Waits until every task has its end; every acknowledged one is there.
fn all_ended(service: &Service, known: &mut Known) -> BTreeMap<String, Value> {
    eventually("the end of all tasks", || {
        let open = tasks(service, "&status=queued").len() + tasks(service, "&status=running").len();
        (open == 0).then_some(())
    });
    known.look(service);
    let lost: Vec<_> = known.acknowledged.iter().filter(|id| !known.ends.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for task in known.ends.values() {
        let status = task["status"].as_str().unwrap();
        assert!(["succeeded", "interrupted"].contains(&status), "{task}");
        assert!(!task["result"].is_null(), "{task}");
    }
    known.ends.clone().into_iter().collect()
}

fn check_starts(starts: &Path, ends: &BTreeMap<String, Value>) {
    let text = std::fs::read_to_string(starts).unwrap();
    let mut seen = BTreeSet::new();
    for id in text.lines() {
        assert!(seen.insert(id), "{id} was started twice");
    }
    for (id, task) in ends.iter().filter(|(_, task)| task["status"] == "succeeded") {
        assert!(seen.contains(id.as_str()), "it succeeded and was not started: {task}");
    }
}

/// Those that were run to their end were started in the order in which they were accepted.
fn check_order(known: &Known, ends: &BTreeMap<String, Value>) {
    let started: Vec<jiff::Timestamp> = known
        .acknowledged
        .iter()
        .filter_map(|id| ends[id]["started_at"].as_str())
        .map(|at| at.parse().unwrap())
        .collect();
    assert!(started.is_sorted(), "tasks overtook others");
}

fn check_logs(service: &Service, ends: &BTreeMap<String, Value>) {
    for (id, _) in ends.iter().filter(|(_, task)| task["status"] == "succeeded") {
        let log = service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text();
        let lines: String = (1..=200).map(|n| format!("line {n} of {id}\n")).collect();
        assert_eq!(log, format!("{lines}the end of {id}\n"));
    }
}

/// Processes whose environment names the folder: scripts and what they left.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains(folder) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

fn print_summary(known: &Known, ends: &BTreeMap<String, Value>) {
    let count = |status: &str| ends.values().filter(|task| task["status"] == status).count();
    println!(
        "{KILLS} kills: {} acknowledged, {} known, {} succeeded, {} interrupted",
        known.acknowledged.len(),
        ends.len(),
        count("succeeded"),
        count("interrupted"),
    );
    assert!(count("interrupted") > 0 && count("succeeded") > 0, "the kills met no running task");
}
