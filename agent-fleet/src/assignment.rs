//! An assignment: one task for one node, signed by the API server, with secrets that only the node can read.
//!
//! What is signed are the exact bytes that travel. They are checked before they are parsed, so that no two readings of
//! one text can differ.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use task_runners::ExposeSecret;
use task_service::{TaskId, TaskSpec};

use crate::keys::{NodeKeys, Nonce, PublicKey, SealingKey, Signature, SigningKey};
use crate::sealing::{self, Sealed};

/// What stands in front of a signed assignment.
const CONTEXT: &[u8] = b"devops-agent assignment v1\0";
/// Longest time between `not_before` and `expires` that a node accepts.
pub const MAX_VALIDITY: SignedDuration = SignedDuration::from_hours(1);
/// For how long an API server's assignments are valid.
const VALIDITY: SignedDuration = SignedDuration::from_mins(10);
/// How much the clocks of both ends may differ.
pub(crate) const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(5);

/// An assignment as it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedAssignment {
    /// [`Assignment`] as JSON.
    pub payload: String,
    /// Made with the API server's key.
    pub signature: Signature,
}

/// One task for one node.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node's name.
    pub node: String,
    /// The node's key: a node that was set up anew is another one.
    pub node_key: PublicKey,
    /// The task.
    pub task: TaskId,
    /// The same each time this task is handed out, and never that of another.
    pub nonce: Nonce,
    /// SHA-256 of the script that was seen in the node's catalogue, hexadecimal.
    pub script_sha256: Option<String>,
    /// What was asked, without the values of secrets.
    pub spec: TaskSpec,
    /// Those, sealed, by the parameters' names.
    pub sealed: BTreeMap<String, Sealed>,
    /// Who asked.
    pub created_by: String,
    /// When the API server accepted the task: an id may have been that of another one before. An older API server does not say.
    #[serde(default)]
    pub accepted: Option<Timestamp>,
    /// From when on it may be taken.
    pub not_before: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

/// What is to be handed to a node.
#[derive(Debug)]
pub struct Order<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its key.
    pub node_key: PublicKey,
    /// What secrets are sealed to.
    pub sealing: SealingKey,
    /// The task.
    pub task: &'a TaskId,
    /// Its nonce.
    pub nonce: Nonce,
    /// The script's digest, where it is known.
    pub script_sha256: Option<String>,
    /// What was asked, with the values of secrets.
    pub spec: &'a TaskSpec,
    /// Who asked.
    pub created_by: &'a str,
    /// When the task was accepted.
    pub accepted: Timestamp,
}

/// Why an assignment is not believed. None of these leaves a trace at the node: it may be anybody's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// The signature is of no key that this node accepts.
    #[error("an assignment is not signed by the API server's key; it was dropped")]
    Signature,
    /// It is signed and cannot be read.
    #[error("a signed assignment cannot be read: {0}; it was dropped")]
    Malformed(String),
    /// It is for another node, or for one that had this name before.
    #[error("an assignment is for the node '{0}' and another key than this node's; it was dropped")]
    OtherNode(String),
    /// Its time has not come, is over, or is too long.
    #[error(
        "an assignment is valid from {not_before} to {expires}, and here it is {now}; it was dropped; set the clocks of both \
         ends right"
    )]
    Time {
        /// From when on.
        not_before: Timestamp,
        /// Until when.
        expires: Timestamp,
        /// The node's time.
        now: Timestamp,
    },
    /// A secret in it cannot be opened.
    #[error("the secret parameter '{0}' of an assignment is not sealed to this node's key; it was dropped")]
    Secret(String),
}

impl Disbelief {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signature => "assignment_signature",
            Self::Malformed(_) => "assignment_malformed",
            Self::OtherNode(_) => "assignment_other_node",
            Self::Time { .. } => "assignment_time",
            Self::Secret(_) => "assignment_secret",
        }
    }
}

/// Why an assignment was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The agent that knew the secret is gone.
    #[error(
        "the value of the secret parameter '{0}', which was kept in memory only, went with the agent that had accepted \
         this task; submit it again under another id"
    )]
    SecretGone(String),
    /// It cannot be sealed or written.
    #[error("the assignment of this task cannot be written: {0}; submit it with smaller parameters")]
    Unwritable(String),
}

impl SignError {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SecretGone(_) => "secret_gone",
            Self::Unwritable(_) => "assignment_unwritable",
        }
    }
}

/// Seals, writes and signs an assignment that is valid from now on.
///
/// # Errors
/// See [`SignError`].
pub fn sign(key: &SigningKey, order: &Order<'_>, now: Timestamp) -> Result<SignedAssignment, SignError> {
    let unwritable = SignError::Unwritable;
    let mut spec = order.spec.clone();
    // How long the node may be away is nothing that it needs to know.
    spec.unreachable_after = None;
    let values = spec.secrets.take_values();
    let mut sealed = BTreeMap::new();
    for name in values.names() {
        // Only its name is left of one whose value went with an agent that died.
        let value = values.get(name).ok_or_else(|| SignError::SecretGone(name.to_owned()))?;
        let value = sealing::seal(&order.sealing, value.expose_secret()).map_err(unwritable)?;
        sealed.insert(name.to_owned(), value);
    }
    let assignment = Assignment {
        node: order.node.to_owned(),
        node_key: order.node_key,
        task: order.task.clone(),
        nonce: order.nonce,
        script_sha256: order.script_sha256.clone(),
        spec,
        sealed,
        created_by: order.created_by.to_owned(),
        accepted: Some(order.accepted),
        not_before: now,
        expires: now.saturating_add(VALIDITY).map_err(|error| unwritable(error.to_string()))?,
    };
    let payload = serde_json::to_string(&assignment).map_err(|error| unwritable(error.to_string()))?;
    let signature = key.sign(CONTEXT, payload.as_bytes());
    Ok(SignedAssignment { payload, signature })
}

/// Checks an assignment and reads it: signature first, then node, times, secrets.
///
/// # Errors
/// See [`Disbelief`].
pub fn verify(
    signed: &SignedAssignment,
    trusted: &[PublicKey],
    name: &str,
    keys: &NodeKeys,
    now: Timestamp,
) -> Result<Assignment, Disbelief> {
    let payload = signed.payload.as_bytes();
    if !trusted.iter().any(|key| key.has_signed(CONTEXT, payload, &signed.signature)) {
        return Err(Disbelief::Signature);
    }
    let mut assignment: Assignment =
        serde_json::from_slice(payload).map_err(|error| Disbelief::Malformed(error.to_string()))?;
    if assignment.node != name || assignment.node_key != keys.public() {
        return Err(Disbelief::OtherNode(assignment.node));
    }
    let Assignment { not_before, expires, .. } = assignment;
    let is_short = expires.duration_since(not_before) <= MAX_VALIDITY;
    let has_begun = not_before.duration_since(now) <= CLOCK_DIFFERENCE;
    if !is_short || !has_begun || now >= expires {
        return Err(Disbelief::Time { not_before, expires, now });
    }
    for (parameter, sealed) in std::mem::take(&mut assignment.sealed) {
        let opened = sealing::open(keys, &sealed).ok_or_else(|| Disbelief::Secret(parameter.clone()))?;
        assignment.spec.secrets.set(parameter, opened);
    }
    Ok(assignment)
}

impl fmt::Debug for Assignment {
    /// Without what was asked: parameters may hold what nobody should read in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment")
            .field("node", &self.node)
            .field("task", &self.task)
            .field("nonce", &self.nonce)
            .field("spec", &self.spec)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
