//! The agent's own copies of verified scripts folders, each named by its manifest's digest.
//!
//! ```text
//! lock               held for the moments in which a name in this folder changes
//! ratchet            the highest manifest versions that were accepted
//! <digest>/          a snapshot: 0500, files 0400 or 0500; a shared lock on the folder is a pin
//! tmp-<pid>-<n>/     being made or being removed, by whoever holds an exclusive lock on it
//! damaged-<digest>/  was found not to be whole, kept for a look
//! ```
//!
//! Locks are flock(2) locks of folder descriptors: the system drops them when their process ends, in
//! whatever way.

pub(crate) mod prune;
mod ratchet;
pub(crate) mod snapshot;
pub(crate) mod take;

use std::collections::HashMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use nix::fcntl::renameat;
use nix::unistd::geteuid;

use crate::{Digest, Problems, fs};
use snapshot::{Inner, Snapshot};

const LOCK_NAME: &str = "lock";
const DAMAGED_PREFIX: &str = "damaged-";
const TEMPORARY_PREFIX: &str = "tmp-";

/// A store of snapshots in a folder of its own. Several stores, also of several processes, may work on one
/// folder at a time.
#[derive(Debug)]
pub struct SnapshotStore {
    path: PathBuf,
    folder: File,
    /// The snapshots that this process holds; each was found whole when it was opened.
    live: Mutex<HashMap<Digest, Weak<Inner>>>,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Others could change what lies in the store.
    #[error("open snapshot store: {} {why}", path.display())]
    Unsafe {
        /// The store's folder.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// There is no snapshot of this digest.
    #[error("open snapshot: there is none of manifest {digest}; take it again from the scripts folder")]
    NotFound {
        /// The manifest's digest.
        digest: Digest,
    },
    /// The snapshot is not whole. It is never used, and was set aside.
    #[error(
        "open snapshot: that of manifest {digest} is damaged, take it again from the scripts folder:{problems}"
    )]
    Damaged {
        /// The manifest's digest.
        digest: Digest,
        /// What is wrong with it.
        problems: Problems,
    },
    /// The file system refused.
    #[error("{action}: {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was found under a digest's name.
enum Found {
    Whole(Snapshot),
    /// It was set aside.
    Damaged(Problems),
    Absent,
}

impl SnapshotStore {
    /// Opens the store in the folder `path`, which is made (mode 0700) when it is absent. What an agent
    /// that died has left half made is removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsafe`] when the folder belongs to another user or others may write it;
    /// [`StoreError::Io`] when it cannot be made or opened.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { action: "open snapshot store", path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        // Scripts are executed by path from other working folders.
        let path = path.canonicalize().map_err(failed)?;
        let folder = fs::open_folder(&path).map_err(failed)?;
        let metadata = folder.metadata().map_err(failed)?;
        let refused = |why| StoreError::Unsafe { path: path.clone(), why };
        let agent = geteuid().as_raw();
        if metadata.uid() != agent {
            let owner = metadata.uid();
            return Err(refused(format!(
                "belongs to user {owner}, it must belong to user {agent} who runs this"
            )));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(refused("can be written by others, it must not: chmod go-w".to_owned()));
        }
        let store = Self { path, folder, live: Mutex::default() };
        store.clean()?;
        Ok(store)
    }

    /// Opens the snapshot of the manifest `digest`, for a task that was accepted with it. It is pinned: it
    /// stays as it is for as long as the handle, or a clone of it, lives.
    ///
    /// Every byte of it is compared with its manifest first, unless this process holds it already.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Damaged`] when it is not whole, as after a power cut;
    /// [`StoreError::Io`].
    pub fn open(&self, digest: &Digest) -> Result<Snapshot, StoreError> {
        match self.find(digest)? {
            Found::Whole(snapshot) => Ok(snapshot),
            Found::Damaged(problems) => Err(StoreError::Damaged { digest: *digest, problems }),
            Found::Absent => Err(StoreError::NotFound { digest: *digest }),
        }
    }

    /// The store's folder, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pins and checks the snapshot of `digest`; one that is not whole is set aside.
    fn find(&self, digest: &Digest) -> Result<Found, StoreError> {
        let live = self.live().get(digest).and_then(Weak::upgrade);
        if let Some(inner) = live.filter(|inner| self.is_at(&digest.to_string(), &inner.pin)) {
            return Ok(Found::Whole(Snapshot { inner }));
        }
        let Some(pin) = self.pin(digest)? else { return Ok(Found::Absent) };
        match snapshot::load(pin, self.path.join(digest.to_string()), *digest) {
            Ok(inner) => Ok(Found::Whole(self.keep(inner))),
            Err((pin, problems)) => {
                self.set_aside(&pin, digest, &problems)?;
                Ok(Found::Damaged(problems))
            }
        }
    }

    /// Whether `name` in the store still is the open `folder`, which others may have removed or replaced.
    fn is_at(&self, name: &str, folder: &File) -> bool {
        match (fs::stat_at(&self.folder, Path::new(name)), fs::stat(folder)) {
            (Ok(there), Ok(open)) => (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino),
            _ => false,
        }
    }

    /// Opens the folder of the snapshot `digest` with a shared lock on it.
    fn pin(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let name = digest.to_string();
        let failed = self.failed("pin snapshot", &name);
        // Whoever removes a snapshot holds this lock while it checks for pins.
        let _guard = self.lock()?;
        let folder = match fs::open_folder_at(&self.folder, Path::new(&name)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        fs::uninterrupted(|| folder.lock_shared()).map_err(failed)?;
        Ok(Some(folder))
    }

    /// Remembers a snapshot that was found whole, for as long as somebody holds it.
    fn keep(&self, inner: Inner) -> Snapshot {
        let snapshot = Snapshot::new(inner);
        let mut live = self.live();
        live.retain(|_, inner| inner.strong_count() > 0);
        live.insert(snapshot.digest(), std::sync::Arc::downgrade(&snapshot.inner));
        snapshot
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Inner>>> {
        // The map is whole at every step: a panic elsewhere leaves nothing half done in it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_aside(&self, damaged: &File, digest: &Digest, problems: &Problems) -> Result<(), StoreError> {
        let name = digest.to_string();
        let aside = format!("{DAMAGED_PREFIX}{name}");
        let failed = self.failed("set damaged snapshot aside", &name);
        let _guard = self.lock()?;
        // Otherwise another process was faster, and has made it anew perhaps.
        if self.is_at(&name, damaged) {
            fs::remove_tree(&self.folder, Path::new(&aside)).map_err(&failed)?;
            renameat(&self.folder, name.as_str(), &self.folder, aside.as_str())
                .map_err(|error| failed(error.into()))?;
            tracing::warn!(snapshot = %name, %problems, "a damaged snapshot was set aside");
        }
        Ok(())
    }

    /// Waits for the store's lock, which is free again when the answer is dropped. It is never held while
    /// files are copied or hashed.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.path.join(LOCK_NAME);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let open = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path);
        let locked = open.and_then(|file| {
            fs::uninterrupted(|| file.lock())?;
            Ok(file)
        });
        locked.map_err(self.failed("lock snapshot store", LOCK_NAME))
    }

    /// Removes what nobody is making or removing any more.
    fn clean(&self) -> Result<(), StoreError> {
        let failed = self.failed("clean snapshot store", "");
        let _guard = self.lock()?;
        for name in fs::names(&self.folder, usize::MAX).map_err(failed)?.0 {
            let text = name.to_string_lossy();
            let removed = if text.starts_with(TEMPORARY_PREFIX) {
                self.remove_unheld(Path::new(&name))
            } else if text.starts_with(ratchet::TEMPORARY_PREFIX) {
                std::fs::remove_file(self.path.join(&name))
            } else {
                Ok(())
            };
            match removed {
                Ok(()) => {}
                // Who made it has just removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Rubbish costs space only; the agent starts.
                Err(error) => {
                    let path = self.path.join(&name);
                    tracing::warn!(path = %path.display(), %error, "cannot be removed");
                }
            }
        }
        Ok(())
    }

    fn remove_unheld(&self, name: &Path) -> io::Result<()> {
        let folder = fs::open_folder_at(&self.folder, name)?;
        match folder.try_lock() {
            Ok(()) => fs::remove_tree(&self.folder, name),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn failed(&self, action: &'static str, name: &str) -> impl Fn(io::Error) -> StoreError + use<> {
        let path = self.path.join(name);
        move |source| StoreError::Io { action, path: path.clone(), source }
    }
}
