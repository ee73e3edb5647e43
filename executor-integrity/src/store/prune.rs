//! Removes old snapshots, except those that somebody uses.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;

use super::take::temporary_name;
use super::{DAMAGED_PREFIX, SnapshotStore, StoreError};
use crate::{Digest, fs};

/// How many snapshots are kept when nothing else is said.
pub const KEEP_SNAPSHOTS: usize = 3;

/// A former snapshot that is about to be removed.
struct Retired {
    /// Its name now.
    name: PathBuf,
    /// Its folder, locked: whoever cleans the store meanwhile leaves it alone.
    _claim: File,
}

impl SnapshotStore {
    /// Removes all snapshots but the `keep` that were taken last and those that any process has pinned, and
    /// all damaged ones but the newest. Gives the digests of the removed snapshots.
    ///
    /// A process that ended has pinned nothing: after a start, the snapshots of tasks that still wait are to
    /// be [opened](Self::open) before anybody prunes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]. What is left of a snapshot that could not be removed is no snapshot any more.
    pub fn prune(&self, keep: usize) -> Result<Vec<Digest>, StoreError> {
        let failed = self.failed("prune snapshots", "");
        let mut removed = Vec::new();
        let mut retired = Vec::new();
        {
            let _guard = self.lock()?;
            let (snapshots, damaged) = self.oldest_last().map_err(&failed)?;
            for name in damaged.iter().skip(1) {
                retired.extend(self.retire(name).map_err(&failed)?);
            }
            for digest in snapshots.into_iter().skip(keep) {
                if let Some(snapshot) = self.retire(&digest.to_string()).map_err(&failed)? {
                    retired.push(snapshot);
                    removed.push(digest);
                }
            }
        }
        for snapshot in retired {
            fs::remove_tree(&self.folder, &snapshot.name).map_err(&failed)?;
        }
        Ok(removed)
    }

    /// The digests of all snapshots and the names of all damaged ones, the latest first.
    fn oldest_last(&self) -> io::Result<(Vec<Digest>, Vec<String>)> {
        let mut snapshots = Vec::new();
        let mut damaged = Vec::new();
        for name in fs::names(&self.folder, usize::MAX)?.0 {
            // Other names come and go without the store's lock.
            let Some(text) = name.to_str() else { continue };
            if let Ok(digest) = text.parse::<Digest>() {
                snapshots.push((self.time_of(text)?, digest));
            } else if text.starts_with(DAMAGED_PREFIX) {
                damaged.push((self.time_of(text)?, text.to_owned()));
            }
        }
        snapshots.sort_unstable_by(|a, b| b.cmp(a));
        damaged.sort_unstable_by(|a, b| b.cmp(a));
        Ok((
            snapshots.into_iter().map(|(_, digest)| digest).collect(),
            damaged.into_iter().map(|(_, name)| name).collect(),
        ))
    }

    fn time_of(&self, name: &str) -> io::Result<(i64, i64)> {
        let stat = fs::stat_at(&self.folder, Path::new(name))?;
        Ok((stat.st_mtime, stat.st_mtime_nsec))
    }

    /// Takes the name away from a folder that nobody has pinned. The caller holds the store's lock, so that
    /// nobody pins it in between.
    fn retire(&self, name: &str) -> io::Result<Option<Retired>> {
        let folder = fs::open_folder_at(&self.folder, Path::new(name))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let temporary = temporary_name();
        renameat(&self.folder, name, &self.folder, &temporary)?;
        Ok(Some(Retired { name: temporary, _claim: folder }))
    }
}
