//! The node's end: an agent that takes tasks from an API server and runs them by its own task service.
//!
//! | module | what it holds |
//! |---|---|
//! | `event` | what the state machine is told, and what it wants done |
//! | `state`, `open` | the state machine, and what it knows of one task |
//! | `work` | journal, task service and link around it |
//! | `assignments` | what tasks that are to be started ask for |
//! | `journaling` | its journal |
//! | `take_up` | what is done first after a start |
//! | `start`, `follow`, `ending` | a task in the task service: its start, its log as it grows, its end |
//! | `owners` | whose each task is |
//! | `sending` | what leaves of a task, made when it leaves |
//! | `session` | one connection after the other |
//! | `dial` | how a connection is made |
//! | `ended` | how one ended, and how long is waited then |
//! | `catalogue` | what the node offers |
//! | `counts` | what is counted of all that |

mod assignments;
mod catalogue;
mod counts;
mod dial;
mod ended;
mod ending;
mod event;
mod follow;
mod journaling;
mod open;
mod owners;
mod sending;
mod session;
mod start;
mod state;
mod take_up;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use task_runners::Scripts;
use task_service::TaskService;
use tokio::sync::{mpsc, watch};

pub use counts::{NodeCounts, NodeNumbers};
pub use dial::{Access, Address, CONNECT_PATH};
pub use event::{Action, CANCELLED_BEFORE_START, Event, Flow, Journaled, Verdict};
pub use state::NodeState;

use crate::journal::{Journal, JournalError};
use crate::keys::{self, KeyError, NodeKeys, PublicKey};
use crate::opens::Opens;
use crate::room::Room;
use session::Sessions;
use work::Work;

/// Inputs that wait for the node's work; whoever has more waits.
const INPUTS: usize = 256;

/// What makes an agent a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its name: that of its token.
    pub name: String,
    /// Labels that targets may name.
    pub labels: BTreeMap<String, String>,
    /// The agent's version, for people.
    pub agent: String,
    /// Most tasks that run at once.
    pub capacity: usize,
    /// What tasks of the API server may ask for.
    pub opens: Opens,
    /// The API server.
    pub address: Address,
    /// The API server's keys; with none, the first that is shown is pinned.
    pub accepted: Vec<PublicKey>,
    /// The agent's state folder.
    pub state_dir: PathBuf,
}

/// Why an agent cannot be a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A node that is ready to connect.
pub struct Node {
    sessions: Sessions,
    work: Work,
    coming: mpsc::Receiver<work::Input>,
}

impl Node {
    /// Opens keys and journal, and has the task service hold what is not settled: call it before retention begins. Reads and
    /// writes the disk.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn open(
        settings: NodeSettings,
        service: &TaskService,
        scripts: Arc<Scripts>,
    ) -> Result<Self, NodeError> {
        let folder = settings.state_dir.join("node");
        let keys = Arc::new(NodeKeys::open(&folder.join("node.key"))?);
        let pinned = folder.join("server.pub");
        let accepted = match settings.accepted.is_empty() {
            true => keys::pinned(&pinned)?.into_iter().collect(),
            false => settings.accepted.clone(),
        };
        let journal_path = folder.join("journal.db");
        let mut journal = Journal::open(&journal_path)?;
        if let [server] = accepted.as_slice() {
            journal.adopt(server)?;
        }
        // What the API server has not got is kept, however long that takes.
        for entry in journal.unfinished(Timestamp::now())? {
            service.hold(&entry.task);
        }
        let (inputs, coming) = mpsc::channel(INPUTS);
        let (busy, is_busy) = watch::channel(false);
        let counts = NodeCounts::default();
        let work = Work {
            name: settings.name.clone(),
            keys: keys.clone(),
            service: service.clone(),
            scripts: scripts.clone(),
            opens: Arc::new(settings.opens.clone()),
            journal: Some(journal),
            journal_path,
            state: NodeState::new(Flow::default()),
            inputs: inputs.clone(),
            assignments: Default::default(),
            is_full: false,
            leaving: HashMap::new(),
            owners: Default::default(),
            ended_logs: Default::default(),
            ended: HashMap::new(),
            line: None,
            trusted: Vec::new(),
            is_busy: busy,
            counts: counts.clone(),
        };
        let runners = service.runners().list().map(|runner| runner.name().to_owned()).collect();
        let was_late = false;
        let sessions = Sessions {
            room: Room::new(),
            settings,
            keys,
            scripts,
            runners,
            inputs,
            accepted,
            pinned,
            is_busy,
            counts,
            was_late,
        };
        Ok(Self { sessions, work, coming })
    }

    /// What is counted of it; a handle that outlives this.
    pub fn counts(&self) -> NodeCounts {
        self.work.counts.clone()
    }

    /// Connects, works, connects again: for as long as this is polled.
    pub async fn run(self) {
        tokio::join!(self.sessions.run(), self.work.run(self.coming));
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.work.name).finish_non_exhaustive()
    }
}
