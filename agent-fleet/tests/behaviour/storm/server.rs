//! An API server whose disk is a few maps.

use std::collections::BTreeMap;

use agent_fleet::controller::{Action, Desk, Event};
use agent_fleet::message::{Standing, ToNode, ToServer, Unsettled};
use task_service::TaskId;

use super::world::{Down, Link, Up, VALIDITY, Weakness, nth};

pub(crate) struct Server {
    weakness: Weakness,
    // On disk: nonce, and whether the node may have heard of it.
    intents: BTreeMap<TaskId, (u8, bool)>,
    given_up: Vec<TaskId>,
    pub(crate) ends: BTreeMap<TaskId, Vec<&'static str>>,
    pub(crate) logs: BTreeMap<TaskId, Vec<u8>>,
    // In memory.
    desk: Desk,
    pub(crate) crash_at: Option<usize>,
    pub(crate) has_crashed: bool,
}

impl Server {
    pub(crate) fn new(weakness: Weakness) -> Self {
        Self {
            weakness,
            intents: BTreeMap::new(),
            given_up: Vec::new(),
            ends: BTreeMap::new(),
            logs: BTreeMap::new(),
            desk: Desk::new(),
            crash_at: None,
            has_crashed: false,
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.desk.len()
    }

    pub(crate) fn submit(&mut self, task: TaskId, nonce: u8, link: &mut Link, now: i64) {
        self.intents.insert(task.clone(), (nonce, false));
        self.ends.insert(task.clone(), Vec::new());
        self.on(Event::Submitted { task, was_handed: false, held: 0 }, &[], link, now);
    }

    pub(crate) fn connected(
        &mut self,
        unsettled: Vec<Unsettled>,
        link: &mut Link,
        now: i64,
    ) -> Vec<Standing> {
        let standings = self.desk.standings(&unsettled);
        self.on(Event::Connected { unsettled }, &[], link, now);
        standings
    }

    pub(crate) fn disconnected(&mut self) {
        self.desk.on(Event::Disconnected);
    }

    pub(crate) fn tick(&mut self, link: &mut Link, now: i64) {
        self.on(Event::Tick, &[], link, now);
    }

    pub(crate) fn cancel(&mut self, pick: usize, link: &mut Link, now: i64) {
        if let Some(task) = nth(&self.ends, pick) {
            self.on(Event::Cancel { task }, &[], link, now);
        }
    }

    pub(crate) fn give_up(&mut self, pick: usize, link: &mut Link, now: i64) {
        if let Some(task) = nth(&self.ends, pick) {
            self.on(Event::GiveUp { task }, &[], link, now);
        }
    }

    pub(crate) fn receive(&mut self, frame: Up, link: &mut Link, now: i64) {
        match frame {
            Up::Say(ToServer::Taken { task } | ToServer::Started { task, .. }) => {
                self.on(Event::Taken { task }, &[], link, now);
            }
            Up::Say(_) => {}
            Up::Log { task, offset, bytes } => {
                let blind = self.weakness == Weakness::NoOffsets;
                let offset =
                    if blind { self.logs.get(&task).map_or(0, |log| log.len() as u64) } else { offset };
                let length = bytes.len() as u64;
                self.on(Event::Log { task, offset, bytes: length }, &bytes, link, now);
            }
            Up::Ended { task, log_bytes } => {
                if self.weakness == Weakness::SettledTooEarly {
                    link.down.push(Down::Say(ToNode::Settled { task: task.clone() }));
                }
                self.on(Event::Ended { task, log_bytes }, &[], link, now);
            }
        }
    }

    pub(crate) fn restart(&mut self, link: &mut Link, now: i64) {
        self.desk = Desk::new();
        let mut unfinished = Vec::new();
        for (task, (_, was_handed)) in &self.intents {
            let held = self.logs.get(task).map_or(0, |log| log.len() as u64);
            let task = task.clone();
            match (self.given_up.contains(&task), self.ends[&task].is_empty()) {
                (false, false) => {}
                (true, false) => drop(self.desk.on(Event::LeftOver { task, held })),
                (is_given_up, true) => {
                    self.desk.on(Event::Submitted { task: task.clone(), was_handed: *was_handed, held });
                    unfinished.extend(is_given_up.then_some(task));
                }
            }
        }
        for task in unfinished {
            self.on(Event::GiveUp { task }, &[], link, now);
        }
    }

    fn on(&mut self, event: Event, came: &[u8], link: &mut Link, now: i64) {
        for action in self.desk.on(event) {
            match &mut self.crash_at {
                Some(0) => {
                    (self.crash_at, self.has_crashed) = (None, true);
                    return;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            self.perform(action, came, link, now);
            if self.has_crashed {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action, came: &[u8], link: &mut Link, now: i64) {
        match action {
            Action::WriteHanded { task } => {
                if self.weakness != Weakness::NoIntent {
                    self.intents.get_mut(&task).unwrap().1 = true;
                }
            }
            Action::Assign { task } => {
                let nonce = self.intents[&task].0;
                link.down.push(Down::Assign { task, nonce, expires: now + VALIDITY });
            }
            Action::Send(message) => link.down.push(Down::Say(message)),
            Action::Append { task, skip } => {
                let skip = usize::try_from(skip).unwrap();
                self.logs.entry(task).or_default().extend(&came[skip..]);
            }
            Action::Finish { task } => {
                self.logs.entry(task.clone()).or_default();
                self.ends.get_mut(&task).unwrap().push("ended");
                self.on(Event::Finished { task }, came, link, now);
            }
            Action::EndUnheard { task } => {
                self.ends.get_mut(&task).unwrap().push("unheard");
                self.intents.remove(&task);
            }
            Action::WriteGivenUp { task } => self.given_up.push(task),
            Action::EndLost { task } => {
                self.logs.entry(task.clone()).or_default();
                self.ends.get_mut(&task).unwrap().push("lost");
                self.on(Event::GaveUp { task }, came, link, now);
            }
            Action::FinishLate { task } => self.on(Event::Finished { task }, came, link, now),
            Action::Forget { task } => {
                self.intents.remove(&task);
            }
        }
    }
}
