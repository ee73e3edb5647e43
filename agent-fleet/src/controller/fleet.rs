//! The fleet of an API server: its nodes by name.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use task_runners::{Records, TaskRunner};
use task_service::{Note, TaskId, TaskService};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::Desk;
use super::answer::answer;
use super::runner::NodeRunner;
use super::stats::Counts;
use super::store::{Accepted, Store, StoreError};
use super::view::{NodeEntry, View};
use super::work::{Input, Work};
use crate::keys::{KeyError, SigningKey};
use crate::message::AcceptedAt;
use crate::room::Room;

/// Inputs that wait for the work for a node. A node that sends more waits with them.
const INPUTS: usize = 32;
/// Questions of one node that wait for the history.
const ASKS: usize = 16;

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
    /// Whoever needs the database as well takes that first.
    nodes: Mutex<BTreeMap<String, Arc<Seat>>>,
    pub(super) sessions: AtomicU64,
    /// How many connections of a name are greeted just now.
    pub(super) greeted: Mutex<HashMap<String, usize>>,
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
    /// Which of the tasks of that id.
    pub(super) accepted: AcceptedAt,
    /// Its place among those of its node.
    pub(super) _place: OwnedSemaphorePermit,
}

/// The place of one node.
pub(super) struct Seat {
    pub(super) view: Arc<Mutex<View>>,
    pub(super) inputs: mpsc::Sender<Input>,
    /// For the messages of the node among them.
    pub(super) room: Room,
    /// Held by each connection of the node.
    pub(super) here: Arc<()>,
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
        while let Some(Question { node, task, accepted, _place }) = asked.recv().await {
            let found = service.task(&task).await;
            if let Some(answer) = answer(found, &node, task, accepted)
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

    /// The place of a node, which is made where there is none.
    pub(super) fn seat(&self, name: String, view: View, left_over: Vec<Accepted>) -> Arc<Seat> {
        let mut seats = self.inner.seats();
        if let Some(seat) = seats.get(&name) {
            return seat.clone();
        }
        let (inputs, coming) = mpsc::channel(INPUTS);
        let view = Arc::new(Mutex::new(view));
        let seat = Arc::new(Seat { view: view.clone(), inputs, room: Room::new(), here: Arc::default() });
        let work = Work {
            name: name.clone(),
            fleet: self.inner.clone(),
            view,
            desk: Desk::new(),
            tasks: Default::default(),
            late: Default::default(),
            line: None,
            coming: Some(Default::default()),
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

pub(super) fn entry(name: &str, seat: &Seat) -> NodeEntry {
    seat.view().entry(name)
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.inner.seats().keys()).finish()
    }
}
