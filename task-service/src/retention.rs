//! Removes what has been kept long enough: ended tasks from the history, their records, and the
//! [folders that they worked in](crate::workspaces). Nothing that has not ended or is [held](TaskService::hold) is touched, and no task waits for it: a few tasks go at a time, between the keeper's
//! other events, and folders are removed on threads for blocking work.
//!
//! The folders of a step are put away first, then its rows are forgotten, then the folders are removed. So a crash leaves
//! rows that the next round meets again, or folders under a name that says what is to become of them. Folders of runs on
//! the command line, which no row ever knew, are found by looking through all folders.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use task_runners::{ATTEMPTS_FOLDER, RESULT_FILE, TaskId};
use tokio::sync::oneshot;

use crate::folders::Folders;
use crate::keeper::Event;
use crate::service::{Inner, TaskService};
use crate::store::{self, Old};

/// How often it is looked for what has been kept long enough.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Tasks that go in one step, so that nobody waits long for it.
const STEP: u32 = 32;
/// The longest rest after a step.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Tasks whose bytes are added up at a time.
const ADDED_UP: u32 = 10_000;

/// How long things are kept after a task ended, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tasks in the history, and their records.
    pub tasks: Duration,
    /// Most tasks in the history; 0 sets no bound. The oldest that have ended go first.
    pub max_tasks: u64,
    /// Most bytes that tasks take in the history and in their records, on a disk with blocks of 4 KiB; 0 sets no bound.
    pub max_bytes: u64,
    /// Folders that tasks of their own worked in, after the task ended. Shared ones are kept, and do not count.
    pub workspaces: Duration,
    /// Most of these folders, of tasks that have ended; 0 sets no bound. Those of the tasks that ended first go first.
    pub max_workspaces: u64,
    /// Most bytes that these folders take on the disk; 0 sets no bound.
    pub max_workspace_bytes: u64,
    /// The folder in which the engine makes them: that of its setting `work_dir`.
    pub work_dir: PathBuf,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Tasks of the history.
    pub tasks: usize,
    /// Records of tasks.
    pub records: usize,
    /// Folders that tasks worked in.
    pub workspaces: usize,
}

/// Why not everything was removed that has been kept long enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CleanUpError {
    /// The service has stopped.
    #[error("the service has stopped")]
    Stopped,
    /// The database, or a folder, could not be read or written.
    #[error("what has been kept long enough could not be removed: {0}; it is tried again later")]
    Failed(String),
}

impl TaskService {
    /// Removes what has been kept long enough, now and every ten minutes until the service stops. It runs on the runtime
    /// that this is called on.
    pub fn keep_clean(&self, retention: Retention) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            // Only borrowed for each round: it must not keep a service open that nobody else holds.
            while let Some(inner) = inner.upgrade() {
                let cleaned = Self { inner }.clean_up(&retention).await;
                match cleaned {
                    Ok(removed) if removed == Removed::default() => {}
                    Ok(removed) => tracing::info!(?removed, "removed what was kept long enough"),
                    Err(CleanUpError::Stopped) => return,
                    Err(error) => tracing::error!(%error, "cleaning up"),
                }
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    /// Removes what has been kept long enough, once.
    ///
    /// # Errors
    /// See [`CleanUpError`]. A folder that cannot be removed is none: it is said in the log, and tried again the next
    /// time.
    pub async fn clean_up(&self, retention: &Retention) -> Result<Removed, CleanUpError> {
        // Whoever has stopped removes nothing any more.
        self.inner.events.send(Event::Tick).map_err(|_| CleanUpError::Stopped)?;
        let (inner, kept) = (self.inner.clone(), retention.clone());
        blocking(move || inner.remove_put_away(&kept)).await?;
        let mut removed = Removed::default();
        self.remove_by_age(retention.tasks, &mut removed).await?;
        self.remove_by_count(retention.max_tasks, &mut removed).await?;
        self.remove_by_bytes(retention.max_bytes, &mut removed).await?;
        let (inner, kept) = (self.inner.clone(), retention.clone());
        let remove = move || Ok((inner.remove_old_records(kept.tasks)?, inner.remove_old_workspaces(&kept)?));
        let (records, workspaces) = blocking(remove).await?;
        removed.records += records;
        removed.workspaces = workspaces;
        Ok(removed)
    }

    async fn remove_by_age(&self, age: Duration, removed: &mut Removed) -> Result<(), CleanUpError> {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        let before = self.inner.trusted_now().saturating_sub(age).unwrap_or(Timestamp::MIN);
        loop {
            let held = self.inner.held.as_json();
            let old = self.read_old(move |db| store::ended_before(db, before, &held, STEP)).await?;
            if old.is_empty() {
                return Ok(());
            }
            self.let_go(old, removed).await?;
        }
    }

    async fn remove_by_count(&self, most: u64, removed: &mut Removed) -> Result<(), CleanUpError> {
        if most == 0 {
            return Ok(());
        }
        let mut excess = self.read_old(store::count).await?.saturating_sub(most);
        let mut behind = 0;
        while excess > 0 {
            let step = u32::try_from(excess).map_or(STEP, |excess| excess.min(STEP));
            let held = self.inner.held.as_json();
            let old = self.read_old(move |db| store::oldest_ended(db, behind, &held, step)).await?;
            let Some(last) = old.last() else { return Ok(()) };
            behind = last.place;
            excess = excess.saturating_sub(old.len() as u64);
            self.let_go(old, removed).await?;
        }
        Ok(())
    }

    async fn remove_by_bytes(&self, most: u64, removed: &mut Removed) -> Result<(), CleanUpError> {
        if most == 0 {
            return Ok(());
        }
        let mut excess = self.bytes().await?.saturating_sub(most);
        let mut behind = 0;
        while excess > 0 {
            let held = self.inner.held.as_json();
            let mut old = self.read_old(move |db| store::oldest_ended(db, behind, &held, STEP)).await?;
            // As many as it takes, and no more.
            let is_needed = |task: &Old| {
                let is_needed = excess > 0;
                excess = excess.saturating_sub(task.bytes);
                is_needed
            };
            let needed = old.iter().map(is_needed).take_while(|is_needed| *is_needed).count();
            old.truncate(needed);
            let Some(last) = old.last() else { return Ok(()) };
            behind = last.place;
            self.let_go(old, removed).await?;
        }
        Ok(())
    }

    /// What all tasks take, added up in parts, since a long look keeps the write-ahead log from being cut back.
    async fn bytes(&self) -> Result<u64, CleanUpError> {
        let (mut sum, mut behind) = (0_u64, 0);
        while let Some((bytes, last)) =
            self.read_old(move |db| store::bytes_within(db, behind, ADDED_UP)).await?
        {
            sum = sum.saturating_add(bytes);
            behind = last;
        }
        Ok(sum)
    }

    /// Lets some tasks go, with their records, and rests for as long as that took: the keeper, the disk and the processors
    /// are the others' for half of the time.
    async fn let_go(&self, old: Vec<Old>, removed: &mut Removed) -> Result<(), CleanUpError> {
        let begun = Instant::now();
        self.let_go_at_once(old, removed).await?;
        tokio::time::sleep(begun.elapsed().min(LONGEST_REST)).await;
        Ok(())
    }

    async fn let_go_at_once(&self, old: Vec<Old>, removed: &mut Removed) -> Result<(), CleanUpError> {
        let places = old.iter().map(|task| task.place).collect();
        let inner = self.inner.clone();
        let away = blocking(move || {
            let Some(records) = Folders::open(inner.records.root())? else { return Ok(Vec::new()) };
            // One that cannot be put away is found again when all folders are looked through.
            let ids = old.into_iter().filter_map(|task| task.id);
            Ok(ids.filter(|id| records.put_away(id)).collect::<Vec<TaskId>>())
        })
        .await?;
        removed.tasks += self.forget(places).await?;
        let inner = self.inner.clone();
        removed.records += blocking(move || {
            let records = Folders::open(inner.records.root())?;
            Ok(records.map_or(0, |records| away.iter().filter(|id| records.remove(id)).count()))
        })
        .await?;
        Ok(())
    }

    /// Lets the keeper forget the tasks in these places; how many of them there were.
    async fn forget(&self, places: Vec<i64>) -> Result<usize, CleanUpError> {
        let (answer, answered) = oneshot::channel();
        self.inner.events.send(Event::Forget { places, answer }).map_err(|_| CleanUpError::Stopped)?;
        answered.await.map_err(|_| CleanUpError::Stopped)?.map_err(CleanUpError::Failed)
    }

    async fn read_old<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, CleanUpError> {
        self.read(read).await.map_err(|error| CleanUpError::Failed(error.to_string()))
    }
}

impl Inner {
    /// The time by which it is told what is old: rows and folders both are by the clock on the wall, which may be far ahead for
    /// a moment.
    pub(crate) fn trusted_now(&self) -> Timestamp {
        self.steady.trusted(self.clock.now().wall)
    }

    /// So long ago by that time; none where no time is.
    pub(crate) fn before(&self, age: Duration) -> Option<SystemTime> {
        SystemTime::from(self.trusted_now()).checked_sub(age)
    }

    /// Removes what a round before this one has put away and not removed.
    fn remove_put_away(&self, retention: &Retention) -> io::Result<()> {
        for path in [self.records.root(), &retention.work_dir.join("tasks")] {
            Folders::open(path)?.map_or(Ok(()), |folders| folders.remove_put_away())?;
        }
        Ok(())
    }

    /// Removes the records that no row knows and that are old enough; says how many.
    fn remove_old_records(&self, age: Duration) -> io::Result<usize> {
        let Some(before) = self.before(age) else { return Ok(0) };
        let Some(records) = Folders::open(self.records.root())? else { return Ok(0) };
        let is_nobodys = |id: &TaskId| matches!(self.ended_at(id), Ok(None));
        let mut removed = 0;
        for id in records.untouched_since(before)? {
            if is_nobodys(&id) && self.has_ended(&id) && !self.held.has(&id) {
                removed += usize::from(records.remove_if(&id, || is_nobodys(&id))?);
            }
        }
        Ok(removed)
    }

    /// Whether the record of a task that no row knows, as of a run on the command line, says that it has ended.
    pub(crate) fn has_ended(&self, id: &TaskId) -> bool {
        // What no row knows is not tried again, so that ended attempts are an end as well.
        [RESULT_FILE, ATTEMPTS_FOLDER].iter().any(|name| self.records.folder(id).join(name).exists())
    }

    /// When a task ended, by its row: none as long as it has not. None as well where there is no row.
    pub(crate) fn ended_at(&self, id: &TaskId) -> rusqlite::Result<Option<Option<Timestamp>>> {
        self.readers.read_here(|db| store::ended_at(db, id))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CleanUpError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|outcome| outcome).map_err(|error| CleanUpError::Failed(error.to_string()))
}
