//! Control messages of both directions, and how they stand on a link: JSON objects with `v` and `type`.
//!
//! Reading is strict about what it needs and lenient about what it does not know: further fields are ignored, so that
//! a newer end may say more. A type that is not known is an error of that message alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use task_runners::ScriptName;
use task_service::{Attempt, ExecutionResult, Outcome, TaskId};

use crate::assignment::SignedAssignment;
use crate::keys::{Nonce, PublicKey, SealingKey, Signature};
use crate::opens::Opens;

/// The version of the protocol that this build speaks.
pub const VERSION: u32 = 1;
/// Longest control message, bytes. A result has at most a mebibyte of output parameters, of which JSON escapes a byte by six
/// at most, and the few MiB of arguments that the kernel takes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most characters of the other end's own words that a log is given.
const MAX_QUOTED: usize = 500;

/// More requests for the end of a task than this make no difference: the second means at once.
pub(crate) const MOST_CANCELS: u32 = 2;

/// The code of a complaint: the task was settled, and is not started again.
pub const SETTLED_BEFORE: &str = "settled_before";
/// The code of a complaint: another assignment is known under the task's id.
pub const OTHER_ASSIGNMENT: &str = "other_assignment";

/// When the API server accepted the task that a message is about, to the nanosecond: an id may have been that of another task
/// before, which the API server has forgotten and the node has not. Older agents do not say, and mean the one that there is.
pub type AcceptedAt = Option<Timestamp>;

/// Whether these are known to be two tasks of one id.
pub(crate) fn are_two(one: AcceptedAt, other: AcceptedAt) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// What an API server says to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNode {
    /// The first message: who the API server is, and what the node is to sign.
    Challenge(Challenge),
    /// The node is let in.
    Welcome {
        /// For each task that the node named, how it stands here.
        tasks: Vec<Standing>,
        /// Whether the catalogue of that digest is wanted.
        wants_catalogue: bool,
    },
    /// The node is not let in; the connection ends.
    Refuse {
        /// Stable, `snake_case`.
        code: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A task for this node.
    Assign(SignedAssignment),
    /// So much of a log is held.
    Held {
        /// The task.
        task: TaskId,
        /// Bytes from the start.
        bytes: u64,
        /// Whether the node is to go back to that place.
        again: bool,
        /// Which of the tasks of that id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
    },
    /// The end of a task is asked for.
    Cancel {
        /// The task.
        task: TaskId,
        /// How often; the second time means at once.
        times: u32,
        /// Which of the tasks of that id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
    },
    /// Log and result of a task are on the API server's disk, or it has given the task up.
    Settled {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
    },
}

/// What a node says to its API server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// Who the node is. The first message.
    Hello(SignedHello),
    /// A part of the catalogue.
    Catalogue(CataloguePart),
    /// The assignment of a task is in the journal.
    Taken {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
    },
    /// A task was started.
    Started {
        /// The task.
        task: TaskId,
        /// Length of the banner at the beginning of its log.
        header_bytes: u64,
        /// Where the script's own output ends in its log, as soon as that is known, in front of the bytes behind it.
        #[serde(default)]
        body_end: Option<u64>,
        /// Which of the tasks of that id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
    },
    /// A task has ended.
    Ended(Box<Ended>),
    /// Something was not understood, or not believed.
    Complaint {
        /// The task that it is about, if it is about one.
        task: Option<TaskId>,
        /// Which of the tasks of that id the node has or had.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: AcceptedAt,
        /// Stable, `snake_case`.
        code: String,
        /// What happened.
        message: String,
    },
}

/// Who an API server says that it is, with a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// The protocol's version.
    pub version: u32,
    /// The key that signs assignments.
    pub key: PublicKey,
    /// Random bytes for the node to sign.
    pub nonce: Nonce,
    /// Made with `key` over the nonce.
    pub signature: Signature,
}

/// Who a node says that it is: the exact text that was signed, and the signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedHello {
    /// [`Hello`] as JSON.
    pub hello: String,
    /// Made with the node's key.
    pub signature: Signature,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub version: u32,
    /// The nonce of the challenge.
    pub nonce: Nonce,
    /// The node's name: that of its token.
    pub name: String,
    /// The agent's version, for people.
    pub agent: String,
    /// The node's identity.
    pub key: PublicKey,
    /// What secrets are sealed to.
    pub sealing: SealingKey,
    /// Labels that targets may name.
    pub labels: BTreeMap<String, String>,
    /// Names of the node's runners.
    pub runners: Vec<String>,
    /// Most tasks that run at once.
    pub capacity: usize,
    /// SHA-256 of the catalogue, hexadecimal.
    pub catalogue: String,
    /// The tasks that are not settled as far as the node knows.
    pub unsettled: Vec<Unsettled>,
    /// What it opens to tasks of this API server; none from an agent that does not say so, and opens everything.
    #[serde(default)]
    pub opens: Option<Opens>,
}

/// A task that a node names when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// The task.
    pub task: TaskId,
    /// Whether the node has what it needs to run it; otherwise the assignment is to be sent again.
    pub is_begun: bool,
    /// Which of the tasks of that id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: AcceptedAt,
}

/// How a task that a node named stands at the API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The task.
    pub task: TaskId,
    /// Bytes of its log that are held.
    pub held: u64,
}

/// A part of the scripts of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CataloguePart {
    /// Digest of the whole.
    pub digest: String,
    /// The scripts in this part.
    pub scripts: Vec<CatalogueScript>,
    /// Whether this is the last part.
    pub is_last: bool,
}

/// A script as a node offers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueScript {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// Whether a manifest vouches for it.
    #[serde(default)]
    pub verified: bool,
    /// The lines that its header is read from, as they stand in it.
    pub header: String,
}

impl CatalogueScript {
    /// Whether name and digest are what they are called.
    pub fn is_sound(&self) -> bool {
        self.name.parse::<ScriptName>().is_ok() && is_sha256(&self.sha256)
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.sha256.len() + self.header.len()
    }
}

/// What the other end says in its own words, as it may stand in a log: in one line, and not at any length.
pub(crate) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let mut said = String::new();
    for char in chars.by_ref().take(MAX_QUOTED) {
        match char {
            '\'' | '"' | '\\' => said.push(char),
            other => said.extend(other.escape_debug()),
        }
    }
    if chars.next().is_some() {
        said.push_str(" …");
    }
    said
}

/// Whether a text is a SHA-256 as it is written here.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The task.
    pub task: TaskId,
    /// Which of the tasks of that id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: AcceptedAt,
    /// Length of its log.
    pub log_bytes: u64,
    /// What it came to.
    pub result: ExecutionResult,
    /// The attempts before the last one.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The script that reproduces the run, where it began and that script is not too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug_script: Option<String>,
}

/// Why a message was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is longer than a message may be.
    #[error("a control message of {found} bytes is too long; {MAX_MESSAGE_BYTES} is the most")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It speaks another version.
    #[error("a control message of version {found} is not read; this build speaks {VERSION}")]
    Version {
        /// That version.
        found: u32,
    },
    /// It is not what a message looks like.
    #[error(
        "a control message cannot be read: {0}; expected a JSON object with `v`, `type` and the type's fields"
    )]
    Malformed(serde_json::Error),
    /// It cannot be written as JSON.
    #[error("a control message cannot be written: {0}")]
    Unwritable(serde_json::Error),
}

/// A message as it stands on the link.
#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    #[serde(flatten)]
    message: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Writes a message as it stands on the link.
///
/// # Errors
/// When it is too long.
pub fn encode<T: Serialize>(message: &T) -> Result<String, MessageError> {
    let text = serde_json::to_string(&Outgoing { v: VERSION, message }).map_err(MessageError::Unwritable)?;
    if text.len() > MAX_MESSAGE_BYTES { Err(MessageError::TooLong { found: text.len() }) } else { Ok(text) }
}

/// The end of a task that is told in words that this build does not know: its result says so. None where it is no end.
pub fn end_in_other_words(text: &str, error: &MessageError) -> Option<Ended> {
    #[derive(Deserialize)]
    struct End {
        #[serde(rename = "type")]
        kind: String,
        task: TaskId,
        #[serde(default)]
        accepted: AcceptedAt,
        log_bytes: u64,
    }
    let End { kind, task, accepted, log_bytes } = serde_json::from_str(text).ok()?;
    let message =
        format!("the node told how this task ended in words that this agent does not know: {error}");
    let mut result = ExecutionResult::without_run(Outcome::Interrupted, "result_unreadable", message);
    result.log.bytes = log_bytes;
    let (attempts, debug_script) = (Vec::new(), None);
    let ended = Ended { task, accepted, log_bytes, result, attempts, debug_script };
    (kind == "ended").then_some(ended)
}

/// Reads a message.
///
/// # Errors
/// When it is too long, of another version, or none of this direction's messages.
pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T, MessageError> {
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong { found: text.len() });
    }
    let Version { v } = serde_json::from_str(text).map_err(MessageError::Malformed)?;
    match v {
        VERSION => serde_json::from_str(text).map_err(MessageError::Malformed),
        found => Err(MessageError::Version { found }),
    }
}
