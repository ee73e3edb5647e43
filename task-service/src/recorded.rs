//! What the record of a task says by itself, where the history that knew the task is gone: it was damaged and set aside.

use std::io;

use task_runners::{ExecutionResult, LogReader, TaskId};

use crate::service::TaskService;

/// What is found of a task among the records.
#[derive(Debug)]
pub enum Recorded {
    /// Nothing: it was never started.
    Nothing,
    /// It was started, and left no result.
    Begun,
    /// It has ended.
    Ended {
        /// How.
        result: Box<ExecutionResult>,
        /// Its log, where that can be opened.
        log: Option<LogReader>,
    },
}

impl TaskService {
    /// What the record of a task says that the history does not know.
    ///
    /// # Errors
    /// When the record is there and cannot be read.
    pub async fn recorded(&self, id: &TaskId) -> io::Result<Recorded> {
        let (records, id) = (self.inner.records.clone(), id.clone());
        let read = tokio::task::spawn_blocking(move || match records.read_result(&id)? {
            Some(result) => {
                let log = records.ended_log(&id, &result.log).ok();
                Ok(Recorded::Ended { result: Box::new(result), log })
            }
            None if records.folder(&id).exists() => Ok(Recorded::Begun),
            None => Ok(Recorded::Nothing),
        });
        read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}
