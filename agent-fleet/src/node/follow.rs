//! Follows a task in the node's task service: its log as it grows, and its end.

use std::sync::Arc;

use task_service::{LogError, LogReader, LogSource, TaskId, TaskService};
use tokio::sync::mpsc;

use super::event::Event;
use super::work::{Input, Work};
use crate::TICK;

impl Work {
    /// Follows a task that the task service has.
    pub(super) fn watch(&self, task: TaskId) {
        tokio::spawn(follow(task, self.service.clone(), self.inputs.clone()));
    }
}

/// Tells of a task's log and end.
pub(super) async fn follow(task: TaskId, service: TaskService, inputs: mpsc::Sender<Input>) {
    let mut log_bytes = 0;
    if let Some((reader, other)) = readers(&task, &service).await {
        log_bytes = follow_log(&task, reader, other, &inputs).await;
    }
    let end = loop {
        match service.wait(&task).await {
            Ok(Some(ended)) if ended.status.is_terminal() => break ended,
            // The service stops: the next start goes on from here.
            Ok(_) => return,
            Err(error) => try_again_later(&task, "end", &error).await,
        }
    };
    let log_bytes = log_bytes.max(end.log_bytes);
    // Nobody listens where the node stops.
    let _ = inputs.send(Input::Ended { task, log_bytes, end: Box::new(end) }).await;
}

/// Two readers of a task's log, one to wait with and one to read with; none where it has no log.
async fn readers(task: &TaskId, service: &TaskService) -> Option<(LogReader, LogReader)> {
    loop {
        let source = match service.log(task).await {
            Ok(LogSource::NotYet(wait)) => wait.opened().await,
            other => other,
        };
        match source {
            Ok(LogSource::Log(reader)) => match reader.another() {
                Ok(other) => return Some((reader, other)),
                Err(error) => try_again_later(task, "log", &error).await,
            },
            Ok(_) | Err(LogError::NotFound(_)) => return None,
            // Without it the API server would wait for bytes that nobody sends.
            Err(error) => try_again_later(task, "log", &error).await,
        }
    }
}

async fn try_again_later(task: &TaskId, what: &str, error: &(dyn std::error::Error + Sync)) {
    tracing::warn!(task_id = %task, %error, "the {what} of a task cannot be read; trying again");
    tokio::time::sleep(TICK).await;
}

/// Tells how far a log has come, to its end; gives its length.
async fn follow_log(
    task: &TaskId,
    mut reader: LogReader,
    other: LogReader,
    inputs: &mpsc::Sender<Input>,
) -> u64 {
    // Nobody listens where the node stops.
    let _ = inputs.send(Input::Log { task: task.clone(), reader: Arc::new(other) }).await;
    let mut bytes = 0;
    loop {
        let progress = reader.wait_beyond(bytes).await;
        if progress.bytes > bytes {
            bytes = progress.bytes;
            if inputs.send(Input::Event(Event::Grew { task: task.clone(), bytes })).await.is_err() {
                return bytes;
            }
        }
        if progress.is_complete() {
            return bytes;
        }
    }
}
