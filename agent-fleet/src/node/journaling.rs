//! The node's work and its journal: what is read there, written and forgotten, and what happens where that cannot be done.

use jiff::Timestamp;
use task_service::TaskId;

use super::event::{Action, Journaled};
use super::work::Work;
use crate::journal::{Journal, Record};
use crate::message::AcceptedAt;

impl Work {
    /// What the journal says; none where it cannot be read: then nothing is done, and the API server says it again.
    pub(super) fn journaled(&self, task: &TaskId, accepted: AcceptedAt) -> Option<Journaled> {
        let read = self.journal.as_ref().map_or_else(
            || Err("it is closed".to_owned()),
            |journal| journal.of(task, accepted).map_err(|error| error.to_string()),
        );
        if let Err(error) = &read {
            tracing::error!(task_id = %task, error,
                "the journal cannot be read; what the API server says of a task is dropped until it can");
        }
        read.ok()
    }

    /// What is to be written because of an action.
    pub(super) fn record(&mut self, action: &Action) -> Option<Record> {
        match action.clone() {
            Action::JournalTaken { task, nonce, accepted } => {
                Some(Record::Taken { server: self.owners.own(&task), task, nonce, accepted })
            }
            Action::JournalNever { task, verdict } => {
                let accepted = self.state.accepted(&task);
                Some(Record::Never { server: self.owners.own(&task), task, accepted, verdict })
            }
            Action::JournalSettled { task } => Some(Record::Settled { task }),
            _ => None,
        }
    }

    pub(super) async fn write(&mut self, records: Vec<Record>) -> Result<(), String> {
        if records.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.take().ok_or("the journal is gone")?;
        let written = tokio::task::spawn_blocking(move || {
            let written = journal.write(&records, Timestamp::now()).map_err(|error| error.to_string());
            (journal, written)
        });
        let (journal, written) = written.await.map_err(|error| error.to_string())?;
        self.journal = Some(journal);
        written
    }

    pub(super) async fn forget(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        let forgotten = tokio::task::spawn_blocking(move || {
            if let Err(error) = journal.forget(Timestamp::now()) {
                tracing::warn!(%error, "old rows of the journal cannot be removed");
            }
            journal
        });
        self.journal = forgotten.await.ok();
    }

    /// Opens the journal again where a thread has died with it.
    pub(super) fn reopen(&mut self) {
        if self.journal.is_none() {
            match Journal::open(&self.journal_path) {
                Ok(journal) => self.journal = Some(journal),
                Err(error) => {
                    tracing::error!(%error, "the journal of assignments cannot be opened again; trying on");
                }
            }
        }
    }
}
