//! Follows a task in the node's task service: its log as it grows, and its end.

use std::fmt::Display;
use std::sync::Arc;

use task_service::{LogProgress, LogReader, LogSummary, Recorded, TaskId, TaskService};
use tokio::sync::mpsc;

use super::ending::How;
use super::event::{Event, Verdict};
use super::work::{Input, Work};
use crate::TICK;

/// Times that the log of a task that has ended is tried.
const MOST_TRIES: u32 = 6;

impl Work {
    /// Follows a task that the task service has.
    pub(super) fn watch(&self, task: TaskId) {
        tokio::spawn(follow(task, self.service.clone(), self.inputs.clone()));
    }

    /// Finds out what became of a task that the task service does not know any more.
    pub(super) fn look_for_record(&self, task: TaskId) {
        tokio::spawn(tell_of_record(task, self.service.clone(), self.inputs.clone()));
    }
}

/// Tells of a task's log and end.
pub(super) async fn follow(task: TaskId, service: TaskService, inputs: mpsc::Sender<Input>) {
    let mut log_bytes = 0;
    if let Some((reader, other)) = opened(&task, &service).await {
        log_bytes = follow_log(&task, reader, other, &inputs).await;
    }
    let end = loop {
        match service.wait(&task).await {
            Ok(Some(ended)) if ended.status.is_terminal() => break ended,
            // The service stops: the next start goes on from here.
            Ok(Some(_)) => return,
            Ok(None) => return tell_of_record(task, service, inputs).await,
            Err(error) => {
                tracing::warn!(task_id = %task, %error, "the end of a task cannot be read; trying again");
                tokio::time::sleep(TICK).await;
            }
        }
    };
    let log_bytes = log_bytes.max(end.log_bytes);
    // Nobody listens where the node stops.
    let _ = inputs.send(Input::Ended { task, log_bytes, end: How::of_short(&end) }).await;
}

/// What is to be known of a task that has ended. Its log is opened when it is sent: there may be many.
pub(super) fn has_ended(task: &TaskId, log: &LogSummary) -> [Event; 3] {
    let progress = LogProgress::of_summary(log);
    let body_end = progress.body_end.unwrap_or(log.bytes);
    [
        Event::Begun { task: task.clone(), header_bytes: progress.header_bytes },
        Event::Written { task: task.clone(), body_end },
        Event::Ended { task: task.clone(), log_bytes: log.bytes },
    ]
}

/// Tells what the record of a task says that the history does not know: it was set aside.
async fn tell_of_record(task: TaskId, service: TaskService, inputs: mpsc::Sender<Input>) {
    let event = loop {
        match service.recorded(&task).await {
            Ok(Recorded::Ended { result, .. }) => {
                for event in has_ended(&task, &result.log) {
                    let _ = inputs.send(Input::Event(event)).await;
                }
                return;
            }
            Ok(Recorded::Begun) => {
                let message = "the node's history does not know this task any more, and its record has no result; \
                               it was started";
                let verdict = Verdict { code: "history_gone".to_owned(), message: message.to_owned() };
                break Event::Never { task, verdict };
            }
            Ok(Recorded::Nothing) => break Event::Missing { task },
            Err(error) => try_again_later(&task, "record", &error).await,
        }
    };
    // Nobody listens where the node stops.
    let _ = inputs.send(Input::Event(event)).await;
}

async fn try_again_later(task: &TaskId, what: &str, error: &(dyn Display + Sync)) {
    tracing::warn!(task_id = %task, %error, "the {what} of a task cannot be read; trying again");
    tokio::time::sleep(TICK).await;
}

/// Opens a log twice, to wait with and to read with; none where there is none. One that cannot be opened is tried again, for a
/// while also when its task has ended.
async fn opened(task: &TaskId, service: &TaskService) -> Option<(LogReader, LogReader)> {
    let mut tries = 0;
    loop {
        let why = match service.log_once_begun(task).await {
            Ok(Some(reader)) => {
                let other = reader.another();
                return Some((reader, other));
            }
            Ok(None) => return None,
            Err(error) => error.to_string(),
        };
        match service.task(task).await {
            Ok(None) => return None,
            Ok(Some(task)) if task.status.is_terminal() => tries += 1,
            _ => {}
        }
        if tries > MOST_TRIES {
            tracing::error!(task_id = %task, error = why, "a log cannot be opened; its task ends without it");
            return None;
        }
        try_again_later(task, "log", &why).await;
    }
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
