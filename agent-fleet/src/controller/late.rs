//! What still comes of tasks that were given up is kept beside their end: the rest of the log, and the result. Their nodes may be
//! away for ever, so that nothing of such a task is open before its node speaks of it.

use std::io;
use std::sync::Arc;

use task_runners::Mirror;
use task_service::{ExecutionResult, TaskId, was_given_up};

use super::event::Event;
use super::fleet::Inner;
use super::store::Accepted;
use super::work::Work;

/// Most logs of such tasks that are open for one node. Each has two descriptors.
const MOST_OPEN: usize = 32;

/// What there is of a task that was given up.
enum Record {
    /// So much of its log.
    Log(u64),
    /// It has not ended yet: that it is given up is found when it is taken up.
    NotEnded,
    /// Nothing: its record went with old history, or is that of another task which has its id by now.
    Gone,
}

impl Work {
    /// Takes the tasks up that were given up before this agent was started: what still runs of them is to be ended, whether
    /// their record is there or not.
    pub(super) async fn take_up_left_over(&mut self, tasks: Vec<Accepted>) {
        let fleet = self.fleet.clone();
        let look = move || tasks.into_iter().map(|task| (fleet.record(&task), task)).collect();
        let looked: Vec<(_, Accepted)> = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        for (record, accepted) in looked {
            let task = accepted.task.clone();
            let held = match record {
                Ok(Record::Log(bytes)) => bytes,
                Ok(Record::Gone) => 0,
                Ok(Record::NotEnded) => continue,
                Err(error) => {
                    tracing::warn!(task_id = %task, %error, "how much there is of a task that was given up cannot be read");
                    0
                }
            };
            let at = accepted.at();
            self.accepted.insert(task.clone(), accepted);
            self.desk.on(Event::LeftOver { task, held, accepted: at });
        }
    }

    /// Appends to the log of a task that was given up, which is opened for that. What comes of one whose record is gone is not
    /// kept.
    pub(super) fn append_late(&mut self, task: &TaskId, bytes: &[u8]) -> Result<(), Event> {
        // So much was held before these came.
        let before = self.desk.held(task).saturating_sub(bytes.len() as u64);
        if !self.late.contains_key(task) {
            let opened = self.accepted.get(task).map_or(Ok(None), |accepted| self.fleet.open_late(accepted));
            match opened {
                Ok(Some(mirror)) if mirror.bytes() == before || mirror.is_full() => {
                    if self.late.len() >= MOST_OPEN {
                        self.late.clear();
                    }
                    self.late.insert(task.clone(), mirror);
                }
                Ok(Some(mirror)) => return Err(Event::Holds { task: task.clone(), bytes: mirror.bytes() }),
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::error!(task_id = %task, %error, "the log of a task that was given up cannot be opened; trying on");
                    return Err(Event::Holds { task: task.clone(), bytes: before });
                }
            }
        }
        self.late.get_mut(task).map_or(Ok(()), |mirror| append(mirror, task, bytes))
    }

    /// Keeps what came of a task that was given up.
    pub(super) async fn finish_late(
        &mut self,
        task: TaskId,
        result: ExecutionResult,
    ) -> Result<Event, Event> {
        let (open, fleet) = (self.late.remove(&task), self.fleet.clone());
        let Some(accepted) = self.accepted.get(&task).cloned() else { return Ok(Event::Finished { task }) };
        let keep = move || {
            let mirror = open.map_or_else(|| fleet.open_late(&accepted), |mirror| Ok(Some(mirror)))?;
            mirror.map_or(Ok(()), |mut mirror| mirror.finish_late(result))
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        match kept.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // Its record is gone with old history.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(task_id = %task, %error, "what came of a task that was given up cannot be written; trying on");
                Err(Event::NotFinished { task })
            }
            _ => Ok(Event::Finished { task }),
        }
    }
}

impl Inner {
    /// Looks what there is of a task that was given up.
    fn record(self: &Arc<Self>, accepted: &Accepted) -> io::Result<Record> {
        let task = &accepted.task;
        let is_of_another = self.store().has_newer(accepted).map_err(io::Error::other)?;
        if is_of_another || !self.records.folder(task).try_exists()? {
            return Ok(Record::Gone);
        }
        Ok(match self.records.read_result(task)? {
            None => Record::NotEnded,
            // What came of another one that was given up is there by now, or it was not.
            Some(result) if !was_given_up(&result) || self.records.late_result(task)?.is_some() => {
                Record::Gone
            }
            Some(_) => Record::Log(Mirror::late_bytes(&self.records, task)?),
        })
    }

    /// Opens the log of a task that was given up; none where its record is gone.
    fn open_late(self: &Arc<Self>, accepted: &Accepted) -> io::Result<Option<Mirror>> {
        match self.record(accepted)? {
            Record::Log(_) => Mirror::open_late(&self.records, &accepted.task).map(Some),
            Record::NotEnded | Record::Gone => Ok(None),
        }
    }
}

/// Appends to a log. 64 KiB at most, into the kernel's memory: quicker than to hand them to another thread.
pub(super) fn append(mirror: &mut Mirror, task: &TaskId, bytes: &[u8]) -> Result<(), Event> {
    mirror.append(bytes).map_err(|error| {
        tracing::error!(task_id = %task, %error, "the log of a node's task cannot be written; trying on");
        Event::Holds { bytes: mirror.bytes(), task: task.clone() }
    })
}
