//! What the service is told when it is opened. Its defaults stand in the agent's configuration, not here.

use std::num::NonZero;
use std::path::PathBuf;

/// Tasks a core that run at once when [`ServiceSettings::concurrent`] is 0.
const TASKS_PER_CORE: usize = 4;

/// What the service is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// The state folder. It is made, with mode 0700, where there is none.
    pub state_dir: PathBuf,
    /// Most tasks that run at once; 0 means four for each core.
    pub concurrent: usize,
    /// Most tasks that wait in the queue. With 0 a task is accepted only when it can start at once.
    pub queue: usize,
}

impl ServiceSettings {
    /// How many tasks may run at once, with 0 resolved.
    pub(crate) fn slots(&self) -> usize {
        match self.concurrent {
            0 => TASKS_PER_CORE * std::thread::available_parallelism().map_or(1, NonZero::get),
            slots => slots,
        }
    }
}
