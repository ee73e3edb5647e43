//! An API server and its nodes, each a process of its own, with a proxy in front of each node's line.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::proxy::Proxy;
use crate::support::{Random, Service, Site, eventually};

/// Notes its start, writes a log whose every byte can be told, and ends as it is told to.
const SCRIPT: &str = "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\nseq -f \"line %g of $TASK_ID\" 1 300\nsleep \"$2\"\n\
    echo \"the end of $TASK_ID\"\nexit \"$3\"\n";

/// Longest that a process is stopped, and that the line is held or delayed.
const LONGEST_PAUSE_MS: u64 = 700;

/// What nodes forget when they die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Kept,
    /// The journal, and the history that would guard it.
    Lost,
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
    pub(super) proxy: Proxy,
    /// When it was killed.
    pub(super) deaths: Vec<Timestamp>,
    service: Option<Service>,
}

impl Cluster {
    /// So many nodes, connected.
    pub(super) fn start(nodes: usize, memory: Memory, idle: Option<Duration>) -> Self {
        let names: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        let tokens = names.iter().map(|name| {
            let digest = Site::digest(name);
            format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"node\"]\n")
        });
        let server = Site::new(&tokens.collect::<String>()).start();
        let at = server.at;
        let nodes = names.into_iter().map(|name| {
            let proxy = Proxy::new(at, idle);
            let service = Some(node_site(&name, &proxy).start());
            Member { name, proxy, deaths: Vec::new(), service }
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

    /// One fault, of any kind.
    pub(super) fn fault(&mut self, random: &mut Random) {
        let pick = usize::try_from(random.below(self.nodes.len() as u64)).unwrap();
        let pause = Duration::from_millis(1 + random.below(LONGEST_PAUSE_MS));
        let frames = 1 + usize::try_from(random.below(8)).unwrap();
        let node = &self.nodes[pick];
        match random.below(20) {
            0 | 1 => self.kill_node(pick),
            2 | 3 => self.kill_server(),
            4 | 5 => stop_for(node.service(), pause),
            6 => stop_for(self.server(), pause),
            7 => node.proxy.cut_now(),
            8 | 9 => node.proxy.cut_in_a_frame(),
            10 | 11 => node.proxy.stall(pause),
            12 | 13 => node.proxy.delay(pause / 20, 2 * pause),
            14..=16 => node.proxy.repeat(frames),
            _ => node.proxy.reorder(frames),
        }
    }

    /// No fault is left that would still happen.
    pub(super) fn calm(&self) {
        self.nodes.iter().for_each(|node| node.proxy.calm());
    }

    pub(super) fn kill_node(&mut self, pick: usize) {
        let node = &mut self.nodes[pick];
        let service = node.service.take().unwrap();
        node.deaths.push(Timestamp::now());
        service.signal(Signal::SIGKILL);
        let site = service.ended_with().1;
        if self.memory == Memory::Lost {
            forget(&site);
        }
        node.service = Some(site.start());
    }

    fn kill_server(&mut self) {
        let service = self.server.take().unwrap();
        service.signal(Signal::SIGKILL);
        let site = service.ended_with().1;
        let command = site.command_at(self.at.port());
        self.server = Some(site.start_by(command));
    }
}

impl Member {
    pub(super) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
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

fn node_site(name: &str, proxy: &Proxy) -> Site {
    let at = proxy.at;
    let site = Site::new(&format!(
        "[limits]\nconcurrent = 8\n[node]\napi_server = \"ws://{at}\"\nname = \"{name}\"\ntoken_file = \"node.token\"\n"
    ));
    site.write_script("work.sh", SCRIPT);
    let token = site.path("node.token");
    fs::write(&token, Site::token(name)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// Removes what tells a node which tasks it has started.
fn forget(site: &Site) {
    for companion in ["", "-wal", "-shm"] {
        for database in ["node/journal.db", "agent.db"] {
            // There may be none.
            let _ = fs::remove_file(site.path(&format!("state/{database}{companion}")));
        }
    }
    fs::remove_dir_all(site.path("state/tasks")).unwrap();
}

fn stop_for(service: &Service, pause: Duration) {
    service.signal(Signal::SIGSTOP);
    thread::sleep(pause);
    service.signal(Signal::SIGCONT);
}
