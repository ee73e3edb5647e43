//! An API server whose disk is a few maps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_fleet::controller::{Action, Desk, Event};
use agent_fleet::message::{Standing, ToNode, ToServer, Unsettled};
use task_service::TaskId;

use super::world::{ACCEPTED, Down, Link, Up, VALIDITY, Weakness, nth};

/// Most actions that may follow from one event.
const MOST_ACTIONS: usize = 100;

pub(crate) struct Server {
    weakness: Weakness,
    // On disk: nonce, and whether the node may have heard of it.
    intents: BTreeMap<TaskId, (u8, bool)>,
    given_up: Vec<TaskId>,
    pub(crate) ends: BTreeMap<TaskId, Vec<&'static str>>,
    pub(crate) logs: BTreeMap<TaskId, Vec<u8>>,
    // In memory: what can be assigned, and what was not taken up yet since the last start.
    desk: Desk,
    contents: BTreeSet<TaskId>,
    not_taken_up: Vec<TaskId>,
    pub(crate) disk_fails: bool,
    pub(crate) spins: bool,
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
            contents: BTreeSet::new(),
            not_taken_up: Vec::new(),
            disk_fails: false,
            spins: false,
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
        self.contents.insert(task.clone());
        self.on(Event::Submitted { task, was_handed: false, held: 0, accepted: ACCEPTED }, &[], link, now);
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
        let is_here = |task: &TaskId| !self.not_taken_up.contains(task);
        if let Some(task) = nth(&self.ends, pick).filter(is_here) {
            self.on(Event::GiveUp { task }, &[], link, now);
        }
    }

    pub(crate) fn receive(&mut self, frame: Up, link: &mut Link, now: i64) {
        match frame {
            Up::Say(ToServer::Taken { task, accepted } | ToServer::Started { task, accepted, .. }) => {
                self.on(Event::Taken { task, accepted }, &[], link, now);
            }
            Up::Say(ToServer::Complaint { task: Some(task), accepted, .. }) => {
                self.on(Event::Refused { task, accepted }, &[], link, now);
            }
            Up::Say(_) => {}
            Up::Log { task, offset, bytes } => {
                let blind = self.weakness == Weakness::NoOffsets;
                let offset =
                    if blind { self.logs.get(&task).map_or(0, |log| log.len() as u64) } else { offset };
                let length = bytes.len() as u64;
                self.on(Event::Log { task, offset, bytes: length }, &bytes, link, now);
            }
            Up::Ended { task, log_bytes, accepted } => {
                if self.weakness == Weakness::SettledTooEarly {
                    link.down.push(Down::Say(ToNode::Settled { task: task.clone(), accepted }));
                }
                self.on(Event::Ended { task, log_bytes, accepted }, &[], link, now);
            }
        }
    }

    pub(crate) fn restart(&mut self) {
        self.desk = Desk::new();
        // Values of secrets, which half of the tasks have, are in memory only.
        self.contents.retain(|task| self.intents.get(task).is_some_and(|(nonce, _)| nonce % 2 == 0));
        let is_open = |task: &&TaskId| self.ends[*task].is_empty();
        self.not_taken_up = self.intents.keys().filter(is_open).cloned().collect();
        let left_over: Vec<TaskId> = self.intents.keys().filter(|task| !is_open(task)).cloned().collect();
        for task in left_over.into_iter().filter(|task| self.given_up.contains(task)) {
            let held = self.logs.get(&task).map_or(0, |log| log.len() as u64);
            self.desk.on(Event::LeftOver { task, held, accepted: ACCEPTED });
        }
    }

    /// Takes one of the tasks of the last run up.
    pub(crate) fn take_up(&mut self, pick: usize, link: &mut Link, now: i64) {
        if self.not_taken_up.is_empty() {
            return;
        }
        let task = self.not_taken_up.remove(pick % self.not_taken_up.len());
        let was_handed = self.intents[&task].1;
        let held = self.logs.get(&task).map_or(0, |log| log.len() as u64);
        let submitted = Event::Submitted { task: task.clone(), was_handed, held, accepted: ACCEPTED };
        self.on(submitted, &[], link, now);
        if self.given_up.contains(&task) && !self.has_crashed {
            self.on(Event::GiveUp { task }, &[], link, now);
        }
    }

    pub(crate) fn take_all_up(&mut self, link: &mut Link, now: i64) {
        while !self.not_taken_up.is_empty() {
            self.take_up(0, link, now);
        }
    }

    fn on(&mut self, event: Event, came: &[u8], link: &mut Link, now: i64) {
        let mut todo = VecDeque::from(self.desk.on(event));
        for _ in 0..MOST_ACTIONS {
            let Some(action) = todo.pop_front() else { return };
            match &mut self.crash_at {
                Some(0) => {
                    (self.crash_at, self.has_crashed) = (None, true);
                    return;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            match self.perform(action.clone(), came, link, now) {
                Ok(None) => {}
                Ok(Some(event)) => todo.extend(self.desk.on(event)),
                Err(event) => {
                    todo.retain(|other| other.task() != action.task());
                    todo.extend(self.desk.on(event));
                }
            }
        }
        self.spins = true;
    }

    /// As the work around the desk does: what follows, or why what was to follow does not.
    fn perform(
        &mut self,
        action: Action,
        came: &[u8],
        link: &mut Link,
        now: i64,
    ) -> Result<Option<Event>, Event> {
        match action {
            Action::WriteHanded { task } if self.disk_fails => return Err(Event::NotWritten { task }),
            Action::WriteHanded { task } => {
                if self.weakness != Weakness::NoIntent {
                    self.intents.get_mut(&task).unwrap().1 = true;
                }
            }
            Action::Assign { task } if !self.contents.contains(&task) => {
                return Ok(Some(match self.weakness {
                    Weakness::CancelsWhatCannotBeAssigned => Event::Cancel { task },
                    _ => Event::NotAssigned { task },
                }));
            }
            Action::Assign { task } => {
                let nonce = self.intents[&task].0;
                link.down.push(Down::Assign { task, nonce, expires: now + VALIDITY });
            }
            Action::Send(message) => link.down.push(Down::Say(message)),
            Action::Append { task, .. } if self.disk_fails => {
                let bytes = self.logs.get(&task).map_or(0, |log| log.len() as u64);
                return Err(Event::Holds { task, bytes });
            }
            Action::Append { task, skip } => {
                let skip = usize::try_from(skip).unwrap();
                self.logs.entry(task).or_default().extend(&came[skip..]);
            }
            Action::WriteGivenUp { task } | Action::EndLost { task } if self.disk_fails => {
                let bytes = self.logs.get(&task).map_or(0, |log| log.len() as u64);
                return Err(Event::Holds { task, bytes });
            }
            Action::WriteGivenUp { task } => self.given_up.push(task),
            Action::EndLost { task } => {
                self.logs.entry(task.clone()).or_default();
                self.ends.get_mut(&task).unwrap().push("lost");
                return Ok(Some(Event::GaveUp { task }));
            }
            Action::FinishLate { task } if self.disk_fails => return Err(Event::NotFinished { task }),
            Action::FinishLate { task } => return Ok(Some(Event::Finished { task })),
            Action::Finish { task } => return self.end(task, "ended"),
            Action::EndUnheard { task } => return self.end(task, "unheard"),
            Action::EndGone { task } | Action::EndOther { task } => return self.end(task, "gone"),
            Action::Ask { task, accepted } => {
                let is_over = self.ends.get(&task).is_none_or(|ends| !ends.is_empty());
                if is_over || self.weakness == Weakness::SettlesUnknown {
                    return Ok(Some(Event::Over { task, accepted }));
                }
            }
            Action::Forget { task } => drop(self.intents.remove(&task)),
        }
        Ok(None)
    }

    fn end(&mut self, task: TaskId, how: &'static str) -> Result<Option<Event>, Event> {
        if self.disk_fails {
            return Err(Event::NotFinished { task });
        }
        self.logs.entry(task.clone()).or_default();
        self.ends.get_mut(&task).unwrap().push(how);
        Ok(Some(Event::Finished { task }))
    }
}
