//! What becomes of tasks whose node is away: that is noted, and in the end somebody gives them up, a person or their spec.
//! What still comes of them afterwards is kept.

use std::io;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use task_runners::Mirror;
use task_service::{ExecutionResult, Note, TaskId, given_up};

use super::by_people::AbandonError;
use super::event::Event;
use super::stats::add;
use super::store::{Accepted, GivenUp};
use super::work::{Came, Remote, Work};

/// Longest time between two looks at who is overdue: the clock may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Work {
    /// Notes that the node is away, or back: of all its tasks.
    pub(super) fn note_away(&mut self, since: Option<Timestamp>) {
        for (task, remote) in &mut self.tasks {
            if remote.away.is_some() != since.is_some() {
                remote.away = since;
                self.fleet.note(task, Note::Unreachable(since));
            }
        }
    }

    /// Notes the same of a task that was just handed over to this work.
    pub(super) fn note_of_new(&self, remote: &mut Remote) {
        let since = match &self.line {
            Some(_) => None,
            None => remote.away.or_else(|| Some(Timestamp::now())),
        };
        if since.is_some() || remote.away.is_some() {
            self.fleet.note(&remote.order.id, Note::Unreachable(since));
        }
        remote.away = since;
    }

    /// How long until the first task is to be given up because its node is away.
    pub(super) fn until_overdue(&self) -> Duration {
        if self.line.is_some() {
            return LOOK_EVERY;
        }
        let now = Timestamp::now();
        let left = self.tasks.values().filter_map(|remote| {
            let left = overdue_at(remote)?.duration_since(now);
            Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
        });
        left.min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// Gives those tasks up whose node has been away for too long.
    pub(super) async fn give_up_overdue(&mut self) {
        let now = Timestamp::now();
        let is_overdue = |remote: &Remote| overdue_at(remote).is_some_and(|at| at <= now);
        let overdue = self.tasks.iter().filter(|(_, remote)| is_overdue(remote));
        for task in overdue.map(|(task, _)| task.clone()).collect::<Vec<_>>() {
            tracing::warn!(task_id = %task, node = %self.name, "a task is given up: its node is away for too long");
            if let Err(error) = self.give_up(&task, GivenUp::ByPolicy).await {
                tracing::error!(task_id = %task, %error, "a task whose node is away was not given up; trying on");
                // A disk that refuses is not asked without a pause.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Gives a task up.
    pub(super) async fn give_up(&mut self, task: &TaskId, by: GivenUp) -> Result<(), AbandonError> {
        let Some(remote) = self.tasks.get_mut(task) else { return Err(AbandonError::NotThere(task.clone())) };
        remote.given_up = Some(by);
        self.on(Event::GiveUp { task: task.clone() }, Came::Nothing).await;
        match self.tasks.contains_key(task) {
            false => Ok(()),
            true => Err(AbandonError::Unwritten(task.clone())),
        }
    }

    /// Writes that a task is given up.
    pub(super) async fn write_given_up(&self, task: TaskId) -> Result<(), Event> {
        let Some(remote) = self.tasks.get(&task) else { return Ok(()) };
        let Some(by) = &remote.given_up else { return Ok(()) };
        let (fleet, accepted, by) = (self.fleet.clone(), remote.accepted(), by.clone());
        let written = tokio::task::spawn_blocking(move || fleet.store().give_up(&accepted, &by)).await;
        let why = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(task_id = %task, why, "that a task is given up cannot be written");
        // Nothing has changed.
        Err(Event::Holds { bytes: remote.mirror.bytes(), task })
    }

    /// Ends a task that is given up; what still comes of it is kept from now on.
    pub(super) async fn end_lost(&mut self, task: TaskId) -> Result<Event, Event> {
        let by = self.tasks.get(&task).and_then(|remote| remote.given_up.clone());
        let result = given_up(by.as_ref().and_then(GivenUp::person));
        let bytes = self.tasks.get(&task).map_or(0, |remote| remote.mirror.bytes());
        match self.finished(&task, result, None).await {
            Some(mirror) => {
                add(&self.fleet.counts.given_up, 1);
                self.late.insert(task.clone(), mirror);
                Ok(Event::GaveUp { task })
            }
            // Nothing has changed.
            None => Err(Event::Holds { bytes, task }),
        }
    }

    /// Keeps what came of a task that was given up.
    pub(super) async fn finish_late(
        &mut self,
        task: TaskId,
        result: ExecutionResult,
    ) -> Result<Event, Event> {
        let Some(mut mirror) = self.late.remove(&task) else { return Ok(Event::Finished { task }) };
        let kept = tokio::task::spawn_blocking(move || (mirror.finish_late(result), mirror)).await;
        match kept {
            Ok((Err(error), mirror)) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(task_id = %task, %error, "what came of a task that was given up cannot be written; trying on");
                self.late.insert(task.clone(), mirror);
                Err(Event::NotFinished { task })
            }
            // Its record is gone with old history.
            _ => Ok(Event::Finished { task }),
        }
    }

    /// Takes the tasks up that were given up before this agent was started, and have ended.
    pub(super) async fn take_up_left_over(&mut self, tasks: Vec<Accepted>) {
        for accepted in tasks {
            let task = accepted.task.clone();
            let (records, id) = (self.fleet.records.clone(), task.clone());
            let opened = tokio::task::spawn_blocking(move || match records.read_result(&id)? {
                Some(_) => Mirror::open_late(&records, &id).map(Some),
                // It was not ended: that it is given up is found when it is taken up.
                None => Ok(None),
            });
            let held = match opened.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(Some(mirror)) => {
                    let held = mirror.bytes();
                    self.late.insert(task.clone(), mirror);
                    held
                }
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(task_id = %task, %error, "nothing more is kept of a task that was given up");
                    0
                }
            };
            self.accepted.insert(task.clone(), accepted);
            self.desk.on(Event::LeftOver { task, held });
        }
    }
}

/// When a task is to be given up, where its node is away and its spec bounds that.
fn overdue_at(remote: &Remote) -> Option<Timestamp> {
    let patience = SignedDuration::try_from(remote.order.spec.unreachable_after?).ok()?;
    remote.away?.checked_add(patience).ok()
}
