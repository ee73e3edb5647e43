//! The work for one node: its desk with the database, the logs and the link around it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use jiff::Timestamp;
use task_runners::Mirror;
use task_service::{TaskId, TaskOrder};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::by_people::AbandonError;
use super::catalogue::Coming;
use super::ending::{self, Written};
use super::event::{Action, Event};
use super::fleet::{Inner, Question};
use super::late::append;
use super::state::Desk;
use super::stats::add;
use super::store::{Accepted, GivenUp};
use super::view::View;
use crate::TICK;
use crate::assignment::{self, Order, SignError};
use crate::frame::LogFrame;
use crate::keys::Nonce;
use crate::link::{Outgoing, Queue};
use crate::message::{
    AcceptedAt, Ended, Hello, OTHER_ASSIGNMENT, SETTLED_BEFORE, ToNode, ToServer, encode, quoted,
};
use crate::room::Taken;

/// Most inputs that are taken together, and most intents that wait to be removed.
pub(super) const MOST_TOGETHER: usize = 32;

/// What comes to the work for a node.
pub(super) enum Input {
    /// A task is to run there. Whoever chose the node among others is told whether the task stays: it does not where the node
    /// is gone by now and has not heard of it.
    Submit(Box<Remote>, Option<oneshot::Sender<()>>),
    /// The node is there, and is who it was.
    Connected { session: u64, hello: Box<Hello>, outgoing: Queue },
    /// It says something.
    Message { session: u64, message: Box<ToServer>, _room: Taken },
    /// It sends bytes of a log.
    Log { session: u64, frame: Vec<u8>, _room: Taken },
    /// A connection has ended.
    Lost { session: u64 },
    /// The end of a task is asked for.
    Cancel { task: TaskId },
    /// The node speaks of a task of another.
    Foreign { task: TaskId },
    /// A task that was asked about has ended, or never was.
    Over { task: TaskId, accepted: AcceptedAt },
    /// A task is given up.
    GiveUp { task: TaskId, given_up: GivenUp, answer: Option<oneshot::Sender<Result<(), AbandonError>>> },
}

/// A task that runs on the node, or is to.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) order: TaskOrder,
    pub(super) mirror: Mirror,
    pub(super) nonce: Nonce,
    pub(super) was_handed: bool,
    /// Why it cannot be assigned, if that is so.
    pub(super) withheld: Option<SignError>,
    /// Is there while its assignment waits to leave.
    pub(super) on_its_way: Weak<()>,
    /// Who gave it up, where somebody did.
    pub(super) given_up: Option<GivenUp>,
    /// Since when its node is away, and when it is given up for that.
    pub(super) away: Option<Timestamp>,
    pub(super) overdue_at: Option<Instant>,
    /// Whether it is written already that the node may hear of it.
    pub(super) is_written: bool,
}

/// The work for one node.
pub(super) struct Work {
    pub(super) name: String,
    pub(super) fleet: Arc<Inner>,
    pub(super) view: Arc<std::sync::Mutex<View>>,
    pub(super) desk: Desk,
    pub(super) tasks: HashMap<TaskId, Remote>,
    /// The logs of tasks that were given up and of which the node speaks.
    pub(super) late: HashMap<TaskId, Mirror>,
    /// The newest connection, and who is at its other end.
    pub(super) line: Option<(u64, Box<Hello>, Queue)>,
    /// The parts of a catalogue that have come; none while the rest of one comes that is not taken.
    pub(super) coming: Option<Coming>,
    /// Places for questions that wait for the history.
    pub(super) asking: Arc<Semaphore>,
    /// The tasks whose end is being written.
    pub(super) finishing: JoinSet<Written>,
    /// Which tasks these are: an id may have been that of another one before.
    pub(super) accepted: HashMap<TaskId, Accepted>,
    /// The tasks whose intents are to be removed.
    pub(super) forgotten: Vec<Accepted>,
}

/// What came along with an event.
pub(super) enum Came<'a> {
    Nothing,
    Bytes(&'a [u8]),
    End(Box<Ended>),
}

impl Work {
    /// Works until nobody can tell it anything any more.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, left_over: Vec<Accepted>) {
        self.take_up_left_over(left_over).await;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take_all(input, &mut inputs).await,
                    None => return self.remove_intents(),
                },
                _ = ticks.tick() => {
                    self.remove_intents();
                    self.on(Event::Tick, Came::Nothing).await;
                }
                () = sleep_until(self.overdue_at()) => self.give_up_overdue().await,
                Some(written) = self.finishing.join_next() => self.has_finished(written).await,
            }
        }
    }

    pub(super) async fn take(&mut self, input: Input) {
        match input {
            Input::Submit(remote, stays) if self.line.is_none() && !remote.was_handed && stays.is_some() => {
                self.gives_room(&remote.order.id);
                // Dropped, it says no.
                drop(stays);
            }
            Input::Submit(mut remote, stays) => {
                if let Some(stays) = stays {
                    // Whoever asked waits for it.
                    let _ = stays.send(());
                }
                self.note_of_new(&mut remote);
                let (task, was_handed) = (remote.order.id.clone(), remote.was_handed);
                let (held, accepted) = (remote.mirror.bytes(), Some(remote.order.created_at));
                self.accepted.insert(task.clone(), remote.accepted());
                self.tasks.insert(task.clone(), *remote);
                self.on(Event::Submitted { task, was_handed, held, accepted }, Came::Nothing).await;
            }
            Input::Connected { session, hello, outgoing } => self.connected(session, hello, outgoing).await,
            Input::Lost { session } if self.is_line(session) => self.lost().await,
            Input::Message { session, message, .. } if self.is_line(session) => self.message(*message).await,
            Input::Log { session, frame, .. } if self.is_line(session) => self.log(&frame).await,
            // Of a connection that another one has replaced.
            Input::Lost { .. } | Input::Message { .. } | Input::Log { .. } => {}
            Input::Cancel { task } => self.on(Event::Cancel { task }, Came::Nothing).await,
            Input::Foreign { task } => {
                let message = format!("the task {task} was not handed to this node; nothing was changed");
                self.say(&ToNode::Refuse { code: "foreign_task".to_owned(), message });
                // The refusal still leaves; what else came by this connection does not count.
                if self.line.is_some() {
                    self.lost().await;
                }
            }
            Input::Over { task, accepted } => self.on(Event::Over { task, accepted }, Came::Nothing).await,
            Input::GiveUp { task, given_up, answer } => {
                let done = self.give_up(&task, given_up).await;
                if let Some(answer) = answer {
                    // Whoever asked may have gone away.
                    let _ = answer.send(done);
                }
            }
        }
    }

    /// The line is gone.
    async fn lost(&mut self) {
        self.line = None;
        self.late.clear();
        self.change_view(|view| view.connected = None);
        self.note_away(Some(Timestamp::now()));
        tracing::warn!(node = %self.name, "the line to a node is cut");
        self.on(Event::Disconnected, Came::Nothing).await;
    }

    async fn connected(&mut self, session: u64, hello: Box<Hello>, outgoing: Queue) {
        let unsettled = hello.unsettled.clone();
        let wants_catalogue = {
            let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
            view.connected(&hello);
            view.is_out_of_date
        };
        self.coming = Some(Coming::default());
        // What waited to leave by the connection before does not any more.
        self.tasks.values_mut().for_each(|remote| remote.on_its_way = Weak::new());
        // The one before it, if there is one, ends with its sending half.
        self.line = Some((session, hello, outgoing));
        self.say(&ToNode::Welcome { tasks: self.desk.standings(&unsettled), wants_catalogue });
        self.note_away(None);
        add(&self.fleet.counts.connections, 1);
        self.fleet.room.notify_one();
        tracing::info!(node = %self.name, "a node has connected");
        self.on(Event::Connected { unsettled }, Came::Nothing).await;
    }

    async fn message(&mut self, message: ToServer) {
        match message {
            ToServer::Taken { task, accepted } => {
                self.on(Event::Taken { task, accepted }, Came::Nothing).await;
            }
            ToServer::Started { task, header_bytes, body_end, accepted } => {
                if let Some(remote) = self.tasks.get_mut(&task)
                    && self.desk.is_here(&task, accepted)
                {
                    remote.mirror.set_header(header_bytes);
                    body_end.into_iter().for_each(|end| remote.mirror.set_body_end(end));
                }
                self.on(Event::Taken { task, accepted }, Came::Nothing).await;
            }
            ToServer::Ended(ended) => {
                let (task, log_bytes, accepted) = (ended.task.clone(), ended.log_bytes, ended.accepted);
                self.on(Event::Ended { task, log_bytes, accepted }, Came::End(ended)).await;
            }
            ToServer::Catalogue(part) => self.catalogue(part).await,
            ToServer::Complaint { task, accepted, code, message } => {
                let (told, message) = (quoted(&code), quoted(&message));
                tracing::error!(node = %self.name, ?task, code = told, message, "a node complains");
                if let Some(task) = task
                    && matches!(code.as_str(), SETTLED_BEFORE | OTHER_ASSIGNMENT)
                {
                    self.on(Event::Refused { task, accepted }, Came::Nothing).await;
                }
            }
            ToServer::Hello(_) => {}
        }
    }

    async fn log(&mut self, frame: &[u8]) {
        match LogFrame::decode(frame) {
            Ok(LogFrame { task, attempt: 1, offset, bytes }) => {
                let length = bytes.len() as u64;
                add(&self.fleet.counts.log_bytes, length);
                self.on(Event::Log { task, offset, bytes: length }, Came::Bytes(bytes)).await;
            }
            Ok(_) => {}
            Err(error) => tracing::error!(node = %self.name, %error, "a frame of a node was dropped"),
        }
    }

    /// Decides about an event, and does what is to be done, up to the first thing that fails.
    pub(super) async fn on(&mut self, event: Event, came: Came<'_>) {
        let mut came = came;
        let mut todo: Vec<Action> = self.desk.on(event);
        let mut index = 0;
        while index < todo.len() {
            let action = todo[index].clone();
            index += 1;
            match self.act(action, &mut came).await {
                Ok(None) => {}
                // What follows from it comes behind what was decided before.
                Ok(Some(event)) => todo.extend(self.desk.on(event)),
                Err(event) => {
                    // What was not done must not be told.
                    let failed = todo[index - 1].task().cloned();
                    let rest = todo.split_off(index);
                    todo.extend(rest.into_iter().filter(|action| action.task() != failed.as_ref()));
                    todo.extend(self.desk.on(event));
                }
            }
        }
    }

    /// Does one thing; gives what follows, or why what was to follow does not.
    async fn act(&mut self, action: Action, came: &mut Came<'_>) -> Result<Option<Event>, Event> {
        match action {
            Action::WriteHanded { task } => self.write_handed(task).await.map(|()| None),
            Action::Assign { task } => Ok(self.assign(task)),
            Action::Send(message) => {
                self.say(&message);
                Ok(None)
            }
            Action::Append { task, skip } => {
                let Came::Bytes(bytes) = came else { return Ok(None) };
                let new = bytes.get(usize::try_from(skip).unwrap_or(usize::MAX)..).unwrap_or_default();
                let appended = match self.tasks.get_mut(&task) {
                    Some(remote) => append(&mut remote.mirror, &task, new),
                    None => self.append_late(&task, new),
                };
                appended.map(|()| None)
            }
            Action::Finish { task } => match std::mem::replace(came, Came::Nothing) {
                Came::End(ended) => self.begin_to_finish(task, *ended).map(|()| None),
                _ => Ok(None),
            },
            Action::EndUnheard { task } => self.finish_as(task, ending::unheard()).await.map(Some),
            Action::EndGone { task } => self.finish_as(task, ending::gone()).await.map(Some),
            Action::EndOther { task } => self.finish_as(task, ending::of_before()).await.map(Some),
            Action::Ask { task, accepted } => {
                self.ask(task, accepted);
                Ok(None)
            }
            Action::WriteGivenUp { task } => self.write_given_up(task).await.map(|()| None),
            Action::EndLost { task } => self.end_lost(task).await.map(Some),
            Action::FinishLate { task } => match std::mem::replace(came, Came::Nothing) {
                Came::End(ended) => self.finish_late(task, ended.result).await.map(Some),
                _ => Ok(None),
            },
            Action::Forget { task } => {
                self.tasks.remove(&task);
                self.late.remove(&task);
                self.gives_room(&task);
                self.forget_intent(&task);
                Ok(None)
            }
        }
    }

    /// Signs an assignment and sends it.
    fn assign(&mut self, task: TaskId) -> Option<Event> {
        let (remote, (_, hello, line)) = (self.tasks.get_mut(&task)?, self.line.as_ref()?);
        // A node that reads slowly is not sent it again and again.
        if remote.on_its_way.upgrade().is_some() {
            return None;
        }
        let offered = self.view.lock().unwrap_or_else(PoisonError::into_inner).offered.clone();
        let order = Order {
            node: &self.name,
            node_key: hello.key,
            sealing: hello.sealing,
            task: &task,
            nonce: remote.nonce,
            script_sha256: remote.order.pinned.clone().or_else(|| offered.digest_of(&remote.order.spec.name)),
            spec: &remote.order.spec,
            created_by: &remote.order.created_by,
            accepted: remote.order.created_at,
        };
        let signed = assignment::sign(&self.fleet.key, &order, Timestamp::now());
        let message = signed.and_then(|signed| {
            encode(&ToNode::Assign(signed)).map_err(|error| SignError::Unwritable(error.to_string()))
        });
        match message {
            Ok(text) => {
                add(&self.fleet.counts.assignments, 1);
                let waits = Arc::new(());
                remote.on_its_way = Arc::downgrade(&waits);
                line.send(Outgoing::Once { text, _waits: waits });
                None
            }
            Err(error) => {
                tracing::error!(task_id = %task, %error, "a task cannot be handed to its node, which is to end it");
                remote.withheld = Some(error);
                Some(Event::NotAssigned { task })
            }
        }
    }

    fn say(&self, message: &ToNode) {
        match encode(message) {
            Ok(text) => {
                if let Some((_, _, line)) = &self.line {
                    line.say(text);
                }
            }
            Err(error) => tracing::error!(node = %self.name, %error, "a message cannot be sent"),
        }
    }

    /// Asks the history for a task. A question for which there is no place is put again by the node.
    fn ask(&self, task: TaskId, accepted: AcceptedAt) {
        if let Ok(place) = self.asking.clone().try_acquire_owned() {
            self.fleet.ask(Question { node: self.name.clone(), task, accepted, _place: place });
        }
    }

    fn is_line(&self, session: u64) -> bool {
        self.line.as_ref().is_some_and(|(now, _, _)| *now == session)
    }

    pub(super) fn change_view(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
