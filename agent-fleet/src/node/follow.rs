//! Follows a task in the node's task service: its log as it grows, and its end.

use std::sync::Arc;

use task_service::{LogReader, LogSource, TaskId, TaskService};
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
    let source = match service.log(&task).await {
        Ok(LogSource::NotYet(wait)) => wait.opened().await,
        other => other,
    };
    let mut log_bytes = 0;
    if let Ok(LogSource::Log(reader)) = source {
        log_bytes = follow_log(&task, reader, &service, &inputs).await;
    }
    loop {
        match service.wait(&task).await {
            Ok(Some(ended)) if ended.status.is_terminal() => {
                log_bytes = log_bytes.max(ended.log_bytes);
                break;
            }
            // The service stops: the next start goes on from here.
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(task_id = %task, %error, "the end of a task cannot be read; trying again");
                tokio::time::sleep(TICK).await;
            }
        }
    }
    // Nobody listens where the node stops.
    let _ = inputs.send(Input::Event(Event::Ended { task, log_bytes })).await;
}

/// Tells how far a log has come, to its end; gives its length.
async fn follow_log(
    task: &TaskId,
    mut reader: LogReader,
    service: &TaskService,
    inputs: &mpsc::Sender<Input>,
) -> u64 {
    // One to wait with, another one to read with.
    if let Ok(LogSource::Log(other)) = service.log(task).await {
        let log = Input::Log { task: task.clone(), reader: Arc::new(other) };
        let _ = inputs.send(log).await;
    }
    let mut bytes = 0;
    loop {
        let progress = reader.wait_beyond(bytes).await;
        if let Some(body_end) = progress.body_end {
            // In front of the bytes behind it.
            let _ = inputs.send(Input::Event(Event::Written { task: task.clone(), body_end })).await;
        }
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
