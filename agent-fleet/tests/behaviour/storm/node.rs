//! A node whose disk is a few maps, and whose task service runs imagined scripts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_fleet::keys::Nonce;
use agent_fleet::message::{Standing, ToNode, Unsettled};
use agent_fleet::node::{Action, Event, Flow, Journaled, NodeState, Verdict};
use task_service::TaskId;

use super::world::{ACCEPTED, Down, Link, Up, VALIDITY, Weakness, nth};

const FLOW: Flow = Flow { chunk: 3, window: 7 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Taken,
    Never,
    Settled,
}

/// A script that runs, or ran.
#[derive(Debug, Clone, Default)]
struct Run {
    is_done: bool,
}

pub(crate) struct Node {
    weakness: Weakness,
    // On disk: how a task stands, and since when.
    journal: BTreeMap<TaskId, (Row, i64)>,
    runs: BTreeMap<TaskId, Run>,
    // What this test keeps in mind.
    pub(crate) starts: BTreeMap<TaskId, u32>,
    pub(crate) logs: BTreeMap<TaskId, Vec<u8>>,
    /// From where on a log cannot be read.
    pub(crate) unreadable: BTreeMap<TaskId, usize>,
    settled: BTreeSet<TaskId>,
    written: u8,
    // In memory.
    state: NodeState,
    pub(crate) disk_fails: bool,
    pub(crate) crash_at: Option<usize>,
    pub(crate) has_crashed: bool,
}

impl Node {
    pub(crate) fn new(weakness: Weakness) -> Self {
        Self {
            weakness,
            journal: BTreeMap::new(),
            runs: BTreeMap::new(),
            starts: BTreeMap::new(),
            logs: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            settled: BTreeSet::new(),
            written: 0,
            state: NodeState::new(FLOW),
            disk_fails: false,
            crash_at: None,
            has_crashed: false,
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.state.unsettled().len()
    }

    pub(crate) fn unsettled(&self) -> Vec<Unsettled> {
        self.state.unsettled()
    }

    pub(crate) fn connected(&mut self, tasks: Vec<Standing>, link: &mut Link, now: i64) {
        self.on(Event::Connected { tasks }, link, now);
    }

    pub(crate) fn disconnected(&mut self) {
        self.state.on(Event::Disconnected);
    }

    pub(crate) fn tick(&mut self, link: &mut Link, now: i64) {
        self.on(Event::Tick, link, now);
    }

    pub(crate) fn receive(&mut self, frame: Down, link: &mut Link, now: i64) {
        let event = match frame {
            // What came too late is dropped before it gets here.
            Down::Assign { expires, .. } if now >= expires => return,
            Down::Assign { task, nonce, .. } => {
                let journaled = self.journaled(&task);
                let nonce: Nonce = format!("{nonce:032x}").parse().unwrap();
                Event::Assign { task, nonce, accepted: ACCEPTED, journaled }
            }
            Down::Say(ToNode::Held { task, bytes, again, .. }) => Event::Held { task, bytes, again },
            Down::Say(ToNode::Cancel { task, times, accepted }) => {
                let journaled = self.journaled(&task);
                Event::Cancel { task, times, accepted, journaled }
            }
            Down::Say(ToNode::Settled { task, .. }) => Event::Settled { task },
            Down::Say(_) => return,
        };
        self.on(event, link, now);
    }

    /// One of the scripts that run writes something, or ends.
    pub(crate) fn work(&mut self, pick: usize, link: &mut Link, now: i64) {
        let Some(task) = nth(&self.runs, pick) else { return };
        if self.runs[&task].is_done {
            return;
        }
        if pick & 64 == 0 {
            self.written = self.written.wrapping_add(1);
            let log = self.logs.entry(task.clone()).or_default();
            log.extend(std::iter::repeat_n(self.written, 1 + pick % 11));
            let bytes = log.len() as u64;
            self.on(Event::Grew { task, bytes }, link, now);
        } else {
            self.finish(task, link, now);
        }
    }

    /// One of the logs cannot be read any more from some place on.
    pub(crate) fn lose_log(&mut self, pick: usize) {
        if let Some(task) = nth(&self.logs, pick) {
            let from = pick % (self.logs[&task].len() + 1);
            self.unreadable.entry(task).or_insert(from);
        }
    }

    pub(crate) fn finish_all(&mut self, link: &mut Link, now: i64) {
        for task in self.runs.keys().cloned().collect::<Vec<_>>() {
            if !self.runs[&task].is_done {
                self.finish(task, link, now);
            }
        }
    }

    /// Forgets what is settled: runs at any time, rows of the journal when their time is over.
    pub(crate) fn prune(&mut self, now: i64) {
        self.runs.retain(|task, run| !run.is_done || !self.settled.contains(task));
        self.journal.retain(|_, (row, since)| *row != Row::Settled || now < *since + VALIDITY);
    }

    pub(crate) fn restart(&mut self, now: i64) {
        // The task service ends what ran.
        self.runs.values_mut().for_each(|run| run.is_done = true);
        self.state = NodeState::new(FLOW);
        if self.weakness == Weakness::NoJournal {
            self.journal.clear();
        }
        let mut nothing = Link::default();
        for (task, (row, since)) in self.journal.clone() {
            if row == Row::Settled {
                continue;
            }
            self.state.on(Event::Wanted { task: task.clone(), nonce: None, accepted: ACCEPTED });
            if row == Row::Never {
                self.state.on(Event::Ended { task, log_bytes: 0 });
            } else if self.runs.contains_key(&task) {
                self.state.on(Event::Begun { task: task.clone(), header_bytes: 0 });
                let log_bytes = self.length(&task);
                self.state.on(Event::Ended { task, log_bytes });
            } else if now >= since + VALIDITY {
                let verdict = Verdict { code: "history_gone".into(), message: String::new() };
                self.on(Event::Never { task, verdict }, &mut nothing, now);
            }
        }
    }

    fn finish(&mut self, task: TaskId, link: &mut Link, now: i64) {
        self.runs.get_mut(&task).unwrap().is_done = true;
        let log_bytes = self.length(&task);
        self.on(Event::Ended { task, log_bytes }, link, now);
    }

    fn length(&self, task: &TaskId) -> u64 {
        self.logs.get(task).map_or(0, |log| log.len() as u64)
    }

    fn journaled(&self, task: &TaskId) -> Journaled {
        match self.journal.get(task) {
            Some((Row::Settled, _)) => Journaled::Settled,
            _ => Journaled::Unknown,
        }
    }

    fn on(&mut self, event: Event, link: &mut Link, now: i64) {
        let mut todo = VecDeque::from(self.state.on(event));
        let (mut stuck, mut later) = (BTreeSet::new(), Vec::new());
        while let Some(action) = todo.pop_front() {
            match &mut self.crash_at {
                Some(0) => {
                    (self.crash_at, self.has_crashed) = (None, true);
                    return;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            let task = action.task().cloned();
            let is_record = matches!(
                action,
                Action::JournalTaken { .. } | Action::JournalNever { .. } | Action::JournalSettled { .. }
            );
            if let (true, true, Some(task)) = (is_record, self.disk_fails, task.clone()) {
                self.state.on(Event::NotWritten { task: task.clone() });
                todo.retain(|action| action.task() != Some(&task));
                continue;
            }
            let is_log = matches!(action, Action::SendLog { .. } | Action::SendEnd { .. });
            if is_log && task.as_ref().is_some_and(|task| stuck.contains(task)) {
                continue;
            }
            let follows = self.perform(action, link, now);
            if self.has_crashed {
                return;
            }
            match follows {
                Some(Event::Unreadable { task, bytes }) => {
                    stuck.insert(task.clone());
                    later.push(Event::Unreadable { task, bytes });
                }
                Some(event) => todo.extend(self.state.on(event)),
                None => {}
            }
        }
        // What is sent because of it comes behind all the rest.
        for event in later {
            for action in self.state.on(event) {
                self.perform(action, link, now);
            }
        }
    }

    /// As the work around the state machine does; gives what follows.
    fn perform(&mut self, action: Action, link: &mut Link, now: i64) -> Option<Event> {
        let written = |task: &TaskId| Some(Event::Journaled { task: task.clone() });
        match action {
            Action::JournalTaken { task, .. } => {
                self.journal.insert(task.clone(), (Row::Taken, now));
                return written(&task);
            }
            Action::JournalNever { task, .. } => {
                self.journal.insert(task.clone(), (Row::Never, now));
                return written(&task);
            }
            Action::JournalSettled { task } => {
                self.journal.insert(task.clone(), (Row::Settled, now));
                self.settled.insert(task.clone());
                return written(&task);
            }
            Action::Start { task } => {
                if !self.runs.contains_key(&task) {
                    self.runs.insert(task.clone(), Run::default());
                    *self.starts.entry(task.clone()).or_default() += 1;
                    self.logs.entry(task.clone()).or_default();
                }
                self.on(Event::Begun { task: task.clone(), header_bytes: 0 }, link, now);
                if self.runs[&task].is_done {
                    let log_bytes = self.length(&task);
                    self.on(Event::Ended { task, log_bytes }, link, now);
                }
            }
            Action::Cancel { task } => {
                if self.runs.get(&task).is_some_and(|run| !run.is_done) {
                    self.finish(task, link, now);
                }
            }
            Action::Send(message) => link.up.push(Up::Say(message)),
            Action::SendLog { task, offset, bytes } => {
                let from = usize::try_from(offset).unwrap();
                let to = from + usize::try_from(bytes).unwrap();
                let end = self.unreadable.get(&task).map_or(to, |end| (*end).clamp(from, to));
                let is_known = self.weakness != Weakness::SendsWhatCannotBeRead && self.state.doubts(&task);
                if end < to && is_known {
                    return Some(Event::Unreadable { task, bytes: end as u64 });
                }
                if end == from {
                    return None;
                }
                let to = end;
                let bytes = self.logs[&task][from..to].to_vec();
                link.up.push(Up::Log { task, offset, bytes });
            }
            Action::SendEnd { task, log_bytes } => {
                let accepted = self.state.accepted(&task);
                link.up.push(Up::Ended { task, log_bytes, accepted });
            }
        }
        None
    }
}
