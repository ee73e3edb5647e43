//! What becomes of tasks whose node is away: that is noted, and in the end somebody gives them up, a person or their spec.

use std::time::Duration;

use jiff::Timestamp;
use task_service::{Note, TaskId, given_up};
use tokio::time::Instant;

use super::by_people::AbandonError;
use super::event::Event;
use super::stats::add;
use super::store::GivenUp;
use super::work::{Came, MOST_TOGETHER, Remote, Work};

/// Time in which nodes that can come back do: so long a task that is taken up is left to its node at least, unless its spec
/// allows less.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Time between two looks where nobody is overdue.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Time after which a task is tried again that could not be given up.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Work {
    /// Notes that the node is away, or back: of all its tasks.
    pub(super) fn note_away(&mut self, since: Option<Timestamp>) {
        for (task, remote) in &mut self.tasks {
            if remote.away.is_some() != since.is_some() {
                remote.is_away(since);
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
        remote.is_away(since);
    }

    /// When the first task is to be given up because its node is away, or it is to be looked again.
    pub(super) fn overdue_at(&self) -> Instant {
        let later = Instant::now() + LOOK_EVERY;
        if self.line.is_some() {
            return later;
        }
        self.tasks.values().filter_map(|remote| remote.overdue_at).min().unwrap_or(later)
    }

    /// Gives those tasks up whose node has been away for too long. Few at a time, so that who else comes is heard between them.
    pub(super) async fn give_up_overdue(&mut self) {
        let now = Instant::now();
        let is_overdue = |remote: &Remote| remote.overdue_at.is_some_and(|at| at <= now);
        let overdue = self.tasks.iter().filter(|(_, remote)| is_overdue(remote)).take(MOST_TOGETHER);
        for task in overdue.map(|(task, _)| task.clone()).collect::<Vec<_>>() {
            tracing::warn!(task_id = %task, node = %self.name, "a task is given up: its node is away for too long");
            if let Err(error) = self.give_up(&task, GivenUp::ByPolicy).await {
                tracing::error!(task_id = %task, %error, "a task whose node is away was not given up; trying on");
                // A disk that refuses is not asked without a pause, for which nobody else waits.
                if let Some(remote) = self.tasks.get_mut(&task) {
                    remote.overdue_at = Some(Instant::now() + AGAIN_AFTER);
                }
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
            // Its log is opened again when something comes of it: that may be never.
            Some(_) => {
                add(&self.fleet.counts.given_up, 1);
                Ok(Event::GaveUp { task })
            }
            // Nothing has changed.
            None => Err(Event::Holds { bytes, task }),
        }
    }
}

impl Remote {
    /// Its node is away since then, or back. The wall clock may be set at any time, and is asked once: how long the node was away
    /// before this agent knew of the task. From then on it is counted.
    fn is_away(&mut self, since: Option<Timestamp>) {
        self.away = since;
        self.overdue_at = since.zip(self.order.spec.unreachable_after).and_then(|(since, patience)| {
            let before = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
            let left = patience.saturating_sub(before).max(patience.min(BACK_WITHIN));
            Instant::now().checked_add(left)
        });
    }
}
