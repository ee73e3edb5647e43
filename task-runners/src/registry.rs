//! The runners by name. The seed keeps a global table; here the table is a value that its owner passes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::refusal::Refusal;
use crate::runner::{NODE_RUNNER, TaskRunner};
use crate::script_runner::SCRIPT_RUNNER;
use crate::spec::TaskSpec;

/// The runners of one agent.
#[derive(Default, Clone)]
pub struct RunnerRegistry {
    runners: BTreeMap<String, Arc<dyn TaskRunner>>,
}

/// Why a runner was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name has a character that runners' names do not have, is too long, or is empty.
    #[error("cannot register the runner '{0}': a runner's name is 1 to 64 letters, digits, '_' and '-'")]
    BadName(String),
    /// Somebody has that name already.
    #[error("cannot register the runner '{0}': there is one with that name already")]
    Taken(String),
}

impl RunnerRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a runner.
    ///
    /// # Errors
    /// When its name has a dot, a slash or another character that runner names do not have, or is taken.
    pub fn register(&mut self, runner: Arc<dyn TaskRunner>) -> Result<(), RegisterError> {
        let name = runner.name().to_owned();
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !fits {
            return Err(RegisterError::BadName(name));
        }
        if self.runners.contains_key(&name) {
            return Err(RegisterError::Taken(name));
        }
        self.runners.insert(name, runner);
        Ok(())
    }

    /// The runner of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn TaskRunner>> {
        self.runners.get(name)
    }

    /// The runner that a spec means: the one that it names, that of scripts, or with a target that of nodes.
    ///
    /// # Errors
    /// When there is none.
    pub fn for_spec(&self, spec: &TaskSpec) -> Result<&Arc<dyn TaskRunner>, Refusal> {
        if spec.target.is_some() {
            let expected = "left out: this agent hands no tasks to nodes";
            return self.get(NODE_RUNNER).ok_or_else(|| Refusal::invalid("target", "unsupported", expected));
        }
        let named = self.get(&spec.name).filter(|runner| !runner.runs_elsewhere());
        named.or_else(|| self.get(SCRIPT_RUNNER)).ok_or_else(|| Refusal::NotFound { name: spec.name.clone() })
    }

    /// Whether tasks of the runner of that name run on other agents.
    pub fn runs_elsewhere(&self, name: &str) -> bool {
        self.get(name).is_some_and(|runner| runner.runs_elsewhere())
    }

    /// All runners, by name.
    pub fn list(&self) -> impl Iterator<Item = &Arc<dyn TaskRunner>> {
        self.runners.values()
    }
}

impl std::fmt::Debug for RunnerRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.runners.keys()).finish()
    }
}
