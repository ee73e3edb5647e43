//! A canary: a secret that is looked for everywhere that anybody but its script could look, while the script runs, after
//! it has ended, and after the agent died. It is in the script's own file during the run, and nowhere else ever.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::support::{Reply, Service, Site, eventually, exchange};

/// Says where its secret is and how long, and waits at the pipe that it is given. `--plain` is what `--token` is not.
pub(crate) const SCRIPT: &str = r##"#!/bin/sh
#TASK effect="write" secret="token" pattern.token="[a-z0-9-]*" output.LENGTH="Bytes" output_type.LENGTH="int"
#USAGE arg "<gate>"
#USAGE flag "--token <token>"
#USAGE flag "--plain <text>"
echo "LENGTH=$(wc -c < "$usage_token_file")" > "$TASK_OUTPUT"
echo "file $usage_token_file"
read -r line < "$usage_gate"
"##;
const ECHOES: &str = r##"#!/bin/sh
#TASK effect="read" secret="token"
#USAGE flag "--token <token>" required=#true
cat "$usage_token_file"
"##;

/// A service with these scripts whose log says all that it can say.
struct Stage {
    service: Service,
    gate: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let site = Site::new("[limits]\nconcurrent = 1");
        site.write_script("waits.sh", SCRIPT);
        site.write_script("echoes.sh", ECHOES);
        let gate = site.path("gate");
        mkfifo(&gate, Mode::S_IRWXU).unwrap();
        Self { service: Self::open(site), gate }
    }

    fn open(site: Site) -> Service {
        let mut command = site.command();
        command.env("RUST_LOG", "trace");
        site.start_by(command)
    }

    /// Submits the script that waits.
    fn submit(&self, id: &str, params: &Value) {
        self.submit_as("waits.sh", id, params);
    }

    /// Submits it under a name of its own or of its runner.
    fn submit_as(&self, name: &str, id: &str, params: &Value) {
        let mut params = params.clone();
        params["gate"] = self.gate.to_str().unwrap().into();
        let spec = json!({"name": name, "id": id, "params": params, "debug_script": true});
        let reply = self.service.post("/api/v1/tasks", &spec);
        assert_eq!(reply.status, 202, "{}", reply.text());
    }

    /// Every place that holds the canary and that others than the script can see.
    fn places_with(&self, canary: &str) -> Vec<String> {
        let mut found = in_processes(canary);
        found.extend(in_files(self.service.site.folder(), canary));
        found.extend(in_answers(&self.service, canary));
        if self.service.said().contains(canary) {
            found.push("what the agent says".to_owned());
        }
        found
    }
}

/// The secret's file of the script that waits, once it runs and its log is there.
pub(crate) fn secret_file(service: &Service, id: &str) -> PathBuf {
    let path = format!("/api/v1/tasks/{id}/log?banner=false");
    eventually("the script's first line", || {
        let text = service.get(&path).text();
        text.strip_prefix("file ")?.strip_suffix('\n').map(PathBuf::from)
    })
}

/// Lets that script go on.
pub(crate) fn open_gate(gate: &Path) {
    fs::OpenOptions::new().write(true).open(gate).unwrap().write_all(b"go\n").unwrap();
}

/// Every secret is another one: nothing else, and no other test, holds it.
pub(crate) fn canary() -> String {
    let bytes = fs::read("/proc/sys/kernel/random/uuid").unwrap();
    format!("c4n4ry-{}", String::from_utf8(bytes).unwrap().trim())
}

pub(crate) fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

pub(crate) fn in_processes(canary: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for name in ["cmdline", "environ"] {
            // One that has gone meanwhile shows nothing to anybody.
            let bytes = fs::read(process.path().join(name)).unwrap_or_default();
            if holds(&bytes, canary) {
                found.push(name.to_owned());
            }
        }
    }
    found
}

/// The names of the files below a folder that hold the canary. Pipes are not read.
pub(crate) fn in_files(folder: &Path, canary: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(in_files(&entry.path(), canary));
        } else if kind.is_file() && holds(&fs::read(entry.path()).unwrap_or_default(), canary) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

pub(crate) fn in_answers(service: &Service, canary: &str) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api/v1/tasks",
        "/api/v1/scripts",
        "/api/v1/scripts/waits.sh",
        "/api/v1/runners",
        "/api/v1/nodes",
        "/metrics",
        "/readyz",
    ]
    .map(str::to_owned)
    .to_vec();
    for task in service.get("/api/v1/tasks").json()["tasks"].as_array().unwrap() {
        let id = task["id"].as_str().unwrap();
        paths.extend(
            ["", "/log", "/log?banner=false", "/debug.sh"].map(|end| format!("/api/v1/tasks/{id}{end}")),
        );
    }
    paths.retain(|path| holds(&service.get(path).body, canary));
    paths
}

/// The files on memory file systems that hold the canary.
pub(crate) fn in_memory(canary: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/dev/shm"), PathBuf::from("/run/user")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && holds(&fs::read(entry.path()).unwrap_or_default(), canary) => {
                    found.push(entry.path());
                }
                _ => {}
            }
        }
    }
    found
}

pub(crate) const NOWHERE: [&str; 0] = [];

#[test]
fn a_secret_is_in_the_scripts_own_file_while_it_runs_and_nowhere_else_ever() {
    let (stage, canary) = (Stage::new(), canary());
    stage.submit("one", &json!({"token": canary}));
    let file = secret_file(&stage.service, "one");
    // The second one waits, its secret in the agent's memory only.
    stage.submit_as("script", "two", &json!({"script": "waits.sh", "token": canary}));
    assert_eq!(stage.places_with(&canary), NOWHERE);
    assert_eq!(in_memory(&canary), [file.as_path()]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o400);
    let task = stage.service.get("/api/v1/tasks/one").json();
    assert_eq!(task["spec"]["secrets"], json!(["token"]), "{task}");
    assert!(task["spec"]["params"]["token"].is_null(), "{task}");

    open_gate(&stage.gate);
    let ended = stage.service.ended("one");
    assert!(!file.exists());
    assert_eq!(ended["result"]["output_params"]["LENGTH"], canary.len().to_string(), "{ended}");
    secret_file(&stage.service, "two");
    open_gate(&stage.gate);
    assert_eq!(stage.service.ended("two")["status"], "succeeded");
    assert_eq!(stage.places_with(&canary), NOWHERE);
    assert_eq!(in_memory(&canary), Vec::<PathBuf>::new());
    // Nobody has the value any more.
    let rerun = stage.service.call("admin", "POST", "/api/v1/tasks/one/rerun", None);
    assert_eq!(rerun.status, 422, "{}", rerun.text());
    assert_eq!(rerun.json()["errors"][0]["field"], "params.token", "{}", rerun.text());
    let script = stage.service.get("/api/v1/tasks/one/debug.sh").text();
    assert!(script.contains("set usage_token_file to a file that holds it"), "{script}");
    // And when the database was closed in order.
    let site = stage.service.stop();
    assert_eq!(in_files(site.folder(), &canary), NOWHERE);
}

/// The twin: the same search finds what is no secret, and what a script shows of its own.
#[test]
fn what_is_no_secret_is_found_wherever_the_canary_is_looked_for() {
    let (stage, canary) = (Stage::new(), canary());
    stage.submit("one", &json!({"token": "x", "plain": canary}));
    secret_file(&stage.service, "one");
    let found = stage.places_with(&canary);
    for place in [
        "cmdline",
        "environ",
        "agent.db-wal",
        "task.json",
        "debug.sh",
        "/api/v1/tasks",
        "/api/v1/tasks/one",
        "/api/v1/tasks/one/debug.sh",
    ] {
        assert!(found.iter().any(|found| found == place), "{place}: {found:?}");
    }
    open_gate(&stage.gate);
    stage.service.ended("one");
    let echoed = json!({"name": "echoes.sh", "id": "two", "params": {"token": canary}});
    assert_eq!(stage.service.post("/api/v1/tasks", &echoed).status, 202);
    stage.service.ended("two");
    let found = stage.places_with(&canary);
    for place in ["stdout.txt", "/api/v1/tasks/two/log"] {
        assert!(found.iter().any(|found| found == place), "{place}: {found:?}");
    }
}

#[test]
fn no_refusal_repeats_a_secret() {
    let (stage, canary) = (Stage::new(), canary());
    let spec = |name: &str, params: Value, args: Value| json!({"name": name, "params": params, "args": args});
    let refusals: Vec<(Value, &str)> = vec![
        (spec("waits.sh", json!({"token": format!("{canary}!")}), json!(["g"])), "pattern"),
        (spec("waits.sh", json!({"token": [canary]}), json!(["g"])), "string"),
        (spec("waits.sh", json!({}), json!(["--token", canary, "g"])), "secret_argument"),
        (spec("waits.sh", json!({}), json!([format!("--token={canary}"), "g"])), "secret_argument"),
        (spec("waits.sh", json!({"token": canary}), json!([])), "required"),
        (spec("waits.sh", json!({"token": canary}), json!(["--token", canary, "g"])), "secret_argument"),
        (spec("hello.sh", json!({"token": canary}), json!([])), "undeclared"),
        (spec("echoes.sh", json!({"token": canary, "other": canary}), json!([])), "undeclared"),
        (
            json!({"name": "waits.sh", "params": {"plain": canary}, "secrets": ["plain"], "args": ["g"]}),
            "undeclared",
        ),
        (json!({"name": "hello.sh", "params": {"x": canary}, "secrets": ["x"]}), "undeclared"),
        (json!({"name": "echoes.sh", "secrets": ["token"]}), "required"),
        (json!({"name": "echoes.sh", "params": canary}), "object"),
        (json!({"name": "echoes.sh", "params": {"token": canary}, "timeout": canary}), "duration"),
    ];
    let mut replies: Vec<(Reply, &str)> = Vec::new();
    for (spec, rule) in refusals {
        replies.push((stage.service.post("/api/v1/tasks", &spec), rule));
    }
    for (reply, rule) in &replies {
        assert_eq!(reply.status, 422, "{rule}: {}", reply.text());
        let errors = reply.json()["errors"].as_array().unwrap().clone();
        assert!(errors.iter().any(|error| error["rule"] == **rule), "{rule}: {}", reply.text());
        assert!(!reply.text().contains(&canary), "{rule}: {}", reply.text());
    }
    let broken = format!("{{\"name\": \"echoes.sh\", \"params\": {{\"token\": \"{canary}\" oops}}}}");
    let request = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{broken}",
        Site::token("admin"),
        broken.len()
    );
    let reply = exchange(stage.service.at, request.as_bytes());
    assert_eq!(reply.status, 400);
    assert!(!reply.text().contains(&canary), "{}", reply.text());
    assert_eq!(stage.service.count(), 0);
    assert_eq!(stage.places_with(&canary), NOWHERE);
}

#[test]
fn the_id_of_a_task_with_a_secret_is_answered_by_it_and_another_spec_is_a_conflict() {
    let (stage, canary) = (Stage::new(), canary());
    stage.submit("one", &json!({"token": canary}));
    secret_file(&stage.service, "one");
    let gate = stage.gate.to_str().unwrap();
    let again = |params: Value| {
        let spec = json!({"name": "waits.sh", "id": "one", "params": params, "debug_script": true});
        stage.service.post("/api/v1/tasks", &spec)
    };
    assert_eq!(again(json!({"gate": gate, "token": "another"})).status, 200);
    assert_eq!(again(json!({"gate": gate})).status, 200);
    let conflict = again(json!({"gate": gate, "token": canary, "plain": "x"}));
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "id_conflict"));
    assert!(!conflict.text().contains(&canary));
    open_gate(&stage.gate);
    stage.service.ended("one");
}

#[test]
fn an_agent_that_is_killed_leaves_no_secret_behind() {
    let (stage, canary) = (Stage::new(), canary());
    stage.submit("runs", &json!({"token": canary}));
    let file = secret_file(&stage.service, "runs");
    stage.submit("waits", &json!({"token": canary}));
    stage.submit("plain", &json!({"plain": "x"}));
    let Stage { service, gate } = stage;
    let site = service.killed();
    assert!(file.exists(), "nobody has cleaned up yet");
    assert_eq!(in_files(site.folder(), &canary), NOWHERE);
    let stage = Stage { service: Stage::open(site), gate };
    assert!(!file.exists());
    for (id, code) in [("runs", "agent_died"), ("waits", "secret_gone")] {
        let task = stage.service.ended(id);
        assert_eq!(task["status"], "interrupted", "{task}");
        assert_eq!(task["result"]["error"]["code"], code, "{task}");
    }
    // What has no secret waited and is run.
    open_gate(&stage.gate);
    assert!(!stage.service.ended("plain")["result"]["exit_code"].is_null());
    assert_eq!(stage.places_with(&canary), NOWHERE);
    assert_eq!(in_memory(&canary), Vec::<PathBuf>::new());
}

/// A core file would hold every secret that waits, and the keys.
#[test]
fn an_agent_that_crashes_leaves_no_core_file() {
    let site = Site::new("");
    let command = site.command();
    // A shell that may leave one: what it becomes keeps that.
    let mut crashing = std::process::Command::new("sh");
    crashing.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).arg(command.get_program());
    crashing.args(command.get_args()).current_dir(site.folder());
    crashing.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    crashing.stderr(std::process::Stdio::piped());
    let service = site.start_by(crashing);
    service.signal(Signal::SIGABRT);
    let (status, ..) = service.ended_with();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    // The twin: whoever does nothing for it leaves one, where this host's kernel writes any.
    let folder = tempfile::tempdir().unwrap();
    let mut naive = std::process::Command::new("sh");
    naive.args(["-c", "ulimit -c unlimited; kill -ABRT $$"]).current_dir(folder.path());
    if !naive.status().unwrap().core_dumped() {
        println!("TIER: THIS HOST WRITES NO CORE FILES: that the agent leaves none shows nothing");
    }
}
