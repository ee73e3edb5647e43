//! Removes old snapshots, except those that somebody uses.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;

use super::take::temporary_name;
use super::{DAMAGED_PREFIX, SnapshotStore, StoreError};
use crate::{Digest, fs};

/// How many snapshots are kept when nothing else is said.
pub const KEEP_SNAPSHOTS: usize = 3;

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
                if let Some(name) = self.retire(&digest.to_string()).map_err(&failed)? {
                    retired.push(name);
                    removed.push(digest);
                }
            }
        }
        for name in retired {
            fs::remove_tree(&self.folder, &name).map_err(&failed)?;
        }
        Ok(removed)
    }

    /// The digests of all snapshots and the names of all damaged ones, the latest first.
    fn oldest_last(&self) -> io::Result<(Vec<Digest>, Vec<String>)> {
        let mut snapshots = Vec::new();
        let mut damaged = Vec::new();
        for name in fs::names(&self.folder, usize::MAX)?.0 {
            let Some(text) = name.to_str() else { continue };
            let stat = fs::stat_at(&self.folder, Path::new(&name))?;
            let time = (stat.st_mtime, stat.st_mtime_nsec);
            if let Ok(digest) = text.parse::<Digest>() {
                snapshots.push((time, digest));
            } else if text.starts_with(DAMAGED_PREFIX) {
                damaged.push((time, text.to_owned()));
            }
        }
        snapshots.sort_unstable_by(|a, b| b.cmp(a));
        damaged.sort_unstable_by(|a, b| b.cmp(a));
        Ok((
            snapshots.into_iter().map(|(_, digest)| digest).collect(),
            damaged.into_iter().map(|(_, name)| name).collect(),
        ))
    }

    /// Takes the name away from a folder that nobody has pinned, and tells the one under which it can be
    /// removed. The caller holds the store's lock, so that nobody pins it in between.
    fn retire(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let folder = fs::open_folder_at(&self.folder, Path::new(name))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let temporary = temporary_name();
        renameat(&self.folder, name, &self.folder, &temporary)?;
        Ok(Some(temporary))
    }
}
