//! The node's end of the protocol as a pure state machine: an event goes in, actions come out, nothing else happens.
//!
//! Whoever performs the actions does so in their order, and stops at the first one that fails: what is to be written
//! stands in front of what may be told because of it. See `docs/design/nodes.md` for the states and why they are so.

use std::collections::{BTreeMap, BTreeSet};

use task_service::TaskId;

use super::event::{Action, Event, Flow, Journaled, Verdict};
use super::open::{Open, Owed, Stage, other_assignment, settled_before};
use crate::message::{AcceptedAt, MOST_CANCELS, Standing, Unsettled};

/// Tasks that are tried at a tick of those that the task service had no room for. Each that it takes is followed by another.
const TRIED: usize = 4;
/// Most ticks between two repetitions of what nobody answered.
const MOST_SILENCE: u32 = 12;
/// Ticks for which a log that has ended and cannot be read is tried, before its end is told without the rest.
const MOST_TRIES: u32 = 6;

/// The tasks of a node that are not settled.
#[derive(Debug, Default)]
pub struct NodeState {
    flow: Flow,
    open: BTreeMap<TaskId, Open>,
    /// Those that the task service could not take, in the order in which it said so first.
    waiting: BTreeSet<(u64, TaskId)>,
    turns: u64,
    is_connected: bool,
}

impl NodeState {
    /// A node that knows of no task yet.
    pub fn new(flow: Flow) -> Self {
        Self { flow, ..Self::default() }
    }

    /// What the node says of its tasks when it connects.
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let told = |(task, open): (&TaskId, &Open)| Unsettled {
            task: task.clone(),
            is_begun: open.stage != Stage::Wanted,
            accepted: open.accepted,
        };
        self.open.iter().map(told).collect()
    }

    /// Whether a task is neither settled nor unknown.
    pub fn is_open(&self, task: &TaskId) -> bool {
        self.open.contains_key(task)
    }

    /// Which of the tasks of an id is open, as far as that is known.
    pub fn accepted(&self, task: &TaskId) -> AcceptedAt {
        self.open.get(task).and_then(|open| open.accepted)
    }

    /// Whether the task that is open under an id is known to be another one.
    pub fn is_another(&self, task: &TaskId, accepted: AcceptedAt) -> bool {
        self.open.get(task).is_some_and(|open| open.is_another(accepted))
    }

    /// Whether what a task asks for is needed.
    pub(super) fn wants(&self, task: &TaskId) -> bool {
        self.open.get(task).is_none_or(|open| open.stage == Stage::Wanted)
    }

    /// Whether it is to be made sure that what is sent of a log can be read.
    pub fn doubts(&self, task: &TaskId) -> bool {
        self.open.get(task).is_some_and(|open| open.is_doubted)
    }

    /// How many tasks are not settled.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all are.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes an event, and gives what is to be done because of it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Wanted { task, nonce, accepted } => {
                let open = Open::new(Stage::Wanted, nonce, accepted);
                self.open.insert(task, Open { is_new: false, ..open });
            }
            Event::Assign { task, nonce, accepted, journaled } => {
                let open = Open::new(Stage::Starting, Some(nonce), accepted);
                self.assign(task, open, journaled, &mut todo);
            }
            Event::Cancel { task, times, accepted, journaled } => {
                // The assignment may still be on its way, and is to start nothing.
                let unknown = Open::new(Stage::Wanted, None, accepted);
                let cancels = times.min(MOST_CANCELS);
                self.cancel(&task, Open { cancels, ..unknown }, journaled, &mut todo);
            }
            Event::Journaled { task } => self.journaled(&task, &mut todo),
            Event::NotWritten { task } => {
                if self.open.get(&task).is_some_and(|open| open.is_new) {
                    self.open.remove(&task);
                }
            }
            Event::NotCancelled { task } => {
                if let Some(open) = self.open.get_mut(&task) {
                    open.cancelled = open.cancelled.saturating_sub(1);
                }
            }
            Event::Unreadable { task, bytes } => self.unreadable(&task, bytes, &mut todo),
            Event::Waits { task, bytes } => {
                if let Some(open) = self.open.get_mut(&task) {
                    (open.next, open.is_end_sent) = (open.next.min(bytes), false);
                }
            }
            Event::Begun { task, header_bytes } => self.begun(&task, header_bytes, &mut todo),
            Event::Written { task, body_end } => {
                if let Some(open) = self.open.get_mut(&task) {
                    open.body_end = Some(body_end);
                    todo.extend(open.started(&task));
                }
            }
            Event::NotYet { task } => self.not_yet(&task, &mut todo),
            Event::Never { task, verdict } => self.never(&task, verdict, &mut todo),
            Event::Missing { task } => self.missing(&task, &mut todo),
            Event::Grew { task, bytes } => {
                if let Some(open) = self.open.get_mut(&task) {
                    open.log = open.log.max(bytes);
                }
                self.pump(&task, &mut todo);
            }
            Event::Ended { task, log_bytes } => {
                if let Some(open) = self.open.get_mut(&task) {
                    (open.stage, open.log) = (Stage::Ended, log_bytes);
                    // What a loss of power took from the end of the log cannot be sent again.
                    (open.held, open.next) = (open.held.min(log_bytes), open.next.min(log_bytes));
                }
                self.pump(&task, &mut todo);
                // It has left its place to another.
                self.try_again(1, &mut todo);
            }
            Event::Connected { tasks } => self.connected(&tasks, &mut todo),
            Event::Disconnected => self.is_connected = false,
            Event::Held { task, bytes, again } => self.held(&task, bytes, again, &mut todo),
            Event::Settled { task } => self.settled(&task, &mut todo),
            Event::Tick => self.tick(&mut todo),
        }
        if !self.is_connected {
            todo.retain(|action| !is_sent(action));
        }
        todo
    }

    fn assign(&mut self, task: TaskId, new: Open, journaled: Journaled, todo: &mut Vec<Action>) {
        let (nonce, accepted) = (new.nonce, new.accepted);
        let Some(open) = self.open.get_mut(&task) else {
            match (journaled, nonce) {
                (Journaled::Unknown, Some(nonce)) => {
                    todo.push(Action::JournalTaken { task: task.clone(), nonce, accepted });
                    todo.push(Action::Start { task: task.clone() });
                    todo.push(new.taken(&task));
                    self.open.insert(task, new);
                }
                (Journaled::OtherSettled, _) => {
                    self.open.insert(task.clone(), new);
                    self.never(&task, Verdict::of_before(), todo);
                }
                _ => todo.push(settled_before(task, accepted)),
            }
            return;
        };
        if open.is_another(accepted) || open.nonce.is_some_and(|known| Some(known) != nonce) {
            todo.push(other_assignment(task, open));
            return;
        }
        if open.stage == Stage::Wanted {
            open.stage = Stage::Starting;
            todo.push(Action::Start { task: task.clone() });
        }
        self.say_again(&task, todo);
    }

    fn cancel(&mut self, task: &TaskId, unknown: Open, journaled: Journaled, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else {
            if journaled == Journaled::Settled {
                return todo.push(settled_before(task.clone(), unknown.accepted));
            }
            self.open.insert(task.clone(), unknown);
            return self.never(task, Verdict::cancelled(), todo);
        };
        if open.is_another(unknown.accepted) {
            return todo.push(other_assignment(task.clone(), open));
        }
        open.cancels = open.cancels.max(unknown.cancels);
        match open.stage {
            Stage::Wanted | Stage::Waiting => self.never(task, Verdict::cancelled(), todo),
            Stage::Running { .. } => open.pass_cancels_on(task, todo),
            Stage::Starting => {}
            Stage::Ended => self.say_again(task, todo),
        }
    }

    fn begun(&mut self, task: &TaskId, header_bytes: u64, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        if open.stage == Stage::Ended {
            return;
        }
        open.stage = Stage::Running { header_bytes };
        open.pass_cancels_on(task, todo);
        // Before there is a log it says no more than `taken` did.
        if header_bytes > 0 {
            todo.extend(open.started(task));
        }
        if open.turn.take().is_some() {
            self.try_again(1, todo);
        }
    }

    fn not_yet(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        open.stage = Stage::Waiting;
        if open.cancels > 0 {
            return self.never(task, Verdict::cancelled(), todo);
        }
        self.turns += 1;
        self.waiting.insert((*open.turn.get_or_insert(self.turns), task.clone()));
    }

    /// Has those started that have waited longest.
    fn try_again(&mut self, most: usize, todo: &mut Vec<Action>) {
        for _ in 0..most {
            let Some((_, task)) = self.waiting.pop_first() else { return };
            if let Some(open) = self.open.get_mut(&task) {
                open.stage = Stage::Starting;
                todo.push(Action::Start { task });
            }
        }
    }

    /// A task that was held to be begun is wanted again. What was asked for before is done first.
    fn missing(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        if matches!(open.stage, Stage::Running { .. }) {
            open.stage = Stage::Wanted;
            if open.cancels > 0 {
                self.never(task, Verdict::cancelled(), todo);
            }
        }
    }

    fn never(&mut self, task: &TaskId, verdict: Verdict, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        if let Some(turn) = open.turn.take() {
            self.waiting.remove(&(turn, task.clone()));
        }
        (open.stage, open.log) = (Stage::Ended, 0);
        open.owed = Some(Owed::Never(verdict));
        open.write(task, todo);
    }

    /// What is in the journal may be told.
    fn journaled(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        open.is_new = false;
        match open.owed.take() {
            Some(Owed::Settled) => drop(self.open.remove(task)),
            Some(Owed::Never(_)) => self.pump(task, todo),
            None => {}
        }
    }

    /// What cannot be read is tried at each tick, and behind the end not for ever.
    fn unreadable(&mut self, task: &TaskId, bytes: u64, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        (open.next, open.is_end_sent, open.is_stuck) = (open.next.min(bytes), false, true);
        if open.stage == Stage::Ended {
            open.tries += 1;
        }
        if open.tries >= MOST_TRIES {
            (open.log, open.is_stuck) = (open.log.min(bytes), false);
            self.pump(task, todo);
        }
    }

    fn connected(&mut self, tasks: &[Standing], todo: &mut Vec<Action>) {
        self.is_connected = true;
        let held: BTreeMap<&TaskId, u64> =
            tasks.iter().map(|standing| (&standing.task, standing.held)).collect();
        for (task, open) in &mut self.open {
            open.go_back_to(held.get(task).copied().unwrap_or_default());
            open.answered();
        }
        for task in self.open.keys().cloned().collect::<Vec<_>>() {
            self.say_again(&task, todo);
        }
    }

    fn held(&mut self, task: &TaskId, bytes: u64, again: bool, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        if again {
            open.go_back_to(bytes);
            open.is_doubted = true;
        } else if bytes > open.held {
            (open.is_doubted, open.tries) = (false, 0);
            open.held = bytes;
            open.next = open.next.max(open.held);
        }
        open.answered();
        self.pump(task, todo);
    }

    fn settled(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        // What runs is not forgotten: it could be started again.
        if let Some(open) = self.open.get_mut(task)
            && open.stage == Stage::Ended
        {
            open.owed = Some(Owed::Settled);
            open.write(task, todo);
        }
    }

    fn tick(&mut self, todo: &mut Vec<Action>) {
        self.try_again(TRIED, todo);
        let mut silent = Vec::new();
        for (task, open) in &mut self.open {
            open.write(task, todo);
            if matches!(open.stage, Stage::Running { .. }) {
                open.pass_cancels_on(task, todo);
            }
            open.silence += 1;
            let was_stuck = std::mem::take(&mut open.is_stuck);
            if self.is_connected && (was_stuck || open.silence >= open.repeat_at) {
                open.silence = 0;
                open.repeat_at = (open.repeat_at * 2).min(MOST_SILENCE);
                open.is_doubted |= open.next > open.held;
                open.go_back_to(open.held);
                silent.push(task.clone());
            }
        }
        for task in silent {
            self.say_again(&task, todo);
        }
    }

    /// Says how a task stands, and goes on with its log.
    fn say_again(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(task) else { return };
        match open.stage {
            Stage::Wanted => {}
            Stage::Waiting | Stage::Starting => todo.push(open.taken(task)),
            Stage::Running { .. } => todo.extend(open.started(task)),
            Stage::Ended => open.is_end_sent = false,
        }
        self.pump(task, todo);
    }

    /// Sends what the window has room for, and behind the whole log the end.
    fn pump(&mut self, task: &TaskId, todo: &mut Vec<Action>) {
        if !self.is_connected {
            return;
        }
        let Some(open) = self.open.get_mut(task) else { return };
        // What is not written is not told, and what cannot be read now is tried later.
        if open.owed.is_some() || open.is_stuck {
            return;
        }
        let until = open.log.min(open.held.saturating_add(self.flow.window));
        while open.next < until {
            let bytes = (until - open.next).min(self.flow.chunk);
            todo.push(Action::SendLog { task: task.clone(), offset: open.next, bytes });
            open.next += bytes;
        }
        if open.stage == Stage::Ended && open.next >= open.log && !open.is_end_sent {
            open.is_end_sent = true;
            todo.push(Action::SendEnd { task: task.clone(), log_bytes: open.log });
        }
    }
}

fn is_sent(action: &Action) -> bool {
    matches!(action, Action::Send(_) | Action::SendLog { .. } | Action::SendEnd { .. })
}
