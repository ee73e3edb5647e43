//! What leaves of a task: bytes of its log, and its end. Both are made when the line takes them: of thousands of tasks that
//! wait for their API server neither results are in memory nor logs open.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use task_service::{LogReader, LogSource, Recorded, TaskId, TaskService};

use super::event::Event;
use super::work::Work;
use crate::link::{Later, Outgoing, log_frame};

/// Most frames of one log that wait to leave: a window.
const MAX_WAITING: usize = 4;
/// Most logs of ended tasks that are open.
const MAX_OPEN: usize = 16;

/// What there is of a task on its way to the API server.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Its log while the task runs.
    live: Option<Arc<LogReader>>,
    /// Held by each frame of a log that has ended while that waits.
    frames: Arc<()>,
    /// Held by the end while that waits.
    pub(super) end: Weak<()>,
}

/// The logs of ended tasks that were read last. Clones are handles of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct EndedLogs(Arc<Mutex<Open>>);

type Open = VecDeque<(TaskId, Arc<LogReader>)>;

impl EndedLogs {
    /// The log of a task that has ended; none where it cannot be opened.
    async fn of(&self, task: &TaskId, service: &TaskService) -> Option<Arc<LogReader>> {
        if let Some((_, reader)) = self.open().iter().find(|(id, _)| id == task) {
            return Some(reader.clone());
        }
        let opened = match service.log(task).await {
            Ok(LogSource::Log(reader)) => Some(reader),
            Ok(_) => None,
            Err(error) => match service.recorded(task).await {
                Ok(Recorded::Ended { log, .. }) => log,
                _ => {
                    tracing::warn!(task_id = %task, %error, "a log cannot be opened to be sent; trying on");
                    None
                }
            },
        };
        let reader = Arc::new(opened?);
        self.keep(task.clone(), reader.clone());
        Some(reader)
    }

    /// Keeps one of the last.
    fn keep(&self, task: TaskId, reader: Arc<LogReader>) {
        let mut open = self.open();
        open.push_back((task, reader));
        if open.len() > MAX_OPEN {
            open.pop_front();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// The log of a task is there, and grows.
    pub(super) fn log_begins(&mut self, task: TaskId, reader: Arc<LogReader>) {
        self.leaving.entry(task).or_default().live = Some(reader);
    }

    /// The log of a task grows no more.
    pub(super) fn log_ends(&mut self, task: &TaskId) {
        if let Some(reader) = self.leaving.get_mut(task).and_then(|leaving| leaving.live.take()) {
            self.ended_logs.keep(task.clone(), reader);
        }
    }

    /// Sends a part of a log; gives why it does not, where it waits or cannot be read.
    pub(super) async fn send_log(&mut self, task: TaskId, offset: u64, bytes: u64) -> Option<Event> {
        let leaving = self.leaving.entry(task.clone()).or_default();
        let (live, frames) = (leaving.live.clone(), leaving.frames.clone());
        // A whole window of it waits to leave, in few bytes or many. Each frame of that is answered, and more goes then.
        let waiting = live.as_ref().map_or(Arc::strong_count(&frames), Arc::strong_count);
        if waiting > MAX_WAITING + 1 {
            return Some(Event::Waits { task, bytes: offset });
        }
        if self.state.doubts(&task) {
            let reader = match &live {
                Some(reader) => Some(reader.clone()),
                None => self.ended_logs.of(&task, &self.service).await,
            };
            let there = reader.map_or(0, |reader| readable(&reader, &task, offset, bytes));
            if there < bytes {
                return Some(Event::Unreadable { task, bytes: offset + there });
            }
        }
        let (_, line) = self.line.as_ref()?;
        let outgoing = match live {
            Some(reader) => Outgoing::Log { reader, task, offset, bytes },
            None => {
                let (logs, service) = (self.ended_logs.clone(), self.service.clone());
                Outgoing::Later(Later::new(async move {
                    let _waits = frames;
                    let reader = logs.of(&task, &service).await?;
                    log_frame(&reader, task, offset, bytes)
                }))
            }
        };
        // A line that is gone is made again.
        let _ = line.send(outgoing);
        None
    }
}

/// How many bytes of a part of a log can be read.
fn readable(reader: &LogReader, task: &TaskId, offset: u64, bytes: u64) -> u64 {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
    let mut there = 0;
    while there < buffer.len() {
        match reader.read_at(offset + there as u64, &mut buffer[there..]) {
            Ok(0) => break,
            Ok(count) => there += count,
            Err(error) => {
                tracing::error!(task_id = %task, offset, %error, "a log cannot be read to be sent; trying on");
                break;
            }
        }
    }
    there as u64
}
