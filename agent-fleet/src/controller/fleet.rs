//! The fleet of an API server: its nodes by name, and their connections.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use task_runners::{Records, TaskRunner};
use task_service::{Note, TaskId, TaskService};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::Desk;
use super::answer::answer;
use super::runner::NodeRunner;
use super::stats::{CROWDED, Counts, SILENT};
use super::store::{Accepted, Facts, GivenUp, Store, StoreError};
use super::view::{NodeEntry, View};
use super::work::{Input, Work};
use crate::greeting::{self, Stranger};
use crate::keys::{KeyError, SigningKey};
use crate::link::{Frame, LinkReceiver, LinkSender, Pace, Places, Queue, receive, send_all};
use crate::message::{Hello, MessageError, ToNode, ToServer, decode, encode, end_in_other_words};

/// Inputs that wait for the work for a node. A node that sends more waits with them.
const INPUTS: usize = 32;
/// Questions of one node that wait for the history.
const ASKS: usize = 16;
/// Connections of one name that may be greeted at once: one that hangs does not keep the next one out.
const GREETED_AT_ONCE: usize = 2;
/// Time in which a node answers the challenge.
const GREET_WITHIN: Duration = Duration::from_secs(10);

/// The nodes of an API server. Clones are handles of the same fleet.
#[derive(Clone)]
pub struct Fleet {
    pub(super) inner: Arc<Inner>,
}

/// What the work for all nodes shares.
pub(super) struct Inner {
    pub(super) key: SigningKey,
    store: Mutex<Store>,
    /// What could not be removed from it.
    pub(super) unforgotten: Mutex<Vec<Accepted>>,
    pub(super) records: Records,
    nodes: Mutex<BTreeMap<String, Arc<Seat>>>,
    sessions: AtomicU64,
    /// How many connections of a name are greeted just now.
    greeted: Mutex<HashMap<String, usize>>,
    asks: mpsc::UnboundedSender<Question>,
    asked: Mutex<Option<mpsc::UnboundedReceiver<Question>>>,
    /// Told when a node may have room that it had not before.
    pub(super) room: Notify,
    /// What the task service is to note of tasks, and where whoever tells it takes that from.
    pub(super) notes: mpsc::UnboundedSender<(TaskId, Note)>,
    pub(super) to_note: Mutex<Option<mpsc::UnboundedReceiver<(TaskId, Note)>>>,
    pub(super) counts: Counts,
}

/// A question about a task that is on no desk.
pub(super) struct Question {
    pub(super) node: String,
    pub(super) task: TaskId,
    /// Its place among those of its node.
    pub(super) _place: OwnedSemaphorePermit,
}

/// The place of one node.
pub(super) struct Seat {
    pub(super) view: Arc<Mutex<View>>,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// Why a fleet was not opened.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The key that signs cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a node was not told to take tasks, or to take none.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// No node of that name was ever here.
    #[error("there is no node '{0}'; `agent-cli node list` shows those that have connected")]
    NoNode(String),
    /// It cannot be written.
    #[error("whether the node takes tasks cannot be written: {0}; try again later")]
    Unwritten(String),
}

/// Why a task was not given up.
#[derive(Debug, thiserror::Error)]
pub enum AbandonError {
    /// It is not on that node: it has ended, or its end is being written.
    #[error("the task '{0}' is not on its node any more, or ends just now; ask again how it stands")]
    NotThere(TaskId),
    /// It cannot be written.
    #[error("that the task '{0}' is given up cannot be written; the agent's log says why, try again later")]
    Unwritten(TaskId),
}

impl Seat {
    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // What is seen of a node is changed in one step.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        // A statement is whole or undone.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a task has ended, or never was.
    pub(super) fn ask(&self, question: Question) {
        // Where nobody answers the agent stops.
        let _ = self.asks.send(question);
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Seat>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seat(&self, name: &str) -> Option<Arc<Seat>> {
        self.seats().get(name).cloned()
    }

    /// Has something noted of a task.
    pub(super) fn note(&self, task: &TaskId, note: Note) {
        // Where nobody takes it the agent stops.
        let _ = self.notes.send((task.clone(), note));
    }
}

impl Fleet {
    /// Opens key and database in a state folder, and knows the nodes that were ever here. Reads and writes the disk, and
    /// is called within a tokio runtime.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub fn open(state_dir: &Path, records: Records) -> Result<Self, FleetError> {
        let folder = state_dir.join("fleet");
        let key = SigningKey::open(&folder.join("server.key"))?;
        let has_past = std::fs::read_dir(records.root()).is_ok_and(|mut found| found.next().is_some());
        let store = Store::open(&folder.join("fleet.db"), has_past)?;
        let known = store.nodes()?;
        let mut given_up: HashMap<String, Vec<Accepted>> = HashMap::new();
        for (node, task) in store.given_up()? {
            given_up.entry(node).or_default().push(task);
        }
        let (notes, to_note) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::unbounded_channel();
        let inner = Inner {
            key,
            store: Mutex::new(store),
            unforgotten: Mutex::default(),
            records,
            nodes: Mutex::default(),
            sessions: AtomicU64::default(),
            greeted: Mutex::default(),
            asks,
            asked: Mutex::new(Some(asked)),
            room: Notify::new(),
            notes,
            to_note: Mutex::new(Some(to_note)),
            counts: Counts::default(),
        };
        let fleet = Self { inner: Arc::new(inner) };
        for node in known {
            let left_over = given_up.remove(&node.name).unwrap_or_default();
            fleet.seat(node.name.clone(), View::of_known(node), left_over);
        }
        for (name, left_over) in given_up {
            fleet.seat(name, View::default(), left_over);
        }
        Ok(fleet)
    }

    /// Answers what nodes say of tasks that their desks do not know, by the history: one that runs there is about to be taken
    /// up, one that runs elsewhere is none of theirs. Until this is polled they get no answer, and say it again.
    pub async fn answer_by(self, service: TaskService) {
        let asked = self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut asked) = asked else { return };
        while let Some(Question { node, task, _place }) = asked.recv().await {
            let found = service.task(&task).await;
            if let Some(answer) = answer(found, &node, task)
                && let Some(seat) = self.inner.seat(&node)
            {
                // An agent that stops needs not be told.
                let _ = seat.inputs.send(answer).await;
            }
        }
    }

    /// The runner of tasks with a target.
    pub fn runner(&self) -> impl TaskRunner {
        NodeRunner { fleet: self.clone() }
    }

    /// Has a node take no new tasks, or take them again; what it was handed goes on. It is kept over restarts.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn drain(&self, name: &str, is_draining: bool) -> Result<NodeEntry, DrainError> {
        let seat = self.inner.seat(name).ok_or_else(|| DrainError::NoNode(name.to_owned()))?;
        let (inner, wanted) = (self.inner.clone(), name.to_owned());
        let kept = tokio::task::spawn_blocking(move || inner.store().keep_draining(&wanted, is_draining));
        kept.await
            .map_err(|error| DrainError::Unwritten(error.to_string()))?
            .map_err(|error| DrainError::Unwritten(error.to_string()))?;
        seat.view().is_draining = is_draining;
        self.inner.room.notify_one();
        Ok(entry(name, &seat))
    }

    /// Gives a task up that is on this node: it ends as lost, and its node is to end it as soon as it is back.
    ///
    /// # Errors
    /// See [`AbandonError`].
    pub async fn abandon(&self, node: &str, task: &TaskId, by: &str) -> Result<(), AbandonError> {
        let not_there = || AbandonError::NotThere(task.clone());
        let seat = self.inner.seat(node).ok_or_else(not_there)?;
        let (answer, answered) = oneshot::channel();
        let given_up = GivenUp::By(by.to_owned());
        let input = Input::GiveUp { task: task.clone(), given_up, answer: Some(answer) };
        seat.inputs.send(input).await.map_err(|_| not_there())?;
        answered.await.unwrap_or_else(|_| Err(not_there()))
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        let seats = self.inner.seats();
        seats.iter().map(|(name, seat)| entry(name, seat)).collect()
    }

    /// One node; none where none of that name was ever here.
    pub fn node(&self, name: &str) -> Option<NodeEntry> {
        self.inner.seat(name).map(|seat| entry(name, &seat))
    }

    /// Serves a connection of the node whose token was presented, to its end; gives why it ended.
    pub async fn serve(
        &self,
        name: &str,
        mut sender: impl LinkSender,
        mut receiver: impl LinkReceiver,
    ) -> String {
        let Some(greeting) = Greeting::begin(&self.inner, name) else {
            self.inner.counts.refused(CROWDED);
            return "others of this node's name have not said yet who they are".to_owned();
        };
        let greeted = timeout(GREET_WITHIN, self.greet(name, &mut sender, &mut receiver)).await;
        drop(greeting);
        let hello = match greeted {
            Ok(Ok(hello)) => hello,
            Ok(Err(why)) => {
                tracing::warn!(node = name, why, "a node was refused");
                return why;
            }
            Err(_) => {
                self.inner.counts.refused(SILENT);
                return "it did not answer the challenge in time".to_owned();
            }
        };
        let seat = self.seat(name.to_owned(), View::default(), Vec::new());
        let session = self.inner.sessions.fetch_add(1, Ordering::Relaxed);
        let (outgoing, to_send) = Queue::new();
        let places = outgoing.places();
        let connected = Input::Connected { session, hello: Box::new(hello), outgoing };
        if seat.inputs.send(connected).await.is_err() {
            return "this agent stops".to_owned();
        }
        let _line = Line { inputs: seat.inputs.clone(), session };
        tokio::select! {
            sent = send_all(sender, to_send, Pace::calm()) => match sent {
                Ok(()) => "another connection of this node has replaced it, or it was refused".to_owned(),
                Err(error) => error.to_string(),
            },
            why = pass_on(name, &seat, session, receiver, &places) => why,
        }
    }

    /// Makes sure that the node is who it was.
    async fn greet(
        &self,
        name: &str,
        sender: &mut impl LinkSender,
        receiver: &mut impl LinkReceiver,
    ) -> Result<Hello, String> {
        let challenge = greeting::challenge(&self.inner.key).map_err(|error| error.to_string())?;
        say(sender, &ToNode::Challenge(challenge.clone())).await?;
        let text = match receive(receiver, &mut Pace::calm()).await.map_err(|error| error.to_string())? {
            Frame::Control(text) => text,
            _ => return Err("it begins with something else than a hello".to_owned()),
        };
        let checked = match decode(&text) {
            Ok(ToServer::Hello(signed)) => greeting::check_hello(&signed, &challenge, name),
            Ok(_) => Err(Stranger::Malformed("it is no hello".to_owned())),
            Err(error) => Err(Stranger::Malformed(error.to_string())),
        };
        let known = match checked {
            Ok(hello) => self.pinned(hello).await?,
            Err(stranger) => Err(stranger),
        };
        match known {
            Ok(hello) => Ok(hello),
            Err(stranger) => {
                self.inner.counts.refused(stranger.code());
                let (code, message) = (stranger.code().to_owned(), stranger.to_string());
                say(sender, &ToNode::Refuse { code, message }).await?;
                Err(stranger.to_string())
            }
        }
    }

    async fn pinned(&self, hello: Hello) -> Result<Result<Hello, Stranger>, String> {
        let inner = self.inner.clone();
        let pinned = tokio::task::spawn_blocking(move || {
            let store = inner.store();
            if !store.pin(&hello.name, &hello.key)? {
                return Ok(Err(Stranger::NodeKeyChanged { name: hello.name }));
            }
            store.keep_facts(&hello.name, &Facts::of(&hello))?;
            Ok::<_, StoreError>(Ok(hello))
        });
        pinned.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The place of a node, which is made where there is none.
    pub(super) fn seat(&self, name: String, view: View, left_over: Vec<Accepted>) -> Arc<Seat> {
        let mut seats = self.inner.seats();
        if let Some(seat) = seats.get(&name) {
            return seat.clone();
        }
        let (inputs, coming) = mpsc::channel(INPUTS);
        let view = Arc::new(Mutex::new(view));
        let seat = Arc::new(Seat { view: view.clone(), inputs });
        let work = Work {
            name: name.clone(),
            fleet: self.inner.clone(),
            view,
            desk: Desk::new(),
            tasks: Default::default(),
            late: Default::default(),
            line: None,
            coming: Some(Vec::new()),
            asking: Arc::new(Semaphore::new(ASKS)),
            finishing: Default::default(),
            accepted: Default::default(),
            forgotten: Vec::new(),
        };
        tokio::spawn(work.run(coming, left_over));
        seats.insert(name, seat.clone());
        seat
    }
}

/// A connection whose node has not said yet who it is.
struct Greeting<'a> {
    fleet: &'a Inner,
    name: &'a str,
}

impl<'a> Greeting<'a> {
    /// None where there are enough of that name.
    fn begin(fleet: &'a Inner, name: &'a str) -> Option<Self> {
        let mut greeted = fleet.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = greeted.entry(name.to_owned()).or_default();
        if *count >= GREETED_AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Self { fleet, name })
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        let mut greeted = self.fleet.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = greeted.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                greeted.remove(self.name);
            }
        }
    }
}

/// A connection that is served. Dropped, also because nobody serves it any more, it is told to be cut.
struct Line {
    inputs: mpsc::Sender<Input>,
    session: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (inputs, session) = (self.inputs.clone(), self.session);
        // An agent that stops needs not be told.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { inputs.send(Input::Lost { session }).await });
        }
    }
}

/// Hands what comes by a connection to the work for its node; gives why nothing more comes.
async fn pass_on(
    node: &str,
    seat: &Seat,
    session: u64,
    mut receiver: impl LinkReceiver,
    places: &Places,
) -> String {
    let mut pace = Pace::calm();
    loop {
        // Who says much and reads little is not heard for a while.
        places.one_is_free().await;
        let input = match receive(&mut receiver, &mut pace).await {
            Ok(Frame::Control(text)) => match decode(&text) {
                Ok(message) => Input::Message { session, message: Box::new(message) },
                Err(error @ MessageError::Malformed(_)) => {
                    tracing::error!(node, %error, "a message of a node is not understood");
                    let Some(ended) = end_in_other_words(&text, &error) else { continue };
                    Input::Message { session, message: Box::new(ToServer::Ended(Box::new(ended))) }
                }
                Err(error) => return error.to_string(),
            },
            Ok(Frame::Log(frame)) => Input::Log { session, frame },
            Ok(Frame::Ping) => continue,
            Err(error) => return error.to_string(),
        };
        if seat.inputs.send(input).await.is_err() {
            return "this agent stops".to_owned();
        }
    }
}

async fn say(sender: &mut impl LinkSender, message: &ToNode) -> Result<(), String> {
    let text = encode(message).map_err(|error| error.to_string())?;
    sender.send(Frame::Control(text)).await.map_err(|error| error.to_string())
}

fn entry(name: &str, seat: &Seat) -> NodeEntry {
    seat.view().entry(name)
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.inner.seats().keys()).finish()
    }
}
