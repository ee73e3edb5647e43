//! The controller's end of the protocol, for one node, as a pure state machine. A frame of a node reaches only this node's
//! machine, so that no node can touch what was handed to another one.
//!
//! Actions are performed in their order, up to the first one that fails. See `docs/design/nodes.md`.

use std::collections::BTreeMap;

use task_service::TaskId;

use super::event::{Action, Event};
use crate::message::{AcceptedAt, MOST_CANCELS, Standing, ToNode, Unsettled, are_two};

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
    /// Which of the tasks of its id it is, and which other one the node has under that, if it has another.
    accepted: AcceptedAt,
    other: AcceptedAt,
}

/// What a node has by its own words.
#[derive(Debug, Clone, Copy)]
struct Named {
    is_begun: bool,
    accepted: AcceptedAt,
}

/// The tasks of one node that have not ended here, and those that were given up.
#[derive(Debug, Default)]
pub struct Desk {
    tasks: BTreeMap<TaskId, Entry>,
    /// What the node had when it connected: some of it may be submitted here only now.
    named: BTreeMap<TaskId, Named>,
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
            Event::Submitted { task, was_handed, held, accepted } => {
                self.submitted(&task, was_handed, Entry::new(Stage::Waiting, held, accepted), &mut todo);
            }
            Event::NotWritten { task } => self.not_written(&task),
            Event::NotAssigned { task } => self.not_assigned(&task, &mut todo),
            Event::Refused { task, accepted } => self.refused(task, accepted, &mut todo),
            Event::Over { task, accepted } => {
                // One that came here meanwhile goes its way.
                if self.tasks.get(&task).is_none_or(|entry| entry.is_another(accepted)) {
                    todo.push(Action::Send(ToNode::Settled { task, accepted }));
                }
            }
            Event::Connected { unsettled } => self.connected(&unsettled, &mut todo),
            Event::Disconnected => (self.is_connected, self.named) = (false, BTreeMap::new()),
            Event::Taken { task, accepted } => {
                if !self.is_of_another(&task, accepted) {
                    self.taken(&task);
                }
            }
            Event::Log { task, offset, bytes } => self.log(task, offset, bytes, &mut todo),
            Event::Holds { task, bytes } => {
                if let Some(entry) = self.tasks.get_mut(&task) {
                    entry.held = bytes;
                }
            }
            Event::Ended { task, log_bytes, accepted } => self.ended(task, log_bytes, accepted, &mut todo),
            Event::Finished { task } => {
                let accepted = self.tasks.remove(&task).and_then(|entry| entry.accepted);
                todo.push(Action::Forget { task: task.clone() });
                todo.push(Action::Send(ToNode::Settled { task, accepted }));
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
            Event::LeftOver { task, held, accepted } => {
                let entry = Entry::new(Stage::GivenUp, held, accepted);
                self.tasks.insert(task, Entry { cancels: MOST_CANCELS, ..entry });
            }
            Event::Tick => self.tick(&mut todo),
        }
        if !self.is_connected {
            todo.retain(|action| !matches!(action, Action::Send(_) | Action::Assign { .. }));
        }
        todo
    }

    fn submitted(&mut self, task: &TaskId, was_handed: bool, mut entry: Entry, todo: &mut Vec<Action>) {
        let is_begun = entry.is_begun_as(self.named.get(task));
        entry.stage = match was_handed {
            true if is_begun => Stage::Taken,
            true => Stage::Handed,
            false => Stage::Waiting,
        };
        self.tasks.insert(task.clone(), entry);
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

    /// Whether what the node says under an id is of another task than the one here. Log bytes do not say: they are of the one
    /// that the node spoke of last, since nothing overtakes anything else on a line.
    fn is_of_another(&mut self, task: &TaskId, accepted: AcceptedAt) -> bool {
        let Some(entry) = self.tasks.get_mut(task) else { return false };
        if accepted.is_some() {
            entry.other = accepted.filter(|_| entry.is_another(accepted));
        }
        entry.other.is_some()
    }

    /// Whether a node speaks of the task that is here under that id, if one is; of none otherwise.
    pub(super) fn is_here(&self, task: &TaskId, accepted: AcceptedAt) -> bool {
        self.tasks.get(task).is_some_and(|entry| !entry.is_another(accepted))
    }

    /// What a node that has taken a task says of it counts, and not what it says of an assignment that came late. One that
    /// has another task of its id starts it neither now nor later.
    fn refused(&mut self, task: TaskId, accepted: AcceptedAt, todo: &mut Vec<Action>) {
        let has_another = self.is_of_another(&task, accepted);
        let Some(entry) = self.tasks.get_mut(&task) else { return };
        match entry.stage {
            Stage::Handed | Stage::Withheld => {
                entry.stage = Stage::Finishing;
                todo.push(if has_another { Action::EndOther { task } } else { Action::EndGone { task } });
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
        let named = |named: &Unsettled| {
            (named.task.clone(), Named { is_begun: named.is_begun, accepted: named.accepted })
        };
        self.named = unsettled.iter().map(named).collect();
        for (task, entry) in &mut self.tasks {
            entry.stage = match (entry.stage, entry.is_begun_as(self.named.get(task))) {
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
        let end = offset.saturating_add(bytes);
        let passed_over =
            |task: TaskId, accepted| Action::Send(ToNode::Held { task, bytes: end, again: false, accepted });
        if !self.is_of_another(&task, None) {
            self.taken(&task);
        }
        let entry = match self.tasks.get_mut(&task) {
            // The node comes to the end of the other one only behind its log. Nobody keeps these bytes.
            Some(entry) if entry.other.is_some() => return todo.push(passed_over(task, entry.other)),
            Some(entry) if matches!(entry.stage, Stage::Taken | Stage::GivenUp) => entry,
            // The same of one that has ended here.
            None => {
                let accepted = self.named.get(&task).and_then(|named| named.accepted);
                todo.push(passed_over(task.clone(), accepted));
                return todo.push(Action::Ask { task, accepted });
            }
            Some(_) => return,
        };
        let accepted = entry.accepted;
        let again = offset > entry.held;
        if !again && end > entry.held {
            let skip = entry.held - offset;
            entry.held = end;
            todo.push(Action::Append { task: task.clone(), skip });
        }
        todo.push(Action::Send(ToNode::Held { task, bytes: entry.held, again, accepted }));
    }

    fn ended(&mut self, task: TaskId, log_bytes: u64, accepted: AcceptedAt, todo: &mut Vec<Action>) {
        if self.is_of_another(&task, accepted) {
            // The history has forgotten that one, or it would still have its id.
            return todo.push(Action::Send(ToNode::Settled { task, accepted }));
        }
        self.taken(&task);
        let Some(entry) = self.tasks.get_mut(&task) else {
            // It has ended here, or never was: the node has nothing to keep. Or it is about to be taken up.
            return todo.push(Action::Ask { task, accepted });
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
                let (bytes, accepted) = (entry.held, entry.accepted);
                todo.push(Action::Send(ToNode::Held { task, bytes, again: true, accepted }));
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
    fn new(stage: Stage, held: u64, accepted: AcceptedAt) -> Self {
        Self { stage, held, cancels: 0, accepted, other: None }
    }

    /// Whether that is known to be another task than this one.
    fn is_another(&self, accepted: AcceptedAt) -> bool {
        are_two(self.accepted, accepted)
    }

    /// Whether the node has this task and what it asks for, by what it has named under its id.
    fn is_begun_as(&mut self, named: Option<&Named>) -> bool {
        let accepted = named.and_then(|named| named.accepted);
        self.other = accepted.filter(|_| self.is_another(accepted));
        self.other.is_none() && named.is_some_and(|named| named.is_begun)
    }

    /// Says what the node has not answered.
    fn say_again(&self, task: &TaskId, todo: &mut Vec<Action>) {
        if self.stage == Stage::Handed {
            todo.push(Action::Assign { task: task.clone() });
        }
        let cancels = if self.stage == Stage::Withheld { self.cancels.max(1) } else { self.cancels };
        let is_ending = matches!(self.stage, Stage::Finishing | Stage::FinishingLate | Stage::EndingUnheard);
        if cancels > 0 && !is_ending {
            let (task, times, accepted) = (task.clone(), cancels, self.accepted);
            todo.push(Action::Send(ToNode::Cancel { task, times, accepted }));
        }
    }
}
