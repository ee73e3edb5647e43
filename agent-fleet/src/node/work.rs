//! The node's work: the state machine with its journal, its task service and its link around it.
//!
//! What comes is taken together, decided, written to the journal in one flush, and only then done and told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use task_runners::Scripts;
use task_service::{CancelError, LogReader, TaskId, TaskService};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::assignments::Assignments;
use super::counts::NodeCounts;
use super::ending::How;
use super::event::{Action, Event, Journaled};
use super::owners::Owners;
use super::sending::{EndedLogs, Leaving};
use super::state::NodeState;
use crate::TICK;
use crate::assignment::{self, Assignment, SignedAssignment};
use crate::journal::{Journal, Record};
use crate::keys::{NodeKeys, PublicKey};
use crate::link::Outgoing;
use crate::message::{OTHER_ASSIGNMENT, Standing, ToNode, ToServer, Unsettled, encode};
use crate::opens::Opens;
use crate::room::Taken;

/// Most events that are decided together.
const MAX_EVENTS: usize = 128;
/// Most tasks that are not settled.
const MOST_UNSETTLED: usize = 100_000;
/// Ticks between two looks for what the journal may forget.
const FORGET_EVERY: u32 = 120;

/// What comes to the node's work.
pub(super) enum Input {
    /// What the node says of its tasks is asked for.
    Describe { server: PublicKey, answer: oneshot::Sender<Vec<Unsettled>> },
    /// The API server has let the node in.
    Connected {
        session: u64,
        outgoing: mpsc::UnboundedSender<Outgoing>,
        server: PublicKey,
        tasks: Vec<Standing>,
        trusted: Vec<PublicKey>,
    },
    /// The API server says something.
    Message { session: u64, message: ToNode, _room: Taken },
    /// A connection has ended, or never was.
    Lost { session: u64 },
    /// The log of a task can be read.
    Log { task: TaskId, reader: Arc<LogReader> },
    /// A task has ended.
    Ended { task: TaskId, log_bytes: u64, end: Option<Box<How>> },
    /// Something happened to a task here.
    Event(Event),
}

/// A node at work.
pub(super) struct Work {
    pub(super) name: String,
    pub(super) keys: Arc<NodeKeys>,
    pub(super) service: TaskService,
    pub(super) scripts: Arc<Scripts>,
    pub(super) opens: Arc<Opens>,
    pub(super) journal: Option<Journal>,
    pub(super) journal_path: PathBuf,
    pub(super) state: NodeState,
    pub(super) inputs: mpsc::Sender<Input>,
    /// What the open tasks ask for, where that is here.
    pub(super) assignments: Assignments,
    /// Whether it was said since the last tick that there is no room for more.
    pub(super) is_full: bool,
    /// What there is of them on its way.
    pub(super) leaving: HashMap<TaskId, Leaving>,
    pub(super) ended_logs: EndedLogs,
    /// How tasks have ended that did so just now: the history needs not be asked.
    pub(super) ended: HashMap<TaskId, Box<How>>,
    /// Whose the open tasks are.
    pub(super) owners: Owners,
    pub(super) line: Option<(u64, mpsc::UnboundedSender<Outgoing>)>,
    pub(super) trusted: Vec<PublicKey>,
    /// Tells whether there are tasks that are not settled.
    pub(super) is_busy: watch::Sender<bool>,
    pub(super) counts: NodeCounts,
}

impl Work {
    /// Takes up what the journal holds, and works until nobody can tell it anything any more.
    pub(super) async fn run(mut self, mut coming: mpsc::Receiver<Input>) {
        while let Err(error) = self.take_up().await {
            tracing::error!(%error, "the journal of assignments cannot be read; this node takes no tasks before it can");
            sleep(TICK).await;
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            let mut inputs = Vec::new();
            tokio::select! {
                input = coming.recv() => match input {
                    Some(input) => inputs.push(input),
                    None => return,
                },
                _ = ticks.tick() => {
                    self.is_full = false;
                    self.reopen();
                    inputs.push(Input::Event(Event::Tick));
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(FORGET_EVERY) {
                        self.forget().await;
                    }
                }
            }
            while inputs.len() < MAX_EVENTS
                && let Ok(input) = coming.try_recv()
            {
                inputs.push(input);
            }
            let mut todo = Vec::new();
            for input in inputs {
                self.take(input, &mut todo);
            }
            self.perform(todo).await;
            self.ended.clear();
        }
    }

    fn take(&mut self, input: Input, todo: &mut Vec<Action>) {
        let event = match input {
            Input::Describe { server, answer } => {
                let is_its = |named: &Unsettled| self.owners.is_of(&named.task, &server);
                let unsettled = self.state.unsettled().into_iter().filter(is_its).collect();
                // Whoever asked may have given up.
                let _ = answer.send(unsettled);
                return;
            }
            Input::Connected { session, outgoing, server, tasks, trusted } => {
                (self.line, self.trusted) = (Some((session, outgoing)), trusted);
                self.owners.connected(server);
                Event::Connected { tasks }
            }
            Input::Lost { session } if self.is_line(session) => {
                self.line = None;
                Event::Disconnected
            }
            Input::Message { session, message: ToNode::Assign(signed), .. } if self.is_line(session) => {
                self.assigned(&signed, todo);
                return;
            }
            Input::Message { session, message, .. } if self.is_line(session) => {
                match self.understood(message) {
                    Some(event) => event,
                    None => return,
                }
            }
            Input::Lost { .. } | Input::Message { .. } => return,
            Input::Log { task, reader } => {
                let header_bytes = reader.progress().header_bytes;
                self.log_begins(task.clone(), reader);
                Event::Begun { task, header_bytes }
            }
            Input::Ended { task, log_bytes, end } => {
                self.log_ends(&task);
                self.ended.extend(end.map(|end| (task.clone(), end)));
                Event::Ended { task, log_bytes }
            }
            Input::Event(event @ Event::Missing { .. }) => {
                // What is wanted is said at the beginning of a connection.
                self.line = None;
                todo.extend(self.state.on(event));
                Event::Disconnected
            }
            Input::Event(event) => event,
        };
        if let Event::Begun { task, .. } | Event::Never { task, .. } = &event {
            self.assignments.let_go_of(task);
        }
        todo.extend(self.state.on(event));
    }

    /// An assignment that is believed; what it asks for is kept where it is to be started, and only there.
    fn assigned(&mut self, signed: &SignedAssignment, todo: &mut Vec<Action>) {
        let Some((mut assignment, journaled)) = self.believed(signed) else { return };
        let accepted = assignment.accepted;
        // It is compared with what this clock has shown, and will be; one that was set back is not to tell against the task.
        assignment.accepted = assignment.accepted.map(|accepted| accepted.min(Timestamp::now()));
        let (task, nonce) = (assignment.task.clone(), assignment.nonce);
        if !self.is_spoken_of_by_its_own(&task) {
            return;
        }
        let bytes = signed.payload.len();
        if self.state.wants(&task) && !(self.has_room_for(&task) && self.assignments.has_room_for(bytes)) {
            return self.tell_full();
        }
        let actions = self.state.on(Event::Assign { task: task.clone(), nonce, accepted, journaled });
        if actions.contains(&Action::Start { task: task.clone() }) {
            self.assignments.keep(task, assignment, bytes);
        }
        todo.extend(actions);
    }

    /// Whether a task is one of the API server at the other end, or of nobody yet; then it is its from now on.
    fn is_spoken_of_by_its_own(&mut self, task: &TaskId) -> bool {
        let is_its = self.owners.is_of_connected(task);
        if !is_its {
            let message = "this task is another API server's; nothing was changed".to_owned();
            let (task, code) = (Some(task.clone()), OTHER_ASSIGNMENT.to_owned());
            self.complain(&ToServer::Complaint { task, accepted: None, code, message });
        }
        is_its
    }

    /// Whether one more task can be open: each is named when the node connects, in one message.
    fn has_room_for(&self, task: &TaskId) -> bool {
        self.state.is_open(task) || self.state.len() < MOST_UNSETTLED
    }

    /// What there is no room for is dropped. The API server says it again.
    fn tell_full(&mut self) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                unsettled = self.state.len(),
                "this node has no room for more tasks of its API server; they are taken when others are started or settled"
            );
        }
    }

    fn is_line(&self, session: u64) -> bool {
        self.line.as_ref().is_some_and(|(now, _)| *now == session)
    }

    /// What a message means; none where it means nothing, or is not believed.
    fn understood(&mut self, message: ToNode) -> Option<Event> {
        if let ToNode::Held { task, .. } | ToNode::Cancel { task, .. } | ToNode::Settled { task, .. } =
            &message
            && !self.is_spoken_of_by_its_own(task)
        {
            return None;
        }
        match message {
            // It was about the one that had this id before.
            ToNode::Held { task, accepted, .. } | ToNode::Settled { task, accepted }
                if self.state.is_another(&task, accepted) =>
            {
                None
            }
            ToNode::Held { task, bytes, again, .. } => Some(Event::Held { task, bytes, again }),
            ToNode::Cancel { task, .. } if !self.has_room_for(&task) => {
                self.tell_full();
                None
            }
            ToNode::Cancel { task, times, accepted } => {
                let journaled = self.journaled(&task, accepted)?;
                Some(Event::Cancel { task, times, accepted, journaled })
            }
            ToNode::Settled { task, .. } => Some(Event::Settled { task }),
            ToNode::Assign(_) | ToNode::Challenge(_) | ToNode::Welcome { .. } | ToNode::Refuse { .. } => None,
        }
    }

    fn believed(&mut self, signed: &SignedAssignment) -> Option<(Assignment, Journaled)> {
        let now = Timestamp::now();
        let assignment = match assignment::verify(signed, &self.trusted, &self.name, &self.keys, now) {
            Ok(assignment) => assignment,
            Err(disbelief) => {
                let (code, message) = (disbelief.code().to_owned(), disbelief.to_string());
                self.complain(&ToServer::Complaint { task: None, accepted: None, code, message });
                return None;
            }
        };
        let journaled = self.journaled(&assignment.task, assignment.accepted)?;
        Some((assignment, journaled))
    }

    /// Writes what is to be written, in one flush, then does the rest. What could not be written is not done.
    pub(super) async fn perform(&mut self, mut todo: Vec<Action>) {
        self.tell_how_many();
        let records: Vec<Record> = todo.iter().filter_map(|action| self.record(action)).collect();
        let tasks: Vec<TaskId> = records.iter().map(|record| record.task().clone()).collect();
        let mut more = Vec::new();
        match self.write(records).await {
            Ok(()) => {
                let written = tasks.into_iter().map(|task| Event::Journaled { task });
                more.extend(written.flat_map(|event| self.state.on(event)));
            }
            Err(error) => {
                tracing::error!(%error, "the journal of assignments cannot be written; trying until it can");
                for task in &tasks {
                    self.state.on(Event::NotWritten { task: task.clone() });
                    if !self.state.is_open(task) {
                        self.assignments.let_go_of(task);
                        self.owners.forget(task);
                    }
                }
                todo.retain(|action| action.task().is_none_or(|task| !tasks.contains(task)));
            }
        }
        // What follows from these is only to be sent.
        todo.extend(more);
        let mut held_back = Vec::new();
        for action in todo {
            held_back.extend(self.act(action, &held_back).await);
        }
        for event in held_back {
            for action in self.state.on(event) {
                self.act(action, &[]).await;
            }
        }
    }

    /// Tells whoever wants to know how many tasks are not settled.
    fn tell_how_many(&self) {
        let unsettled = self.state.len();
        self.counts.unsettled(unsettled);
        // Nobody waits at this line for what is another's.
        let has_some = unsettled > self.owners.of_others();
        self.is_busy.send_if_modified(|is_busy| std::mem::replace(is_busy, has_some) != has_some);
    }

    /// Does one thing; what has come up before is that these logs cannot be read, and this one's is added.
    async fn act(&mut self, action: Action, held_back: &[Event]) -> Option<Event> {
        let is_held_back = |task: &TaskId| held_back.iter().any(|event| event.holds_back(task));
        match action {
            Action::JournalTaken { task, .. } => self.service.hold(&task),
            Action::JournalNever { task, .. } => self.assignments.let_go_of(&task),
            Action::JournalSettled { task } => {
                self.service.let_go_of(&task);
                self.owners.forget(&task);
                self.leaving.remove(&task);
                self.assignments.let_go_of(&task);
            }
            Action::Start { task } => self.start(task),
            Action::Cancel { task } => {
                let (service, inputs) = (self.service.clone(), self.inputs.clone());
                tokio::spawn(async move {
                    if let Err(error) = service.cancel(&task).await {
                        tracing::debug!(task_id = %task, %error, "a task was not cancelled");
                        if matches!(error, CancelError::Unavailable(_)) {
                            // Nobody listens where the node stops.
                            let _ = inputs.send(Input::Event(Event::NotCancelled { task })).await;
                        }
                    }
                });
            }
            Action::Send(complaint @ ToServer::Complaint { .. }) => self.complain(&complaint),
            // Another API server's is told when that is there.
            Action::Send(ToServer::Taken { task, .. } | ToServer::Started { task, .. })
            | Action::SendLog { task, .. }
            | Action::SendEnd { task, .. }
                if !self.owners.is_of_connected(&task) => {}
            Action::Send(message) => self.say(&message),
            Action::SendLog { task, .. } | Action::SendEnd { task, .. } if is_held_back(&task) => {}
            Action::SendLog { task, offset, bytes } => return self.send_log(task, offset, bytes).await,
            Action::SendEnd { task, log_bytes } => self.send_end(task, log_bytes),
        }
        None
    }

    /// Says at both ends why an assignment is refused.
    fn complain(&self, complaint: &ToServer) {
        if let ToServer::Complaint { task, code, message, .. } = complaint {
            let task_id = task.as_ref().map(tracing::field::display);
            tracing::error!(task_id, code, "{message}");
            self.counts.refused(code);
        }
        self.say(complaint);
    }

    pub(super) fn say(&self, message: &ToServer) {
        let Some((_, line)) = &self.line else { return };
        match encode(message) {
            // A line that is gone is made again.
            Ok(text) => drop(line.send(Outgoing::Control(text))),
            Err(error) => tracing::error!(%error, "a message cannot be sent"),
        }
    }
}
