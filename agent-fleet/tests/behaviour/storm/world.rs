//! Two ends, the link between them, and what happens to them.

use std::collections::BTreeMap;

use agent_fleet::message::{AcceptedAt, ToNode, ToServer};
use jiff::Timestamp;
use task_service::TaskId;

use super::node::Node;
use super::server::Server;

/// For how long an assignment may be taken, seconds.
pub(crate) const VALIDITY: i64 = 600;

/// When all tasks are accepted.
pub(crate) const ACCEPTED: AcceptedAt = Some(Timestamp::UNIX_EPOCH);

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    None,
    /// The node writes no journal.
    NoJournal,
    /// Log bytes are appended as they come.
    NoOffsets,
    /// That the node may have heard of a task is not written.
    NoIntent,
    /// What is not answered is not said again.
    NoRepetition,
    /// The node is told to forget before the result is written.
    SettledTooEarly,
    /// A task that is not taken up yet counts as one that has ended.
    SettlesUnknown,
    /// Nobody notices that a log cannot be read to be sent.
    SendsWhatCannotBeRead,
    /// What cannot be assigned is cancelled as a person would.
    CancelsWhatCannotBeAssigned,
}

/// Something that happens: what, and to which of those that it may happen to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) what: u8,
    pub(crate) which: u8,
}

/// What is on its way to the node.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Assign { task: TaskId, nonce: u8, expires: i64 },
    Say(ToNode),
}

/// What is on its way to the API server.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Say(ToServer),
    Log { task: TaskId, offset: u64, bytes: Vec<u8> },
    Ended { task: TaskId, log_bytes: u64, accepted: AcceptedAt },
}

/// The link: what is on its way, in no order.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) down: Vec<Down>,
    pub(crate) up: Vec<Up>,
}

/// Everything.
pub(crate) struct World {
    pub(crate) weakness: Weakness,
    pub(crate) now: i64,
    node: Node,
    server: Server,
    link: Link,
    is_connected: bool,
    tasks: u8,
}

impl World {
    pub(crate) fn new(weakness: Weakness) -> Self {
        let (node, server) = (Node::new(weakness), Server::new(weakness));
        Self { weakness, now: 0, node, server, link: Link::default(), is_connected: false, tasks: 0 }
    }

    pub(crate) fn step(&mut self, Step { what, which }: Step) {
        if self.server.spins {
            return;
        }
        let pick = usize::from(which);
        match what {
            0 | 1 => self.submit(which),
            2 | 3 if !self.link.down.is_empty() => {
                let frame = self.link.down.remove(pick % self.link.down.len());
                self.deliver_down(frame);
            }
            4..=6 if !self.link.up.is_empty() => {
                let frame = self.link.up.remove(pick % self.link.up.len());
                self.deliver_up(frame);
            }
            7 if !self.link.down.is_empty() => {
                let at = pick % self.link.down.len();
                // Lost, or repeated and late.
                if which & 128 == 0 { drop(self.link.down.remove(at)) } else { self.repeat_down(at) }
            }
            8 if !self.link.up.is_empty() => {
                let at = pick % self.link.up.len();
                if which & 128 == 0 { drop(self.link.up.remove(at)) } else { self.repeat_up(at) }
            }
            9 => self.connect(),
            10 => self.disconnect(),
            11 | 12 => self.node.work(pick, &mut self.link, self.now),
            13 => self.node.prune(self.now),
            14 => self.node.crash_at = Some(pick % 4),
            15 => self.server.crash_at = Some(pick % 4),
            16 => self.tick(),
            17 => self.now += i64::from(which) * 10,
            18 if which < 200 => self.server.cancel(pick, &mut self.link, self.now),
            18 => self.server.give_up(pick, &mut self.link, self.now),
            19 => self.server.take_up(pick, &mut self.link, self.now),
            // Less often than that they work again.
            20 if which < 128 => self.server.disk_fails = which < 40,
            20 => self.node.disk_fails = which < 168,
            21 if which < 40 => self.node.lose_log(pick),
            _ => {}
        }
        self.crashes();
    }

    /// Nothing is lost any more, and all scripts come to their end.
    pub(crate) fn calm(&mut self) {
        (self.node.crash_at, self.server.crash_at) = (None, None);
        (self.node.disk_fails, self.server.disk_fails) = (false, false);
        for _ in 0..60 {
            if self.server.spins {
                return;
            }
            self.connect();
            for _ in 0..400 {
                match (self.link.down.is_empty(), self.link.up.is_empty()) {
                    (false, _) => {
                        let frame = self.link.down.remove(0);
                        self.deliver_down(frame);
                    }
                    (true, false) => {
                        let frame = self.link.up.remove(0);
                        self.deliver_up(frame);
                    }
                    (true, true) => break,
                }
            }
            // Nodes are there before the API server knows of their tasks.
            self.server.take_all_up(&mut self.link, self.now);
            self.node.finish_all(&mut self.link, self.now);
            self.now += 5;
            self.tick();
        }
    }

    /// What is wrong, if anything is.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if self.server.spins {
            return Err("the API server does not come to rest".to_owned());
        }
        for (task, ends) in &self.server.ends {
            let starts = self.node.starts.get(task).copied().unwrap_or_default();
            if starts > 1 {
                return Err(format!("{task} was started {starts} times"));
            }
            match ends.as_slice() {
                [] => return Err(format!("{task} has no end")),
                // Also what comes of a task that was given up is kept whole.
                ["ended" | "lost"] if starts > 0 && !self.is_log_whole(task) => {
                    return Err(format!("the logs of {task} differ"));
                }
                ["unheard"] if starts > 0 => {
                    return Err(format!("{task} ended as one that nobody had heard of, and was started"));
                }
                ["gone"] => return Err(format!("what became of {task} is lost")),
                [_] => {}
                several => return Err(format!("{task} has several ends: {several:?}")),
            }
        }
        match (self.node.open(), self.server.open()) {
            (0, 0) => Ok(()),
            open => Err(format!("not settled at node and API server: {open:?}")),
        }
    }

    /// Whether the API server has the log of the node, as far as that can be read.
    fn is_log_whole(&self, task: &TaskId) -> bool {
        let (there, here) = (&self.node.logs[task], &self.server.logs[task]);
        let least = self.node.unreadable.get(task).map_or(there.len(), |end| there.len().min(*end));
        here.len() >= least && there.starts_with(here)
    }

    fn submit(&mut self, which: u8) {
        if self.tasks < 4 {
            self.tasks += 1;
            let task: TaskId = format!("task-{}", self.tasks).parse().unwrap();
            self.server.submit(task, which, &mut self.link, self.now);
        }
    }

    fn deliver_down(&mut self, frame: Down) {
        self.node.receive(frame, &mut self.link, self.now);
    }

    fn deliver_up(&mut self, frame: Up) {
        self.server.receive(frame, &mut self.link, self.now);
    }

    fn repeat_down(&mut self, at: usize) {
        let again = self.link.down[at].clone();
        self.link.down.push(again);
    }

    fn repeat_up(&mut self, at: usize) {
        let again = self.link.up[at].clone();
        self.link.up.push(again);
    }

    fn connect(&mut self) {
        if self.is_connected {
            return;
        }
        self.is_connected = true;
        let unsettled = self.node.unsettled();
        let standings = self.server.connected(unsettled, &mut self.link, self.now);
        self.node.connected(standings, &mut self.link, self.now);
    }

    fn disconnect(&mut self) {
        if self.is_connected {
            self.is_connected = false;
            self.node.disconnected();
            self.server.disconnected();
        }
    }

    fn tick(&mut self) {
        if self.weakness != Weakness::NoRepetition {
            self.node.tick(&mut self.link, self.now);
            self.server.tick(&mut self.link, self.now);
        }
    }

    /// An end that crashed has lost the connection.
    fn crashes(&mut self) {
        if self.node.has_crashed || self.server.has_crashed {
            self.disconnect();
        }
        if std::mem::take(&mut self.node.has_crashed) {
            self.node.restart(self.now);
        }
        if std::mem::take(&mut self.server.has_crashed) {
            self.server.restart();
        }
    }
}

/// The `pick`-th of the keys.
pub(crate) fn nth<V>(map: &BTreeMap<TaskId, V>, pick: usize) -> Option<TaskId> {
    map.keys().nth(pick % map.len().max(1)).cloned()
}
