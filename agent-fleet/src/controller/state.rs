//! The controller's end of the protocol, for one node, as a pure state machine. A frame of a node reaches only this node's
//! machine, so that no node can touch what was handed to another one.
//!
//! Actions are performed in their order, up to the first one that fails. See `docs/design/nodes.md`.

use std::collections::{BTreeMap, BTreeSet};

use task_service::TaskId;

use super::event::{Action, Event};
use crate::message::{Standing, ToNode, Unsettled};

/// More requests for the end than this make no difference.
const MOST_CANCELS: u32 = 2;

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The node has not heard of it.
    Waiting,
    /// It may have.
    Handed,
    /// It may have, and cannot be told what is asked for: it is to end the task.
    Withheld,
    /// It has.
    Taken,
    /// The node has not heard of it, and its end is being written.
    EndingUnheard,
    /// Its end is being written.
    Finishing,
    /// It was given up and has ended; the node is to end it all the same, and what comes of it is kept.
    GivenUp,
    /// What came of it is being written.
    FinishingLate,
}

#[derive(Debug, Clone)]
struct Entry {
    stage: Stage,
    held: u64,
    cancels: u32,
}

/// The tasks of one node that have not ended here, and those that were given up.
#[derive(Debug, Default)]
pub struct Desk {
    tasks: BTreeMap<TaskId, Entry>,
    /// What the node had when it connected: some of it may be submitted here only now.
    begun: BTreeSet<TaskId>,
    is_connected: bool,
}

impl Desk {
    /// A desk for a node that is away.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is held of the tasks that a node names.
    pub fn standings(&self, unsettled: &[Unsettled]) -> Vec<Standing> {
        let standing =
            |named: &Unsettled| Standing { task: named.task.clone(), held: self.held(&named.task) };
        unsettled.iter().map(standing).collect()
    }

    /// How much is held of a task's log.
    pub(super) fn held(&self, task: &TaskId) -> u64 {
        self.tasks.get(task).map_or(0, |entry| entry.held)
    }

    /// How many tasks are here that the node has heard of, or is to.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Takes an event, and gives what is to be done because of it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Submitted { task, was_handed, held } => self.submitted(&task, was_handed, held, &mut todo),
            Event::NotWritten { task } => self.not_written(&task),
            Event::NotAssigned { task } => self.not_assigned(&task, &mut todo),
            Event::Refused { task } => self.refused(task, &mut todo),
            Event::Over { task } => {
                // One that came here meanwhile goes its way.
                if !self.tasks.contains_key(&task) {
                    todo.push(Action::Send(ToNode::Settled { task }));
                }
            }
            Event::Connected { unsettled } => self.connected(&unsettled, &mut todo),
            Event::Disconnected => (self.is_connected, self.begun) = (false, BTreeSet::new()),
            Event::Taken { task } => self.taken(&task),
            Event::Log { task, offset, bytes } => self.log(task, offset, bytes, &mut todo),
            Event::Holds { task, bytes } => {
                if let Some(entry) = self.tasks.get_mut(&task) {
                    entry.held = bytes;
                }
            }
            Event::Ended { task, log_bytes } => self.ended(task, log_bytes, &mut todo),
            Event::Finished { task } => {
                self.tasks.remove(&task);
                todo.push(Action::Forget { task: task.clone() });
                todo.push(Action::Send(ToNode::Settled { task }));
            }
            Event::NotFinished { task } => {
                // The node is asked for its end again. What it has not heard of is tried again by itself.
                if let Some(entry) = self.tasks.get_mut(&task) {
                    entry.stage = match entry.stage {
                        Stage::Finishing => Stage::Handed,
                        Stage::FinishingLate => Stage::GivenUp,
                        other => other,
                    };
                }
            }
            Event::Cancel { task } => self.cancel(&task, &mut todo),
            Event::GiveUp { task } => self.give_up(task, &mut todo),
            Event::GaveUp { task } => self.gave_up(&task, &mut todo),
            Event::LeftOver { task, held } => {
                self.tasks.insert(task, Entry { stage: Stage::GivenUp, held, cancels: MOST_CANCELS });
            }
            Event::Tick => self.tick(&mut todo),
        }
        if !self.is_connected {
            todo.retain(|action| !matches!(action, Action::Send(_) | Action::Assign { .. }));
        }
        todo
    }

    fn submitted(&mut self, task: &TaskId, was_handed: bool, held: u64, todo: &mut Vec<Action>) {
        let stage = match was_handed {
            true if self.begun.contains(task) => Stage::Taken,
            true => Stage::Handed,
            false => Stage::Waiting,
        };
        self.tasks.insert(task.clone(), Entry { stage, held, cancels: 0 });
        if self.is_connected {
            self.hand_out(task, todo);
        }
    }

    /// Has the node hear of a task; that it may have is written first.
    fn hand_out(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if entry.stage == Stage::Waiting {
            entry.stage = Stage::Handed;
            todo.push(Action::WriteHanded { task: task.clone() });
        }
        entry.say_again(task, todo);
    }

    fn not_written(&mut self, task: &TaskId) {
        if let Some(entry) = self.tasks.get_mut(task)
            && entry.stage == Stage::Handed
        {
            entry.stage = Stage::Waiting;
        }
    }

    /// A task that cannot be assigned is not asked for again. A node that has it says so; one that has not ends it.
    fn not_assigned(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        if let Some(entry) = self.tasks.get_mut(task)
            && entry.stage == Stage::Handed
        {
            entry.stage = Stage::Withheld;
            entry.say_again(task, todo);
        }
    }

    /// What a node that has taken a task says of it counts, and not what it says of an assignment that came late.
    fn refused(&mut self, task: TaskId, todo: &mut Vec<Action>) {
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        match entry.stage {
            Stage::Handed | Stage::Withheld => {
                entry.stage = Stage::Finishing;
                todo.push(Action::EndGone { task });
            }
            Stage::GivenUp => {
                self.tasks.remove(&task);
                todo.push(Action::Forget { task });
            }
            Stage::Waiting
            | Stage::EndingUnheard
            | Stage::Taken
            | Stage::Finishing
            | Stage::FinishingLate => {}
        }
    }

    fn tick(&mut self, todo: &mut Vec<Action>) {
        for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
            let stage = self.tasks.get(&task).map(|entry| entry.stage);
            match stage {
                Some(Stage::EndingUnheard) => todo.push(Action::EndUnheard { task }),
                // What could not be written is tried again.
                Some(_) if self.is_connected => self.hand_out(&task, todo),
                _ => {}
            }
        }
    }

    fn connected(&mut self, unsettled: &[Unsettled], todo: &mut Vec<Action>) {
        self.is_connected = true;
        self.begun =
            unsettled.iter().filter(|named| named.is_begun).map(|named| named.task.clone()).collect();
        for (task, entry) in &mut self.tasks {
            entry.stage = match (entry.stage, self.begun.contains(task)) {
                (Stage::Handed | Stage::Withheld, true) => Stage::Taken,
                // A node that was restarted may have it in its journal and not what it asks for.
                (Stage::Taken | Stage::Withheld, false) => Stage::Handed,
                (stage, _) => stage,
            };
        }
        for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.hand_out(&task, todo);
        }
    }

    fn taken(&mut self, task: &TaskId) {
        if let Some(entry) = self.tasks.get_mut(task)
            && matches!(entry.stage, Stage::Handed | Stage::Withheld)
        {
            entry.stage = Stage::Taken;
        }
    }

    fn log(&mut self, task: TaskId, offset: u64, bytes: u64, todo: &mut Vec<Action>) {
        self.taken(&task);
        let end = offset.saturating_add(bytes);
        let entry = match self.tasks.get_mut(&task) {
            Some(entry) if matches!(entry.stage, Stage::Taken | Stage::GivenUp) => entry,
            // It has ended here, and the node comes to its own end only behind its log. Nobody keeps these bytes.
            None => {
                todo.push(Action::Send(ToNode::Held { task: task.clone(), bytes: end, again: false }));
                todo.push(Action::Ask { task });
                return;
            }
            Some(_) => return,
        };
        let again = offset > entry.held;
        if !again && end > entry.held {
            let skip = entry.held - offset;
            entry.held = end;
            todo.push(Action::Append { task: task.clone(), skip });
        }
        todo.push(Action::Send(ToNode::Held { task, bytes: entry.held, again }));
    }

    fn ended(&mut self, task: TaskId, log_bytes: u64, todo: &mut Vec<Action>) {
        self.taken(&task);
        let Some(entry) = self.tasks.get_mut(&task) else {
            // It has ended here, or never was: the node has nothing to keep. Or it is about to be taken up.
            todo.push(Action::Ask { task });
            return;
        };
        match entry.stage {
            // A node cannot end what it has not heard of; or it is being written.
            Stage::Waiting
            | Stage::Handed
            | Stage::Withheld
            | Stage::EndingUnheard
            | Stage::Finishing
            | Stage::FinishingLate => {}
            Stage::Taken | Stage::GivenUp if entry.held < log_bytes => {
                todo.push(Action::Send(ToNode::Held { task, bytes: entry.held, again: true }));
            }
            Stage::Taken => {
                entry.stage = Stage::Finishing;
                todo.push(Action::Finish { task });
            }
            Stage::GivenUp => {
                entry.stage = Stage::FinishingLate;
                todo.push(Action::FinishLate { task });
            }
        }
    }

    fn cancel(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if matches!(entry.stage, Stage::Waiting | Stage::EndingUnheard) {
            entry.stage = Stage::EndingUnheard;
            todo.push(Action::EndUnheard { task: task.clone() });
            return;
        }
        entry.cancels = (entry.cancels + 1).min(MOST_CANCELS);
        entry.say_again(task, todo);
    }

    /// Nothing where its end is here already, or was before.
    fn give_up(&self, task: TaskId, todo: &mut Vec<Action>) {
        match self.tasks.get(&task).map(|entry| entry.stage) {
            Some(Stage::Waiting | Stage::EndingUnheard) => todo.push(Action::EndLost { task }),
            Some(Stage::Handed | Stage::Withheld | Stage::Taken) => {
                todo.push(Action::WriteGivenUp { task: task.clone() });
                todo.push(Action::EndLost { task });
            }
            None | Some(Stage::Finishing | Stage::GivenUp | Stage::FinishingLate) => {}
        }
    }

    fn gave_up(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        if matches!(entry.stage, Stage::Waiting | Stage::EndingUnheard) {
            self.tasks.remove(task);
            todo.push(Action::Forget { task: task.clone() });
            return;
        }
        (entry.stage, entry.cancels) = (Stage::GivenUp, MOST_CANCELS);
        entry.say_again(task, todo);
    }
}

impl Entry {
    /// Says what the node has not answered.
    fn say_again(&self, task: &TaskId, todo: &mut Vec<Action>) {
        if self.stage == Stage::Handed {
            todo.push(Action::Assign { task: task.clone() });
        }
        let cancels = if self.stage == Stage::Withheld { self.cancels.max(1) } else { self.cancels };
        let is_ending = matches!(self.stage, Stage::Finishing | Stage::FinishingLate | Stage::EndingUnheard);
        if cancels > 0 && !is_ending {
            let (task, times) = (task.clone(), cancels);
            todo.push(Action::Send(ToNode::Cancel { task, times }));
        }
    }
}
