//! The fleet of an API server: its nodes by name, and the runner that hands tasks to them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use task_runners::{
    Mirror, NODE_RUNNER, Plan, Records, Refusal, StartError, StartFuture, TaskOrder, TaskRunner, TaskSpec,
    check_remote,
};
use task_service::{Execution, TaskId, TaskService};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Desk;
use super::answer::answer;
use super::store::{Store, StoreError};
use super::view::{NodeEntry, Offered, View};
use super::work::{Input, Remote, Work};
use crate::greeting::{self, Stranger};
use crate::keys::{KeyError, Nonce, SigningKey};
use crate::link::{Frame, LinkReceiver, LinkSender, Pace, receive, send_all};
use crate::message::{Hello, ToNode, ToServer, decode, encode};

/// Inputs that wait for the work for a node. A node that sends more waits with them.
const INPUTS: usize = 32;
/// Questions that wait for the history.
const ASKS: usize = 256;
/// Time between two tries to take a task up.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Time in which a node answers the challenge.
const GREET_WITHIN: Duration = Duration::from_secs(10);

/// The nodes of an API server. Clones are handles of the same fleet.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

/// What the work for all nodes shares.
pub(super) struct Inner {
    pub(super) key: SigningKey,
    store: Mutex<Store>,
    records: Records,
    nodes: Mutex<BTreeMap<String, Arc<Seat>>>,
    sessions: AtomicU64,
    /// Questions about tasks that are on no desk, each with the node that asks.
    asks: mpsc::Sender<(String, TaskId)>,
    asked: Mutex<Option<mpsc::Receiver<(String, TaskId)>>>,
}

/// The place of one node.
struct Seat {
    view: Arc<Mutex<View>>,
    inputs: mpsc::Sender<Input>,
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

impl Inner {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        // A statement is whole or undone.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a task has ended, or never was. A question that finds no room is put again by the node.
    pub(super) fn ask(&self, node: &str, task: TaskId) {
        let _ = self.asks.try_send((node.to_owned(), task));
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Seat>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, name: &str) -> Option<Arc<Seat>> {
        self.seats().get(name).cloned()
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
        let (store, nodes, sessions) = (Mutex::new(store), Mutex::default(), AtomicU64::default());
        let (asks, asked) = mpsc::channel(ASKS);
        let asked = Mutex::new(Some(asked));
        let fleet = Self { inner: Arc::new(Inner { key, store, records, nodes, sessions, asks, asked }) };
        for node in known {
            let offered = Offered::read(node.digest, &node.scripts);
            fleet.seat(node.name, View::of_offer(offered));
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
        let greeted = timeout(GREET_WITHIN, self.greet(name, &mut sender, &mut receiver)).await;
        let hello = match greeted {
            Ok(Ok(hello)) => hello,
            Ok(Err(why)) => {
                tracing::warn!(node = name, why, "a node was refused");
                return why;
            }
            Err(_) => return "it did not answer the challenge in time".to_owned(),
        };
        let seat = self.seat(name.to_owned(), View::default());
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
            why = pass_on(&seat, session, receiver) => why,
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
                let (code, message) = (stranger.code().to_owned(), stranger.to_string());
                say(sender, &ToNode::Refuse { code, message }).await?;
                Err(stranger.to_string())
            }
        }
    }

    async fn pinned(&self, hello: Hello) -> Result<Result<Hello, Stranger>, String> {
        let inner = self.inner.clone();
        let pinned = tokio::task::spawn_blocking(move || {
            let is_known = inner.store().pin(&hello.name, &hello.key);
            is_known.map(|is_known| match is_known {
                true => Ok(hello),
                false => Err(Stranger::NodeKeyChanged { name: hello.name }),
            })
        });
        pinned.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The place of a node, which is made where there is none.
    fn seat(&self, name: String, view: View) -> Arc<Seat> {
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
            line: None,
            coming: Vec::new(),
        };
        tokio::spawn(work.run(coming));
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
async fn pass_on(seat: &Seat, session: u64, mut receiver: impl LinkReceiver) -> String {
    let mut pace = Pace::calm();
    loop {
        let input = match receive(&mut receiver, &mut pace).await {
            Ok(Frame::Control(text)) => match decode(&text) {
                Ok(message) => Input::Message { session, message: Box::new(message) },
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
    seat.view.lock().unwrap_or_else(PoisonError::into_inner).entry(name)
}

/// Hands tasks with a target to nodes.
struct NodeRunner {
    fleet: Fleet,
}

impl NodeRunner {
    async fn hand_out(&self, order: TaskOrder) -> Result<Execution, StartError> {
        let target = order.spec.target.as_ref();
        let name = target.map(|target| target.node.clone()).unwrap_or_default();
        let seat = self.fleet.inner.seat(&name).ok_or_else(|| StartError::Away(name.clone()))?;
        let is_there = seat.view.lock().unwrap_or_else(PoisonError::into_inner).connected.is_some();
        let Some((execution, mirror, nonce, was_handed)) = self.begin(&order.id, is_there).await else {
            return Err(StartError::Away(name));
        };
        watch_cancels(&execution, seat.inputs.clone());
        let remote = Remote { order, mirror, nonce, was_handed, withheld: None };
        // Where the work has ended the agent stops, and the task is taken up at the next start.
        let _ = seat.inputs.send(Input::Submit(Box::new(remote))).await;
        Ok(execution)
    }

    /// Opens the copy of a task. The node may run it, so that what does not work is tried until it does: it is no end.
    async fn begin(&self, id: &TaskId, is_there: bool) -> Option<(Execution, Mirror, Nonce, bool)> {
        let mut is_told = false;
        loop {
            let (inner, task) = (self.fleet.inner.clone(), id.clone());
            let begun = tokio::task::spawn_blocking(move || begin(&inner, &task, is_there)).await;
            match begun.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(begun) => return begun,
                Err(error) if !is_told => {
                    tracing::error!(task_id = %id, %error, "a node's task cannot be taken up; trying until it can");
                    is_told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

/// Opens the copy of a task, where its node may have heard of it or is there to hear of it.
fn begin(inner: &Inner, id: &TaskId, is_there: bool) -> io::Result<Option<(Execution, Mirror, Nonce, bool)>> {
    let nonce = inner.store().nonce(id).map_err(io::Error::other)?;
    // Nobody has heard of it: it waits in the queue, where it can still be cancelled.
    if nonce.is_none() && !is_there {
        return Ok(None);
    }
    let was_handed = nonce.is_some();
    let nonce = nonce.map_or_else(|| Nonce::random().map_err(io::Error::other), Ok)?;
    let (execution, mirror) = Mirror::open(&inner.records, id)?;
    Ok(Some((execution, mirror, nonce, was_handed)))
}

impl TaskRunner for NodeRunner {
    fn name(&self) -> &str {
        NODE_RUNNER
    }

    fn description(&self) -> &str {
        "Hands tasks with a target to nodes."
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        let Some(target) = &spec.target else {
            return Err(Refusal::NotFound { name: spec.name.clone() });
        };
        let seat = self.fleet.inner.seat(&target.node);
        let seat = seat.ok_or_else(|| Refusal::NoNode { name: target.node.clone() })?;
        let offered = seat.view.lock().unwrap_or_else(PoisonError::into_inner).offered.clone();
        let script = offered.scripts.get(&spec.name);
        let script = script.ok_or_else(|| Refusal::NotFound { name: spec.name.clone() })?;
        let secrets = check_remote(spec, script.declared.as_deref()).map_err(Refusal::Invalid)?;
        Ok(Plan { secrets, ..Plan::default() })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(self.hand_out(order))
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }
}

/// Tells the work for a node when the end of a task is asked for: the first time, and once more.
fn watch_cancels(execution: &Execution, inputs: mpsc::Sender<Input>) {
    let execution = execution.clone();
    tokio::spawn(async move {
        for times in 1..=2 {
            tokio::select! {
                () = execution.cancel_asked(times) => {}
                _ = execution.wait() => return,
            }
            if inputs.send(Input::Cancel { task: execution.id().clone() }).await.is_err() {
                return;
            }
        }
    });
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.inner.seats().keys()).finish()
    }
}
