//! Removes the folders that tasks worked in, each its own: those of tasks that ended long enough ago, and of too many, or
//! too many bytes, those of the tasks that ended first. What a task works in that has not ended, or may be about to
//! begin, stays and does not count.
//!
//! What a folder takes is measured once and remembered, since hardly anybody changes one whose task has ended: as long as
//! the service is open, that task's end is the same, and nothing was made or removed in the folder itself. Nobody waits
//! for any of this but the next round.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use task_runners::TaskId;

use crate::folders::{Folders, Found, Mark};
use crate::retention::Retention;
use crate::service::Inner;

/// A run on the command line makes its working folder a moment before its record. By this time it has one, also where the
/// clock has made as long a step as is followed.
const BEGINNING: Duration = Duration::from_secs(2 * 60 * 60);

/// What folders take that were measured.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Mutex<HashMap<Measured, u64>>);

/// What is the same as long as a folder need not be measured again: the folder as it is, and since when it is unused.
type Measured = (Mark, SystemTime);

/// A folder that nobody works in any more.
struct Unused {
    folder: Found,
    since: SystemTime,
}

impl Unused {
    fn is_the_same_as(&self) -> Measured {
        (self.folder.mark, self.since)
    }
}

impl Inner {
    /// Removes the folders that tasks worked in and that are too old or too many; says how many.
    pub(crate) fn remove_old_workspaces(&self, retention: &Retention) -> io::Result<usize> {
        let Some(folders) = Folders::open(&retention.work_dir.join("tasks"))? else { return Ok(0) };
        let mut unused = self.unused(&folders)?;
        let before = self.before(retention.workspaces);
        let by_age = unused.partition_point(|folder| before.is_some_and(|before| folder.since < before));
        let by_count = excess(unused.len(), retention.max_workspaces);
        let mut removed = self.remove_unused(&folders, unused.drain(..by_age.max(by_count)))?;
        let by_bytes = self.beyond(&folders, &unused, retention.max_workspace_bytes);
        removed += self.remove_unused(&folders, unused.drain(..by_bytes))?;
        Ok(removed)
    }

    /// The folders that nobody works in any more, the one that was left first at the beginning.
    fn unused(&self, folders: &Folders) -> io::Result<Vec<Unused>> {
        let with_time = |folder: Found| {
            let since = self.unused_since(&folder.id, folder.modified)?;
            Some(Unused { folder, since })
        };
        let mut unused: Vec<Unused> = folders.all()?.into_iter().filter_map(with_time).collect();
        unused.sort_unstable_by(|a, b| (a.since, &a.folder.id).cmp(&(b.since, &b.folder.id)));
        Ok(unused)
    }

    /// Since when nobody works in the folder of a task: by its row, or where there is none by what was done in the folder.
    /// None while somebody does, or may.
    fn unused_since(&self, id: &TaskId, modified: SystemTime) -> Option<SystemTime> {
        match self.ended_at(id) {
            Ok(Some(ended_at)) => ended_at.map(SystemTime::from),
            Ok(None) if self.has_ended(id) => Some(modified),
            Ok(None) if !self.records.folder(id).exists() => {
                Some(modified).filter(|at| self.before(BEGINNING).is_some_and(|before| *at < before))
            }
            _ => None,
        }
    }

    fn remove_unused(
        &self,
        folders: &Folders,
        unused: impl IntoIterator<Item = Unused>,
    ) -> io::Result<usize> {
        let mut removed = 0;
        for Unused { folder: Found { id, modified, .. }, .. } in unused {
            let is_unused = || self.unused_since(&id, modified).is_some();
            removed += usize::from(folders.remove_if(&id, is_unused)?);
        }
        Ok(removed)
    }

    /// How many of these folders, from the beginning, are to go so that the others take `most` bytes at most.
    fn beyond(&self, folders: &Folders, unused: &[Unused], most: u64) -> usize {
        if most == 0 {
            return 0;
        }
        let known = self.sizes.take();
        let (mut sizes, mut bytes, mut kept) = (HashMap::new(), 0_u64, 0);
        // From the newest on, so that those are not measured that go anyway.
        for folder in unused.iter().rev() {
            if self.is_stopped() {
                return 0;
            }
            let size = known.get(&folder.is_the_same_as()).copied();
            match size.map_or_else(|| folders.bytes(&folder.folder.id), Ok) {
                Ok(size) => {
                    bytes = bytes.saturating_add(size);
                    sizes.insert(folder.is_the_same_as(), size);
                }
                // It is tried again in the next round.
                Err(error) => {
                    let id = &folder.folder.id;
                    tracing::warn!(task_id = %id, %error, "what a working folder takes cannot be measured; it does not count");
                }
            }
            if bytes > most {
                break;
            }
            kept += 1;
        }
        self.sizes.set(sizes);
        unused.len() - kept
    }
}

impl Sizes {
    fn take(&self) -> HashMap<Measured, u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, sizes: HashMap<Measured, u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sizes;
    }
}

/// How many of so many are beyond a bound; 0 is none.
fn excess(count: usize, most: u64) -> usize {
    if most == 0 { 0 } else { count.saturating_sub(usize::try_from(most).unwrap_or(usize::MAX)) }
}
