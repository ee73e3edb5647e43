//! Two hosts, each a network namespace, and the line between them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{NAME, Running, START, blocks};
use crate::documentation::commands;
use crate::support::eventually;

/// Tells the helper where to work.
const HOSTS: &str = "AGENT_HTTP_TWO_HOSTS";
/// The addresses of the two hosts, and the ends of the line.
const API: &str = "10.99.0.1";
const NODES: &str = "10.99.0.2";
const TO_NODES: &str = "to-nodes";
const TO_API: &str = "to-api";
/// The promise: by then it works again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How the line is cut, and for how long.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The device is down, which both kernels see.
    Down(Duration),
    /// What is sent comes nowhere, which nobody sees. The kernel by itself repeats 6, 12 and 25 s after such a cut.
    Silent(Duration),
}

/// Cuts that pass before anybody notices, while the kernel repeats, and after the line was given up.
const DOWN: [Cut; 2] = [Cut::Down(Duration::from_secs(1)), Cut::Down(Duration::from_secs(12))];
const SILENT: [Cut; 2] = [Cut::Silent(Duration::from_secs(7)), Cut::Silent(Duration::from_secs(14))];
/// A device that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// Notes its start, and writes until its gate is there.
const TALKER: &str = "#!/bin/sh\necho start >>\"$1\"\nnumber=0\nuntil [ -e \"$2\" ]; do number=$((number + 1)); \
    echo \"line $number\"; sleep 0.02; done\n";

/// Runs the helper in a network namespace of its own, which vanishes with it.
#[test]
fn a_line_between_two_hosts_is_cut_and_a_running_task_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "nodes_hosts::line::helper_process_between_two_hosts", "--nocapture"])
        .env(HOSTS, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    if !said.contains("two hosts are there") {
        println!(
            "THIS HOST GIVES NO NETWORK NAMESPACE ({}): a line between hosts was not cut",
            String::from_utf8_lossy(&ran.stderr).trim()
        );
        return;
    }
    println!("{said}");
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

/// The other host. It vanishes when this process ends.
struct OtherHost(Child);

impl OtherHost {
    /// A host with a line to this one; none where the kernel does not give it.
    fn start() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo there; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut there = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut()?, &mut there).ok()?;
        let host = Self(child);
        let process = host.0.id().to_string();
        let is_made =
            ip(&[], &["link", "add", TO_NODES, "type", "veth", "peer", "name", TO_API, "netns", &process])
                && [(&[][..], API, TO_NODES), (&host.before(), NODES, TO_API)].iter().all(
                    |(before, address, device)| {
                        ip(before, &["link", "set", "lo", "up"])
                            && ip(before, &["address", "add", &format!("{address}/24"), "dev", device])
                            && ip(before, &["link", "set", device, "up"])
                    },
                );
        is_made.then_some(host)
    }

    /// What stands before a command that is to run there.
    fn before(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.0.id())]
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cut {
    fn begin(self, other: &OtherHost) {
        match self {
            Self::Down(_) => assert!(ip(&[], &["link", "set", TO_NODES, "down"])),
            Self::Silent(_) => {
                let lost = |address, device| {
                    ["neighbour", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent"]
                };
                assert!(ip(&[], &lost(NODES, TO_NODES)) && ip(&other.before(), &lost(API, TO_API)));
            }
        }
    }

    fn end(self, other: &OtherHost) {
        match self {
            Self::Down(_) => assert!(ip(&[], &["link", "set", TO_NODES, "up"])),
            Self::Silent(_) => {
                let found = |address, device| ["neighbour", "delete", address, "dev", device];
                assert!(ip(&[], &found(NODES, TO_NODES)) && ip(&other.before(), &found(API, TO_API)));
            }
        }
    }

    fn time(self) -> Duration {
        match self {
            Self::Down(time) | Self::Silent(time) => time,
        }
    }
}

/// Runs ip(8).
fn ip(before: &[String], args: &[&str]) -> bool {
    let words: Vec<&str> =
        before.iter().map(String::as_str).chain(["ip"]).chain(args.iter().copied()).collect();
    Command::new(words[0]).args(&words[1..]).status().is_ok_and(|status| status.success())
}

/// A block between these hosts.
fn between(block: &str) -> String {
    block.replace(&format!("DNS:{NAME}"), &format!("IP:{API}")).replace(NAME, API)
}

/// What the API server answers its admin.
fn ask(api: &Path, path: &str, body: Option<&Value>) -> Value {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "90", "--cacert", "tls/ca.pem", "-H", "@-"])
        .current_dir(api)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(body) = body {
        command.args(["--json", &body.to_string()]);
    }
    let mut child =
        command.arg(format!("https://{API}:8848/api/v1/{path}")).spawn().expect("this test needs curl");
    let token = fs::read_to_string(api.join("admin.token")).unwrap();
    write!(child.stdin.take().unwrap(), "Authorization: Bearer {token}").unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// A node's folder, as the page has it, with a script that talks.
fn node_folder(root: &Path, name: &str, settings: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(folder.join("scripts")).unwrap();
    fs::write(folder.join("application.toml"), between(settings)).unwrap();
    let copied = files.iter().map(|(from, to)| format!("cp -p api/{from} {name}/{to}\n")).collect::<String>();
    commands(root, &copied);
    fs::write(folder.join("scripts/talker.sh"), TALKER).unwrap();
    commands(&folder, "chmod 0755 scripts/talker.sh");
    folder
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

#[test]
fn helper_process_between_two_hosts() {
    let Ok(root) = std::env::var(HOSTS) else { return };
    let Some(other) = OtherHost::start() else { return };
    println!("two hosts are there");
    let root = Path::new(&root);
    let [_, _, _, _, certify, by_certificate, start] = blocks("sh").try_into().expect("seven blocks");
    let [first, second] =
        blocks("toml").into_iter().take(2).collect::<Vec<_>>().try_into().expect("two blocks");
    let api = root.join("api");
    fs::create_dir(&api).unwrap();
    commands(&api, &between(&certify));
    commands(&api, &by_certificate);
    let said = |name: &str| root.join(format!("{name}.said"));
    let _api = Running::start(&api, &[], &start, &said("api"));
    let ca = ("tls/ca.pem", "ca.pem");
    let files = [
        ("db-1", &first, vec![ca, ("db-1.token", "db-1.token")]),
        ("db-2", &second, vec![ca, ("db-2.pem", "db-2.pem"), ("db-2.key", "db-2.key")]),
    ];
    let before = other.before();
    let before: Vec<&str> = before.iter().map(AsRef::as_ref).collect();
    let nodes: Vec<(PathBuf, Running)> = files
        .iter()
        .map(|(name, settings, files)| {
            let folder = node_folder(root, name, settings, files);
            // Two agents on one host need two ports.
            let start = start.replace(START, &format!("{START} --port 0"));
            let running = Running::start(&folder, &before, &start, &said(name));
            (folder, running)
        })
        .collect();
    eventually("two nodes over TLS", || {
        let listed = ask(&api, "nodes", None);
        let nodes = listed["nodes"].as_array().cloned().unwrap_or_default();
        let is_there = |node: &&Value| node["connected"] == true && node["scripts"]["talker.sh"].is_string();
        (nodes.iter().filter(is_there).count() == 2).then_some(())
    });
    for ((folder, _), (name, cuts)) in nodes.iter().zip([("db-1", DOWN), ("db-2", SILENT)]) {
        talk_through_cuts(&api, folder, name, &other, &cuts);
    }
}

/// Has a script talk on a node while the line is cut and made again.
fn talk_through_cuts(api: &Path, node: &Path, name: &str, other: &OtherHost, cuts: &[Cut]) {
    let (starts, gate) = (node.join("starts"), node.join("gate"));
    let spec = json!({ "name": "talker.sh", "args": [starts, gate], "target": { "node": name } });
    let id = ask(api, "tasks", Some(&spec))["id"].as_str().unwrap().to_owned();
    let log = format!("state/tasks/{id}/stdout.txt");
    let (here, there) = (api.join(&log), node.join(&log));
    let grows = |what: &str, file: &Path, from: u64| eventually(what, || (length(file) > from).then_some(()));
    for cut in cuts {
        grows("the log", &here, length(&here));
        cut.begin(other);
        let (held, written) = (length(&here), length(&there));
        thread::sleep(cut.time());
        assert!(length(&there) > written, "the script waits for the line");
        // What was in the kernel when the line was cut came still.
        assert!(length(&here) < written + 1024, "the line is not cut");
        cut.end(other);
        let back = Instant::now();
        grows("the log after the cut", &here, length(&here).max(held));
        let took = back.elapsed();
        println!("{name}: {cut:?}, back after {took:?}");
        assert!(took < BACK_WITHIN, "{name}: {cut:?}, back after {took:?}");
    }
    fs::write(&gate, "").unwrap();
    let task = ask(api, &format!("tasks/{id}?wait=60"), None);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert!(length(&here) > 0 && fs::read(&here).unwrap() == fs::read(&there).unwrap(), "the logs differ");
    assert_eq!(fs::read_to_string(&starts).unwrap(), "start\n");
}
