//! What a node's state machine is told, and what it wants done.

use task_service::TaskId;

use crate::frame::MAX_CHUNK_BYTES;
use crate::keys::Nonce;
use crate::message::{AcceptedAt, Standing, ToServer};

/// Bytes of one task's log that may be on their way, beyond what is held.
const WINDOW_BYTES: u64 = 256 << 10;
/// How much of a log travels at once.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Most bytes in a frame.
    pub chunk: u64,
    /// Most bytes of a task beyond what is held.
    pub window: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self { chunk: MAX_CHUNK_BYTES as u64, window: WINDOW_BYTES }
    }
}

/// What the journal says of a task that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journaled {
    /// Nothing.
    Unknown,
    /// It is settled.
    Settled,
    /// Another task that had its id before is settled.
    OtherSettled,
}

/// What happened at the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent has started, and the journal has this task: unsettled, its content gone, not started as far as is known.
    Wanted {
        /// The task.
        task: TaskId,
        /// Its nonce.
        nonce: Option<Nonce>,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// An authentic assignment came, in its time.
    Assign {
        /// The task.
        task: TaskId,
        /// Its nonce.
        nonce: Nonce,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
        /// What the journal says.
        journaled: Journaled,
    },
    /// The API server asks for the end of a task.
    Cancel {
        /// The task.
        task: TaskId,
        /// How often in all.
        times: u32,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
        /// What the journal says.
        journaled: Journaled,
    },
    /// What was to be written about a task is in the journal.
    Journaled {
        /// The task.
        task: TaskId,
    },
    /// It could not be.
    NotWritten {
        /// The task.
        task: TaskId,
    },
    /// The task service could not be asked for the end of a task.
    NotCancelled {
        /// The task.
        task: TaskId,
    },
    /// The log cannot be read beyond this place, as far as it is known to be there.
    Unreadable {
        /// The task.
        task: TaskId,
        /// The place.
        bytes: u64,
    },
    /// What is at this place of a log does not leave now, since a window of it waits to: it is sent behind the answers to that.
    Waits {
        /// The task.
        task: TaskId,
        /// The place.
        bytes: u64,
    },
    /// The task service has the task, and its log begins.
    Begun {
        /// The task.
        task: TaskId,
        /// Length of the banner.
        header_bytes: u64,
    },
    /// The script has written its last byte.
    Written {
        /// The task.
        task: TaskId,
        /// Where its output ends in the log.
        body_end: u64,
    },
    /// The task service could not take it now.
    NotYet {
        /// The task.
        task: TaskId,
    },
    /// The task service refuses it for good; why is in the journal, or else is to be written.
    Never {
        /// The task.
        task: TaskId,
        /// Why.
        verdict: Verdict,
    },
    /// Neither the task service nor a record knows the task: it was not started.
    Missing {
        /// The task.
        task: TaskId,
    },
    /// The log has grown.
    Grew {
        /// The task.
        task: TaskId,
        /// Its length.
        bytes: u64,
    },
    /// The task has ended.
    Ended {
        /// The task.
        task: TaskId,
        /// Length of its log.
        log_bytes: u64,
    },
    /// The API server has let the node in.
    Connected {
        /// What it holds of the tasks that it was told of.
        tasks: Vec<Standing>,
    },
    /// The line is cut.
    Disconnected,
    /// The API server holds so much of a log.
    Held {
        /// The task.
        task: TaskId,
        /// Bytes.
        bytes: u64,
        /// Whether to go back to that place.
        again: bool,
    },
    /// The API server has all of a task.
    Settled {
        /// The task.
        task: TaskId,
    },
    /// Some time has passed, see [`TICK`](crate::TICK).
    Tick,
}

impl Event {
    /// Whether it says that no more of this task's log leaves now.
    pub(super) fn holds_back(&self, id: &TaskId) -> bool {
        matches!(self, Self::Unreadable { task, .. } | Self::Waits { task, .. } if task == id)
    }
}

/// Why a task of the API server's is never started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Stable, `snake_case`.
    pub code: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Verdict {
    /// It was cancelled before it was started.
    pub(crate) fn cancelled() -> Self {
        let message = "cancelled before the node had started it".to_owned();
        Self { code: CANCELLED_BEFORE_START.to_owned(), message }
    }

    /// There is an older task in its place.
    pub(crate) fn of_before() -> Self {
        let message =
            "the node still has an older task of this id; nothing was started; submit it under another id";
        Self { code: "id_conflict".to_owned(), message: message.to_owned() }
    }
}

/// The code of a task that was cancelled before its node had started it.
pub const CANCELLED_BEFORE_START: &str = "cancelled_before_start";

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write to the journal, flushed, that a task is taken.
    JournalTaken {
        /// The task.
        task: TaskId,
        /// Its nonce.
        nonce: Nonce,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// Write to the journal, flushed, that a task is never started.
    JournalNever {
        /// The task.
        task: TaskId,
        /// Why.
        verdict: Verdict,
    },
    /// Write to the journal that a task is settled.
    JournalSettled {
        /// The task.
        task: TaskId,
    },
    /// Submit a task to the task service. Doing so twice starts it once.
    Start {
        /// The task.
        task: TaskId,
    },
    /// Ask the task service for the end of a task.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// Send a message.
    Send(ToServer),
    /// Send bytes of a log.
    SendLog {
        /// The task.
        task: TaskId,
        /// From where on.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Send how a task ended.
    SendEnd {
        /// The task.
        task: TaskId,
        /// Length of its log.
        log_bytes: u64,
    },
}

impl Action {
    /// The task that it is about. What follows an action of a task that failed must not be done of that task.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::JournalTaken { task, .. }
            | Self::JournalNever { task, .. }
            | Self::JournalSettled { task }
            | Self::Start { task }
            | Self::Cancel { task }
            | Self::SendLog { task, .. }
            | Self::SendEnd { task, .. }
            | Self::Send(ToServer::Taken { task, .. } | ToServer::Started { task, .. }) => Some(task),
            Self::Send(_) => None,
        }
    }
}
