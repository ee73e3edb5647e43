//! Removes what has been kept long enough: ended tasks from the history, their records, and the folders that they worked
//! in. Nothing that has not ended is touched, and no task waits for it: the keeper forgets a few rows at a time between
//! its other events, and folders are removed on threads for blocking work, after their row.
//!
//! A row goes before its folder, so that a crash in between leaves a folder that no row knows. Such folders, and those of
//! runs on the command line, which no row ever knew, are found by looking through the folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use task_runners::{ATTEMPTS_FOLDER, RESULT_FILE, Task, TaskId, remove_folder};
use tokio::sync::oneshot;

use crate::keeper::Event;
use crate::service::{Inner, TaskService};
use crate::store::{self, Forgotten};

/// How often it is looked for what has been kept long enough.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How long things are kept after a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tasks in the history, and their records.
    pub tasks: Duration,
    /// Folders that belong to one task. Shared ones are kept.
    pub workspaces: Duration,
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
    /// Removes what has been kept long enough, now and every hour until the service stops. It runs on the runtime that
    /// this is called on.
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
        let age = SignedDuration::try_from(retention.tasks).unwrap_or(SignedDuration::MAX);
        let before = Timestamp::now().saturating_sub(age).unwrap_or(Timestamp::MIN);
        let mut removed = Removed::default();
        loop {
            let Forgotten { rows, ids } = self.forget(before).await?;
            if rows == 0 {
                break;
            }
            removed.tasks += rows;
            let inner = self.inner.clone();
            removed.records +=
                blocking(move || Ok(ids.iter().filter(|id| is_removed(&inner.records.folder(id))).count()))
                    .await?;
        }
        let (inner, kept) = (self.inner.clone(), retention.clone());
        let (records, workspaces) = blocking(move || inner.remove_old_folders(&kept)).await?;
        removed.records += records;
        removed.workspaces = workspaces;
        Ok(removed)
    }

    /// Lets the keeper forget some of the tasks that ended before a time.
    async fn forget(&self, before: Timestamp) -> Result<Forgotten, CleanUpError> {
        let (answer, answered) = oneshot::channel();
        self.inner.events.send(Event::Forget { before, answer }).map_err(|_| CleanUpError::Stopped)?;
        answered.await.map_err(|_| CleanUpError::Stopped)?.map_err(CleanUpError::Failed)
    }
}

impl Inner {
    /// Removes the records that no row knows, and the folders that tasks worked in, where they are old enough; says how
    /// many of each.
    fn remove_old_folders(&self, retention: &Retention) -> io::Result<(usize, usize)> {
        let records = old_folders(self.records.root(), retention.tasks)?;
        // What no row knows is not tried again, so that ended attempts are an end as well.
        let ends = [RESULT_FILE, ATTEMPTS_FOLDER];
        let has_ended = |id: &TaskId| ends.iter().any(|name| self.records.folder(id).join(name).exists());
        let is_left = |id: &TaskId| matches!(self.row(id), Ok(None)) && has_ended(id);
        let records = records.iter().filter(|(id, path)| is_left(id) && is_removed(path)).count();

        let before = SystemTime::now().checked_sub(retention.workspaces);
        let workspaces = old_folders(&retention.work_dir.join("tasks"), retention.workspaces)?;
        let is_done = |id: &TaskId| match self.row(id) {
            Ok(Some(task)) => task.ended_at.is_some_and(|at| Some(SystemTime::from(at)) < before),
            // A run on the command line has a record, with a result once it has ended.
            Ok(None) => has_ended(id) || !self.records.folder(id).exists(),
            Err(_) => false,
        };
        let workspaces = workspaces.iter().filter(|(id, path)| is_done(id) && is_removed(path)).count();
        Ok((records, workspaces))
    }

    fn row(&self, id: &TaskId) -> rusqlite::Result<Option<Task>> {
        self.readers.read_here(|db| store::by_id(db, id))
    }
}

/// The folders with the names of tasks in `parent` in which nothing has been made or removed for `age`.
fn old_folders(parent: &Path, age: Duration) -> io::Result<Vec<(TaskId, PathBuf)>> {
    let Some(before) = SystemTime::now().checked_sub(age) else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut old = Vec::new();
    for entry in entries {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A link is no folder here, and what went away meanwhile is none any more.
        let (Some(id), Ok(metadata)) = (id, entry.metadata()) else { continue };
        if metadata.is_dir() && metadata.modified()? < before {
            old.push((id, entry.path()));
        }
    }
    Ok(old)
}

/// Removes a folder with all that is in it, following no link; whether it was there and is gone.
fn is_removed(path: &Path) -> bool {
    match remove_folder(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(folder = %path.display(), %error, "a folder that was kept long enough cannot be removed");
            false
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, CleanUpError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|outcome| outcome).map_err(|error| CleanUpError::Failed(error.to_string()))
}
