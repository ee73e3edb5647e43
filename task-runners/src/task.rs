//! The task: a spec that was accepted, with its state and, in the end, its result.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use executor_core::{ExecutionResult, Outcome, TaskId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::TaskSpec;

/// Where a task is in its life. All but the first two are terminal: reached once, never left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Accepted, waiting for its turn.
    Queued,
    /// Started, or about to be.
    Running,
    /// Exited with code 0.
    Succeeded,
    /// Exited with another code, ended by a signal, or could not be started.
    Failed,
    /// Ended because its time was over.
    TimedOut,
    /// Ended because somebody asked for that.
    Cancelled,
    /// Accepted, but not allowed when its turn came.
    Rejected,
    /// The agent died under it.
    Interrupted,
    /// Given up by a person or by policy.
    Lost,
}

impl TaskStatus {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Rejected,
        Self::Interrupted,
        Self::Lost,
    ];

    /// The name as it stands in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Interrupted => "interrupted",
            Self::Lost => "lost",
        }
    }

    /// Whether the task has reached its end.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The terminal state that an execution's result means.
    pub fn of_result(result: &ExecutionResult) -> Self {
        match result.outcome {
            Outcome::Exited { code: 0 } => Self::Succeeded,
            Outcome::TimedOut => Self::TimedOut,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Interrupted => Self::Interrupted,
            Outcome::Exited { .. }
            | Outcome::Signaled { .. }
            | Outcome::OutOfMemory
            | Outcome::NotStarted => Self::Failed,
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no state of a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no state of a task")]
pub struct UnknownStatus(pub String);

impl FromStr for TaskStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// An attempt of a task that has ended and was followed by another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code; none unless it exited.
    pub exit_code: Option<i32>,
    /// Length of its log file, bytes.
    pub log_bytes: u64,
}

impl Task {
    /// The newest attempt that has started, or that is waited for where none has.
    pub fn newest_started(&self) -> u32 {
        if self.started_at.is_none() && self.attempt > 1 { self.attempt - 1 } else { self.attempt }
    }

    /// Whether the attempt of that number is over, so that its log is all there.
    pub fn is_over(&self, attempt: u32) -> bool {
        self.status.is_terminal() || attempt < self.attempt
    }

    /// Length of the log of an attempt so far, bytes.
    pub fn log_bytes_of(&self, attempt: u32) -> u64 {
        let ended = self.attempts.iter().find(|ended| ended.attempt == attempt);
        ended.map_or(self.log_bytes, |ended| ended.log_bytes)
    }
}

/// A task as every front shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The script's or runner's name.
    pub name: String,
    /// What was asked.
    pub spec: Arc<TaskSpec>,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// The node that it runs on; none means this agent.
    pub node: Option<String>,
    /// The attempt that runs, ran last, or is waited for, counted from 1.
    pub attempt: u32,
    /// The attempts before it, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Who asked: over HTTP the token's name.
    pub created_by: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it reached its end.
    pub ended_at: Option<Timestamp>,
    /// Length of the log file so far, bytes.
    pub log_bytes: u64,
    /// Since when its node has been away.
    pub unreachable_since: Option<Timestamp>,
    /// The result, once it ended.
    pub result: Option<Arc<ExecutionResult>>,
    /// What came of it after all, where it was given up before. Lists leave it out.
    #[serde(default)]
    pub late_result: Option<Arc<ExecutionResult>>,
}
