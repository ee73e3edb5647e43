//! Tasks that run on other agents: whoever knows those says when they have room, and what is to be noted of what runs there.

use std::collections::BTreeMap;
use std::io;

use task_runners::TaskId;

use crate::keeper::{Event, Note};
use crate::service::TaskService;

/// How many tasks wait for what [`StartError::Away`](task_runners::StartError::Away) has named.
pub type Awaited = BTreeMap<String, usize>;

impl TaskService {
    /// The script that reproduces a task of this agent by hand; none where the task did not come to a start.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub async fn debug_script(&self, id: &TaskId) -> io::Result<Option<Vec<u8>>> {
        let (records, id) = (self.inner.records.clone(), id.clone());
        let made = tokio::task::spawn_blocking(move || records.debug_script(&id)).await;
        made.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// What tasks wait for on other agents, and how many for each.
    pub fn awaited(&self) -> Awaited {
        self.inner.awaited.borrow().clone()
    }

    /// Lets so many of those start that wait for this, the oldest first.
    pub fn let_in(&self, awaited: &str, most: usize) {
        // A service that has stopped starts nothing.
        let _ = self.inner.events.send(Event::LetIn { door: awaited.to_owned(), most });
    }

    /// Has something noted of tasks that run elsewhere. It is written soon, and tried until it is; of a task that has ended
    /// nothing is noted.
    pub fn note(&self, notes: Vec<(TaskId, Note)>) {
        // A service that has stopped is told again at its next start.
        let _ = self.inner.events.send(Event::Note { notes });
    }
}
