//! The node's work: the state machine with its journal, its task service and its link around it.
//!
//! What comes is taken together, decided, written to the journal in one flush, and only then done and told.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use task_runners::Scripts;
use task_service::{CancelError, LogReader, TaskId, TaskService};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::counts::NodeCounts;
use super::ending::How;
use super::event::{Action, Event, Journaled};
use super::sending::{EndedLogs, Leaving};
use super::state::NodeState;
use crate::TICK;
use crate::assignment::{self, Assignment, SignedAssignment};
use crate::journal::{Journal, Record};
use crate::keys::{NodeKeys, PublicKey};
use crate::link::Outgoing;
use crate::message::{Standing, ToNode, ToServer, Unsettled, encode};
use crate::opens::Opens;

/// Most events that are decided together.
const MAX_EVENTS: usize = 128;
/// Ticks between two looks for what the journal may forget.
const FORGET_EVERY: u32 = 120;

/// What comes to the node's work.
pub(super) enum Input {
    /// What the node says of its tasks is asked for.
    Describe { answer: oneshot::Sender<Vec<Unsettled>> },
    /// The API server has let the node in.
    Connected {
        session: u64,
        outgoing: mpsc::UnboundedSender<Outgoing>,
        tasks: Vec<Standing>,
        trusted: Vec<PublicKey>,
    },
    /// The API server says something.
    Message { session: u64, message: ToNode },
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
    pub(super) state: NodeState,
    pub(super) inputs: mpsc::Sender<Input>,
    /// What the open tasks ask for, where that is here.
    pub(super) assignments: HashMap<TaskId, Assignment>,
    /// What there is of them on its way.
    pub(super) leaving: HashMap<TaskId, Leaving>,
    pub(super) ended_logs: EndedLogs,
    /// How tasks have ended that did so just now: the history needs not be asked.
    pub(super) ended: HashMap<TaskId, Box<How>>,
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
            Input::Describe { answer } => {
                // Whoever asked may have given up.
                let _ = answer.send(self.state.unsettled());
                return;
            }
            Input::Connected { session, outgoing, tasks, trusted } => {
                (self.line, self.trusted) = (Some((session, outgoing)), trusted);
                Event::Connected { tasks }
            }
            Input::Lost { session } if self.is_line(session) => {
                self.line = None;
                Event::Disconnected
            }
            Input::Message { session, message: ToNode::Assign(signed) } if self.is_line(session) => {
                self.assigned(&signed, todo);
                return;
            }
            Input::Message { session, message } if self.is_line(session) => match self.understood(message) {
                Some(event) => event,
                None => return,
            },
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
        todo.extend(self.state.on(event));
    }

    /// An assignment that is believed; what it asks for is kept where it is to be started, and only there.
    fn assigned(&mut self, signed: &SignedAssignment, todo: &mut Vec<Action>) {
        let Some((mut assignment, journaled)) = self.believed(signed) else { return };
        // It is compared with what this clock has shown, and will be; one that was set back is not to tell against the task.
        assignment.accepted = assignment.accepted.map(|accepted| accepted.min(Timestamp::now()));
        let (task, nonce) = (assignment.task.clone(), assignment.nonce);
        let actions = self.state.on(Event::Assign { task: task.clone(), nonce, journaled });
        if actions.contains(&Action::Start { task: task.clone() }) {
            self.assignments.insert(task, assignment);
        }
        todo.extend(actions);
    }

    fn is_line(&self, session: u64) -> bool {
        self.line.as_ref().is_some_and(|(now, _)| *now == session)
    }

    /// What a message means; none where it means nothing, or is not believed.
    fn understood(&mut self, message: ToNode) -> Option<Event> {
        match message {
            ToNode::Held { task, bytes, again } => Some(Event::Held { task, bytes, again }),
            ToNode::Cancel { task, times } => {
                let journaled = self.journal.as_ref()?.of(&task).ok()?;
                Some(Event::Cancel { task, times, journaled })
            }
            ToNode::Settled { task } => Some(Event::Settled { task }),
            ToNode::Assign(_) | ToNode::Challenge(_) | ToNode::Welcome { .. } | ToNode::Refuse { .. } => None,
        }
    }

    fn believed(&mut self, signed: &SignedAssignment) -> Option<(Assignment, Journaled)> {
        let journal = self.journal.as_ref()?;
        let now = Timestamp::now();
        let assignment = match assignment::verify(signed, &self.trusted, &self.name, &self.keys, now) {
            Ok(assignment) => assignment,
            Err(disbelief) => {
                let (code, message) = (disbelief.code().to_owned(), disbelief.to_string());
                self.complain(&ToServer::Complaint { task: None, code, message });
                return None;
            }
        };
        let journaled = journal.of(&assignment.task).ok()?;
        Some((assignment, journaled))
    }

    /// Writes what is to be written, in one flush, then does the rest. What could not be written is not done.
    pub(super) async fn perform(&mut self, mut todo: Vec<Action>) {
        self.tell_how_many();
        let records: Vec<Record> =
            todo.iter().filter_map(|action| record(action, &self.assignments)).collect();
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
                        self.assignments.remove(task);
                    }
                }
                todo.retain(|action| action.task().is_none_or(|task| !tasks.contains(task)));
            }
        }
        // What follows from these is only to be sent.
        todo.extend(more);
        let mut unreadable = Vec::new();
        for action in todo {
            unreadable.extend(self.act(action, &unreadable).await);
        }
        for event in unreadable {
            for action in self.state.on(event) {
                self.act(action, &[]).await;
            }
        }
    }

    /// Tells whoever wants to know how many tasks are not settled.
    fn tell_how_many(&self) {
        let unsettled = self.state.len();
        self.counts.unsettled(unsettled);
        self.is_busy.send_if_modified(|is_busy| std::mem::replace(is_busy, unsettled > 0) != (unsettled > 0));
    }

    async fn write(&mut self, records: Vec<Record>) -> Result<(), String> {
        if records.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.take().ok_or("the journal is gone")?;
        let written = tokio::task::spawn_blocking(move || {
            let written = journal.write(&records, Timestamp::now()).map_err(|error| error.to_string());
            (journal, written)
        });
        let (journal, written) = written.await.map_err(|error| error.to_string())?;
        self.journal = Some(journal);
        written
    }

    async fn forget(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        let forgotten = tokio::task::spawn_blocking(move || {
            if let Err(error) = journal.forget(Timestamp::now()) {
                tracing::warn!(%error, "old rows of the journal cannot be removed");
            }
            journal
        });
        self.journal = forgotten.await.ok();
    }

    /// Does one thing; what has come up before is that these logs cannot be read, and this one's is added.
    async fn act(&mut self, action: Action, unreadable: &[Event]) -> Option<Event> {
        let is_stuck = |task: &TaskId| unreadable.iter().any(|event| event.is_unreadable(task));
        match action {
            Action::JournalTaken { task, .. } => self.service.hold(&task),
            Action::JournalNever { .. } => {}
            Action::JournalSettled { task } => {
                self.service.let_go_of(&task);
                self.leaving.remove(&task);
                self.assignments.remove(&task);
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
            Action::Send(message) => self.say(&message),
            Action::SendLog { task, .. } | Action::SendEnd { task, .. } if is_stuck(&task) => {}
            Action::SendLog { task, offset, bytes } => return self.send_log(task, offset, bytes).await,
            Action::SendEnd { task, log_bytes } => self.send_end(task, log_bytes),
        }
        None
    }

    /// Says at both ends why an assignment is refused.
    fn complain(&self, complaint: &ToServer) {
        if let ToServer::Complaint { task, code, message } = complaint {
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

/// What is to be written because of an action.
fn record(action: &Action, assignments: &HashMap<TaskId, Assignment>) -> Option<Record> {
    match action.clone() {
        Action::JournalTaken { task, nonce } => {
            let accepted = assignments.get(&task).and_then(|assignment| assignment.accepted);
            Some(Record::Taken { task, nonce, accepted })
        }
        Action::JournalNever { task, verdict } => Some(Record::Never { task, verdict }),
        Action::JournalSettled { task } => Some(Record::Settled { task }),
        _ => None,
    }
}
