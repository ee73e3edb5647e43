//! The runners by name. The seed keeps a global table; here the table is a value that its owner passes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::runner::TaskRunner;

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
