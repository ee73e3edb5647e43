//! Why a spec was not accepted. A refused spec leaves no task.

use executor_core::{Problem, join_problems};

use crate::spec::Target;

/// Why a spec was not accepted, in the words that every front shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fields of the spec break rules; all of them are named.
    #[error("the task spec is invalid: {}", join_problems(.0))]
    Invalid(Vec<Problem>),
    /// No script or runner has that name.
    #[error("there is no script or runner named '{name}'; the catalogue lists what there is")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// No node that is meant was ever here.
    #[error("there is no node {target}; `agent-cli node list` shows those that have connected")]
    NoNode {
        /// What was asked for.
        target: Target,
    },
    /// The scripts folder does not verify, and no verified snapshot is in use.
    #[error("the scripts folder does not verify: {}; {mend}", .problems.join("; "))]
    Unverified {
        /// Every problem of the folder.
        problems: Vec<String>,
        /// The command that mends them.
        mend: String,
    },
    /// The script is there but cannot be run as it is.
    #[error("the script '{name}' is broken: {message}")]
    Broken {
        /// The script's name.
        name: String,
        /// Stable code of what is wrong with it.
        code: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The agent itself failed at checking; trying again may help.
    #[error("the agent could not check the task spec: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// One mistake in one field.
    pub fn invalid(field: impl Into<String>, rule: &str, expected: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(field, rule, expected)])
    }

    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::NoNode { .. } => "node_not_found",
            Self::Unverified { .. } => "scripts_unverified",
            Self::Broken { .. } => "script_broken",
            Self::Unavailable(_) => "unavailable",
        }
    }
}
