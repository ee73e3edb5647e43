//! Two hosts, each a network namespace, and the line between them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{NAME, PAGE, Running, START};
use crate::documentation::commands;
use crate::examples::{blocks_of, chapter, page};
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
/// What becomes of the line, and for how long.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The device is down, which both kernels see.
    Down(Duration),
    /// What is sent comes nowhere, which nobody sees. The kernel by itself repeats 6, 12 and 25 s after such a cut.
    Silent(Duration),
    /// The same again and again, so that connections are cut while they are made.
    Flapping(Duration),
    /// What nodes send comes seconds late, or not at all where the queue is full.
    Slow(Duration),
}

/// Faults that pass before anybody notices, while the kernel repeats, and after the line was given up.
const FAULTS: [Fault; 8] = [
    Fault::Down(Duration::from_secs(1)),
    Fault::Silent(Duration::from_secs(3)),
    Fault::Slow(Duration::from_secs(8)),
    Fault::Silent(Duration::from_secs(7)),
    Fault::Flapping(Duration::from_secs(8)),
    Fault::Down(Duration::from_secs(12)),
    Fault::Slow(Duration::from_secs(4)),
    Fault::Silent(Duration::from_secs(14)),
];
/// What a slow line carries, which is less than the scripts say, and one that is quick again.
const SLOW: &str = "48kbit";
const QUICK: &str = "1gbit";
/// How long it is cut and whole while it flaps.
const FLAP: Duration = Duration::from_millis(700);
/// Bytes that are on their way of some log when a fault is over: what its script says in half a second.
const BEHIND: u64 = 200;
/// Scripts that talk on each node.
const TALKERS: usize = 4;
/// A device that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// Notes its start, and writes until its gate is there.
const TALKER: &str = "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\nnumber=0\nuntil [ -e \"$2\" ]; do number=$((number + 1)); \
    echo \"line $number\"; sleep 0.02; done\n";

/// Runs the helper in a network namespace of its own, which vanishes with it.
#[test]
fn a_line_between_two_hosts_is_cut_and_slowed_down_and_running_tasks_lose_nothing() {
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

impl Fault {
    /// All faults on the line are there for a while, and over.
    fn happen(self, other: &OtherHost) {
        let change = |is_cut| match self {
            Self::Down(_) => assert!(ip(&[], &["link", "set", TO_NODES, if is_cut { "down" } else { "up" }])),
            Self::Silent(_) | Self::Flapping(_) => lose(other, is_cut),
            Self::Slow(_) => assert!(slow_down(other, is_cut)),
        };
        let began = Instant::now();
        while matches!(self, Self::Flapping(time) if began.elapsed() < time) {
            for is_cut in [true, false] {
                change(is_cut);
                thread::sleep(FLAP);
            }
        }
        change(true);
        thread::sleep(self.time().saturating_sub(began.elapsed()).max(FLAP));
        change(false);
    }

    fn time(self) -> Duration {
        match self {
            Self::Down(time) | Self::Silent(time) | Self::Flapping(time) | Self::Slow(time) => time,
        }
    }
}

/// Has what is sent come nowhere, or where it should.
fn lose(other: &OtherHost, is_lost: bool) {
    let hosts = [(&[][..], NODES, TO_NODES), (&other.before(), API, TO_API)];
    for (before, address, device) in hosts {
        let changed = match is_lost {
            true => ip(
                before,
                &["neighbour", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent"],
            ),
            false => ip(before, &["neighbour", "delete", address, "dev", device]),
        };
        assert!(changed);
    }
}

/// Has what nodes send wait in a queue that empties slowly, or at once; whether this host's kernel has such queues.
fn slow_down(other: &OtherHost, is_slow: bool) -> bool {
    let rate = if is_slow { SLOW } else { QUICK };
    let queue = ["tbf", "rate", rate, "burst", "2kb", "latency", "3s"];
    let args = [&["qdisc", "replace", "dev", TO_API, "root"][..], &queue].concat();
    run("tc", &other.before(), &args)
}

fn ip(before: &[String], args: &[&str]) -> bool {
    run("ip", before, args)
}

/// Runs a program on a host.
fn run(program: &str, before: &[String], args: &[&str]) -> bool {
    let words: Vec<&str> =
        before.iter().map(String::as_str).chain([program]).chain(args.iter().copied()).collect();
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
    let page = page(PAGE);
    let chapter = chapter(&page, "Between hosts");
    let [certify, by_certificate, start] = blocks_of(chapter, "sh").try_into().expect("three blocks");
    // The third is for a node behind a proxy, of which there is none on this line.
    let [first, second, _] = blocks_of(chapter, "toml").try_into().expect("three blocks");
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
    let names = files.map(|(name, ..)| name);
    let talkers: Vec<Talker> = nodes
        .iter()
        .zip(names)
        .flat_map(|((folder, _), name)| (0..TALKERS).map(|_| Talker::start(&api, folder, name)))
        .collect();
    let has_queue = slow_down(&other, false);
    if !has_queue {
        println!("TIER: THIS HOST HAS NO QUEUES BY tc(8) AND sch_tbf: the line was cut, and not slowed down");
    }
    for fault in FAULTS.into_iter().filter(|fault| has_queue || !matches!(fault, Fault::Slow(_))) {
        talk_through(fault, &talkers, &other, &api);
    }
    talkers.iter().for_each(|talker| talker.ends_whole(&api));
}

/// A script that talks on a node, and its log at both ends.
struct Talker {
    id: String,
    node: &'static str,
    folder: PathBuf,
    here: PathBuf,
    there: PathBuf,
}

impl Talker {
    fn start(api: &Path, folder: &Path, node: &'static str) -> Self {
        let id = talk(api, folder, node, "gate");
        let log = format!("state/tasks/{id}/stdout.txt");
        let (here, there) = (api.join(&log), folder.join(&log));
        let talker = Self { id, node, folder: folder.to_owned(), here, there };
        talker.is_behind(0);
        talker
    }

    /// Waits until more than so much of the log has come.
    fn is_behind(&self, bytes: u64) {
        eventually("more of the log", || (length(&self.here) > bytes).then_some(()));
    }

    /// Its end: everything has come, and it was started once.
    fn ends_whole(&self, api: &Path) {
        fs::write(self.folder.join("gate"), "").unwrap();
        let task = ask(api, &format!("tasks/{}?wait=60", self.id), None);
        assert_eq!(task["status"], "succeeded", "{task}");
        let [here, there] = [&self.here, &self.there].map(|log| fs::read(log).unwrap());
        assert!(!here.is_empty() && here == there, "the logs of {} on {} differ", self.id, self.node);
        let starts = fs::read_to_string(self.folder.join("starts")).unwrap();
        assert_eq!(starts.lines().filter(|id| *id == self.id).count(), 1);
    }
}

/// Has a script talk on a node until that file is there.
fn talk(api: &Path, folder: &Path, node: &str, gate: &str) -> String {
    let args = [folder.join("starts"), folder.join(gate)];
    let spec = json!({ "name": "talker.sh", "args": args, "target": { "node": node } });
    ask(api, "tasks", Some(&spec))["id"].as_str().unwrap().to_owned()
}

/// A fault, through which scripts talk on; then what they said meanwhile comes, and a fresh task ends, within the time that
/// was promised.
fn talk_through(fault: Fault, talkers: &[Talker], other: &OtherHost, api: &Path) {
    talkers.iter().for_each(|talker| talker.is_behind(length(&talker.here)));
    let lengths = |log: fn(&Talker) -> &PathBuf| talkers.iter().map(|talker| length(log(talker))).collect();
    let before: Vec<u64> = lengths(|talker| &talker.there);
    fault.happen(other);
    let over = Instant::now();
    let [here, there]: [Vec<u64>; 2] = [lengths(|talker| &talker.here), lengths(|talker| &talker.there)];
    let mut at_both = before.iter().zip(&there).zip(&here);
    assert!(at_both.clone().all(|((before, there), _)| there > before), "a script waits for the line");
    assert!(
        at_both.any(|((_, there), here)| *there > here + BEHIND),
        "not much is on its way: the line is whole"
    );
    let fresh: Vec<String> = talkers
        .iter()
        .step_by(TALKERS)
        .map(|talker| talk(api, &talker.folder, talker.node, "scripts/talker.sh"))
        .collect();
    talkers.iter().zip(there).for_each(|(talker, said)| talker.is_behind(said));
    for id in fresh {
        assert_eq!(ask(api, &format!("tasks/{id}?wait=60"), None)["status"], "succeeded");
    }
    let took = over.elapsed();
    println!("{fault:?}: back after {took:?}");
    assert!(took < BACK_WITHIN, "{fault:?}: back after {took:?}");
}
