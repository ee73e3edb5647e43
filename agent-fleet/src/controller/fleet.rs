//! The fleet of an API server: its nodes by name, and their connections.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use task_runners::{Records, TaskRunner};
use task_service::{Note, TaskId, TaskService};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::Desk;
use super::answer::answer;
use super::runner::NodeRunner;
use super::stats::{Counts, SILENT};
use super::store::{Facts, Store, StoreError};
use super::view::{NodeEntry, View};
use super::work::{Input, Work};
use crate::greeting::{self, Stranger};
use crate::keys::{KeyError, SigningKey};
use crate::link::{Frame, LinkReceiver, LinkSender, Pace, receive, send_all};
use crate::message::{Hello, MessageError, ToNode, ToServer, decode, encode, end_in_other_words};

/// Inputs that wait for the work for a node. A node that sends more waits with them.
const INPUTS: usize = 32;
/// Questions that wait for the history.
const ASKS: usize = 256;
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
    pub(super) records: Records,
    /// Whoever needs the database as well takes that first.
    nodes: Mutex<BTreeMap<String, Arc<Seat>>>,
    sessions: AtomicU64,
    /// Questions about tasks that are on no desk, each with the node that asks.
    asks: mpsc::Sender<(String, TaskId)>,
    asked: Mutex<Option<mpsc::Receiver<(String, TaskId)>>>,
    /// Told when a node may have room that it had not before.
    pub(super) room: Notify,
    /// What the task service is to note of tasks, and where whoever tells it takes that from.
    pub(super) notes: mpsc::UnboundedSender<(TaskId, Note)>,
    pub(super) to_note: Mutex<Option<mpsc::UnboundedReceiver<(TaskId, Note)>>>,
    pub(super) counts: Counts,
}

/// The place of one node.
pub(super) struct Seat {
    pub(super) view: Arc<Mutex<View>>,
    pub(super) inputs: mpsc::Sender<Input>,
    /// Held by each connection of the node.
    pub(super) here: Arc<()>,
}

/// A node that was let in, and its place, which is not forgotten while this is there.
struct Guest {
    hello: Hello,
    seat: Arc<Seat>,
    here: Arc<()>,
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

    /// Asks whether a task has ended, or never was. A question that finds no room is put again by the node.
    pub(super) fn ask(&self, node: &str, task: TaskId) {
        let _ = self.asks.try_send((node.to_owned(), task));
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
        let store = Store::open(&folder.join("fleet.db"))?;
        let known = store.nodes()?;
        let mut given_up: HashMap<String, Vec<TaskId>> = HashMap::new();
        for (node, task) in store.given_up()? {
            given_up.entry(node).or_default().push(task);
        }
        let (notes, to_note) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::channel(ASKS);
        let inner = Inner {
            key,
            store: Mutex::new(store),
            records,
            nodes: Mutex::default(),
            sessions: AtomicU64::default(),
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
        Ok(fleet)
    }

    /// Answers what nodes say of tasks that their desks do not know, by the history: one that runs there is about to be taken
    /// up, one that runs elsewhere is none of theirs. Until this is polled they get no answer, and say it again.
    pub async fn answer_by(self, service: TaskService) {
        let asked = self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut asked) = asked else { return };
        while let Some((node, task)) = asked.recv().await {
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

    /// The first `most` nodes by name, behind `after` where one is given.
    pub fn nodes(&self, after: Option<&str>, most: usize) -> Vec<NodeEntry> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let seats = self.inner.seats();
        let listed = seats.range::<str, _>((behind, Bound::Unbounded)).take(most);
        listed.map(|(name, seat)| entry(name, seat)).collect()
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
        let greeted = timeout(GREET_WITHIN, self.greet(name, &mut sender, &mut receiver)).await;
        let Guest { hello, seat, here: _here } = match greeted {
            Ok(Ok(guest)) => guest,
            Ok(Err(why)) => {
                tracing::warn!(node = name, why, "a node was refused");
                return why;
            }
            Err(_) => {
                self.inner.counts.refused(SILENT);
                return "it did not answer the challenge in time".to_owned();
            }
        };
        let session = self.inner.sessions.fetch_add(1, Ordering::Relaxed);
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let connected = Input::Connected { session, hello: Box::new(hello), outgoing };
        if seat.inputs.send(connected).await.is_err() {
            return "this agent stops".to_owned();
        }
        let _line = Line { inputs: seat.inputs.clone(), session };
        tokio::select! {
            sent = send_all(sender, to_send, Pace::calm()) => match sent {
                Ok(()) => "another connection of this node has replaced it".to_owned(),
                Err(error) => error.to_string(),
            },
            why = pass_on(name, &seat, session, receiver) => why,
        }
    }

    /// Makes sure that the node is who it was.
    async fn greet(
        &self,
        name: &str,
        sender: &mut impl LinkSender,
        receiver: &mut impl LinkReceiver,
    ) -> Result<Guest, String> {
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
            Ok(guest) => Ok(guest),
            Err(stranger) => {
                self.inner.counts.refused(stranger.code());
                let (code, message) = (stranger.code().to_owned(), stranger.to_string());
                say(sender, &ToNode::Refuse { code, message }).await?;
                Err(stranger.to_string())
            }
        }
    }

    async fn pinned(&self, hello: Hello) -> Result<Result<Guest, Stranger>, String> {
        let fleet = self.clone();
        let pinned = tokio::task::spawn_blocking(move || {
            let store = fleet.inner.store();
            if !store.pin(&hello.name, &hello.key)? {
                return Ok(Err(Stranger::NodeKeyChanged { name: hello.name }));
            }
            store.keep_facts(&hello.name, &Facts::of(&hello))?;
            // While nobody else has the database, so that the node is not forgotten before it has its place.
            let seat = fleet.seat(hello.name.clone(), View::default(), Vec::new());
            let here = seat.here.clone();
            Ok::<_, StoreError>(Ok(Guest { hello, seat, here }))
        });
        pinned.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The place of a node, which is made where there is none.
    fn seat(&self, name: String, view: View, left_over: Vec<TaskId>) -> Arc<Seat> {
        let mut seats = self.inner.seats();
        if let Some(seat) = seats.get(&name) {
            return seat.clone();
        }
        let (inputs, coming) = mpsc::channel(INPUTS);
        let view = Arc::new(Mutex::new(view));
        let seat = Arc::new(Seat { view: view.clone(), inputs, here: Arc::default() });
        let work = Work {
            name: name.clone(),
            fleet: self.inner.clone(),
            view,
            desk: Desk::new(),
            tasks: Default::default(),
            late: Default::default(),
            line: None,
            coming: Vec::new(),
            finishing: Default::default(),
            forgotten: Vec::new(),
        };
        tokio::spawn(work.run(coming, left_over));
        seats.insert(name, seat.clone());
        seat
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
async fn pass_on(node: &str, seat: &Seat, session: u64, mut receiver: impl LinkReceiver) -> String {
    let mut pace = Pace::calm();
    loop {
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

pub(super) fn entry(name: &str, seat: &Seat) -> NodeEntry {
    seat.view().entry(name)
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.inner.seats().keys()).finish()
    }
}
