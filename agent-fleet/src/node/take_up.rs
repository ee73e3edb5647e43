//! What a node takes up when it has started: what its journal holds is open again, and what its task service knows of
//! goes on.

use jiff::Timestamp;
use task_service::{Recorded, Task};

use super::event::{Event, Verdict};
use super::follow::has_ended;
use super::start::is_of_before;
use super::work::Work;
use crate::journal::JournalError;

impl Work {
    /// Opens again what the journal holds.
    pub(super) async fn take_up(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        for entry in journal.unfinished(Timestamp::now())? {
            let task = entry.task;
            self.owners.take_up(task.clone(), entry.server);
            let mut todo =
                self.state.on(Event::Wanted { task: task.clone(), nonce: entry.nonce, accepted: entry.said });
            if entry.verdict.is_some() {
                todo.extend(self.state.on(Event::Ended { task, log_bytes: 0 }));
                self.perform(todo).await;
                continue;
            }
            let found = self.service.task(&task).await;
            if let Ok(Some(found)) = &found
                && is_of_before(found, entry.accepted)
            {
                // What the journal has was not started.
                todo.extend(self.state.on(Event::Never { task, verdict: Verdict::of_before() }));
                self.perform(todo).await;
                continue;
            }
            // A history that cannot be read is one that knows: what it knows is waited for.
            if let Ok(Some(Task { status, result: Some(result), .. })) = &found
                && status.is_terminal()
            {
                let events = has_ended(&task, &result.log);
                todo.extend(events.into_iter().flat_map(|event| self.state.on(event)));
            } else if !matches!(found, Ok(None)) {
                todo.extend(self.state.on(Event::Begun { task: task.clone(), header_bytes: 0 }));
                self.watch(task);
            } else if !matches!(self.service.recorded(&task).await, Ok(Recorded::Nothing)) {
                // It was started, and the history that knew it was set aside: another start is refused for good.
                todo.extend(self.state.on(Event::Begun { task: task.clone(), header_bytes: 0 }));
                self.look_for_record(task);
            } else if entry.is_old {
                let message =
                    "the node's history does not know this task any more; whether it ran is not known";
                let verdict = Verdict { code: "history_gone".to_owned(), message: message.to_owned() };
                todo.extend(self.state.on(Event::Never { task, verdict }));
            }
            self.perform(todo).await;
        }
        Ok(())
    }
}
