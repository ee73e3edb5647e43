//! An API server and its nodes, each a process of its own, with a line in front of each node.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Line, Random, Service, Site, eventually};

/// Notes its start, writes a log whose every byte can be told, and ends as it is told to.
const SCRIPT: &str = "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\nseq -f \"line %g of $TASK_ID\" 1 300\nsleep \"$2\"\n\
    echo \"the end of $TASK_ID\"\nexit \"$3\"\n";

/// Longest that a process is stopped, and that the line is held or delayed, where nobody is to notice.
const LONGEST_PAUSE_MS: u64 = 700;
/// For how long they are where a node with open tasks is to give its line up: after 7 s.
pub(super) const NOTICED: Duration = Duration::from_millis(8500);

/// What nodes forget when they die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Kept,
    /// All of that as well, but a history that is kept as short as can be.
    Short,
    /// The journal; the history is as short, and whole.
    NoJournal,
}

/// All of them. Dropped, they are killed.
pub(super) struct Cluster {
    pub(super) at: SocketAddr,
    server: Option<Service>,
    pub(super) nodes: Vec<Member>,
    memory: Memory,
}

/// A node.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: Line,
    /// When it was killed.
    pub(super) deaths: Vec<Timestamp>,
    /// What it said before it was killed.
    said: String,
    service: Option<Service>,
}

impl Cluster {
    /// As many nodes as there are proxies, each of which closes connections that are idle for that long; connected.
    pub(super) fn start(patience: &[Duration], memory: Memory) -> Self {
        let names: Vec<String> = (1..=patience.len()).map(|number| format!("node-{number}")).collect();
        let tokens = names.iter().map(|name| {
            let digest = Site::digest(name);
            format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"node\"]\n")
        });
        let server = Site::new(&tokens.collect::<String>()).start();
        let at = server.at;
        let nodes = names.into_iter().zip(patience).map(|(name, patience)| {
            let line = Line::new(at, Some(*patience));
            let service = Some(node_site(&name, &line, memory).start());
            Member { name, line, deaths: Vec::new(), said: String::new(), service }
        });
        let cluster = Self { at, nodes: nodes.collect(), server: Some(server), memory };
        cluster.all_are_connected();
        cluster
    }

    pub(super) fn server(&self) -> &Service {
        self.server.as_ref().unwrap()
    }

    /// Waits until every node is there and what it offers is known.
    pub(super) fn all_are_connected(&self) {
        for node in &self.nodes {
            eventually("the nodes", || {
                let seen = self.server().get(&format!("/api/v1/nodes/{}", node.name)).json();
                let offers = seen["scripts"].as_object().is_some_and(|found| found.contains_key("work.sh"));
                (seen["connected"] == true && offers).then_some(())
            });
        }
    }

    /// One fault that goes by unnoticed or breaks something at once, of any kind.
    pub(super) fn fault(&mut self, random: &mut Random) {
        let pick = usize::try_from(random.below(self.nodes.len() as u64)).unwrap();
        let pause = Duration::from_millis(1 + random.below(LONGEST_PAUSE_MS));
        let frames = 1 + usize::try_from(random.below(8)).unwrap();
        let node = &self.nodes[pick];
        match random.below(20) {
            0 | 1 => drop(self.kill_node(pick)),
            2 | 3 => drop(self.kill_server(Duration::ZERO)),
            4 | 5 => node.stop_for(pause),
            6 => self.stop_server_for(pause),
            7 => node.line.cut_now(),
            8 | 9 => node.line.cut_in_a_frame(),
            10 | 11 => node.line.stall(pause),
            12 | 13 => node.line.delay(pause / 20, 2 * pause),
            14..=16 => node.line.repeat(frames),
            _ => node.line.reorder(frames),
        }
    }

    /// One that takes so long that it is noticed, since all lines are whole before: each kind in its turn.
    pub(super) fn long_fault(&self, turn: usize) {
        self.calm();
        self.all_are_connected();
        let node = &self.nodes[turn % self.nodes.len()];
        match turn % 3 {
            0 => self.stop_server_for(NOTICED),
            1 => node.hold_for(NOTICED),
            _ => node.stop_for(NOTICED),
        }
    }

    /// No fault is left that would still happen.
    pub(super) fn calm(&self) {
        self.nodes.iter().for_each(|node| node.line.calm());
    }

    /// Kills a node, which starts again; gives when it did.
    pub(super) fn kill_node(&mut self, pick: usize) -> Instant {
        let node = &mut self.nodes[pick];
        let service = node.service.take().unwrap();
        node.deaths.push(Timestamp::now());
        service.signal(Signal::SIGKILL);
        let (_, site, said) = service.ended_with();
        node.said.push_str(&said);
        if self.memory == Memory::NoJournal {
            forget(&site);
        }
        let began = Instant::now();
        node.service = Some(site.start());
        began
    }

    /// Kills the API server, which starts again after a while; gives when it did.
    pub(super) fn kill_server(&mut self, away: Duration) -> Instant {
        let service = self.server.take().unwrap();
        let site = service.killed();
        thread::sleep(away);
        let command = site.command_at(self.at.port());
        let began = Instant::now();
        self.server = Some(site.start_by(command));
        began
    }

    pub(super) fn stop_server_for(&self, pause: Duration) {
        stop_for(self.server(), pause);
    }
}

impl Member {
    pub(super) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(super) fn stop_for(&self, pause: Duration) {
        stop_for(self.service(), pause);
    }

    /// Holds its line.
    pub(super) fn hold_for(&self, pause: Duration) {
        self.line.stall(pause);
        thread::sleep(pause);
    }

    /// How often it has said that in all its lives.
    pub(super) fn said(&self, words: &str) -> usize {
        self.said.matches(words).count() + self.service().said().matches(words).count()
    }

    /// A file of a task's record there, if there is one.
    pub(super) fn record(&self, id: &str, file: &str) -> Option<Vec<u8>> {
        record(&self.service().site, id, file)
    }
}

/// A file of a task's record.
pub(super) fn record(site: &Site, id: &str, file: &str) -> Option<Vec<u8>> {
    fs::read(site.path("state/tasks").join(id).join(file)).ok()
}

/// The result in a task's record.
pub(super) fn result(bytes: Option<Vec<u8>>) -> Option<Value> {
    bytes.map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn node_site(name: &str, line: &Line, memory: Memory) -> Site {
    let at = line.at;
    let kept = if memory == Memory::Kept { 0 } else { 1 };
    let site = Site::new(&format!(
        "[limits]\nconcurrent = 8\n[retention]\nmax_tasks = {kept}\n[node]\napi_server = \"ws://{at}\"\nname = \"{name}\"\ntoken_file = \"node.token\"\n"
    ));
    site.write_script("work.sh", SCRIPT);
    let token = site.path("node.token");
    fs::write(&token, Site::token(name)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// Removes what tells a node which tasks it was handed.
fn forget(site: &Site) {
    fs::remove_file(site.path("state/node/journal.db")).unwrap();
    for companion in ["wal", "shm"] {
        // There may be none.
        let _ = fs::remove_file(site.path(&format!("state/node/journal.db-{companion}")));
    }
}

fn stop_for(service: &Service, pause: Duration) {
    service.signal(Signal::SIGSTOP);
    thread::sleep(pause);
    service.signal(Signal::SIGCONT);
}
