//! Takes a snapshot of a scripts folder: verified and copied in one pass, made visible in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::syncfs;

use super::snapshot::{Inner, Snapshot, SnapshotFile, with_permissions};
use super::{Found, SnapshotStore, StoreError, TEMPORARY_PREFIX};
use crate::folder::unreadable;
use crate::inspect::{Seal, check_files, read_seal};
use crate::problem::Problems;
use crate::{MANIFEST_NAME, RelativeName, SIGNATURE_NAME, VerifyError, VerifyPolicy, fs};

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The scripts folder does not verify.
    #[error(transparent)]
    Refused(#[from] VerifyError),
    /// The store failed.
    #[error("take snapshot of the scripts folder")]
    Store(#[from] StoreError),
}

impl SnapshotStore {
    /// Verifies the scripts folder `folder` and gives a snapshot of exactly what was verified.
    ///
    /// The files are copied while they are hashed, so that nobody who rewrites them meanwhile gets other
    /// bytes in. A whole snapshot of the same manifest is used again. The manifest's version is remembered:
    /// an older one is refused from then on, for whoever has the same keys configured. Another manifest of
    /// the same version is accepted.
    ///
    /// # Errors
    ///
    /// [`TakeError::Refused`] with every problem of the folder; [`TakeError::Store`] when the copy cannot be
    /// made. Nothing that could be taken for a snapshot is left.
    pub fn take(&self, folder: &Path, policy: &VerifyPolicy) -> Result<Snapshot, TakeError> {
        let mut problems = Problems::default();
        let policy = policy.with_floor(self.floor(policy.keys())?);
        let refused =
            |seal: Option<&Seal>, problems| VerifyError::new(folder, &policy, seal, problems).into();
        let root = match fs::open_folder(folder) {
            Ok(root) => root,
            Err(error) => {
                problems.push(unreadable(".", &error));
                return Err(refused(None, problems));
            }
        };
        let Some(seal) = read_seal(&root, &policy, &mut problems) else {
            // What else is wrong is told at the same time; nothing is copied, so that there is no other error.
            let _ = check_files(&root, None, None, &mut problems);
            return Err(refused(None, problems));
        };
        let place = if problems.is_empty() { self.place(&seal)? } else { Place::Nowhere };
        let files = check_files(&root, Some(&seal.manifest), place.to_fill(), &mut problems)
            .map_err(self.failed("write snapshot", ""))?;
        if problems.is_empty() {
            self.raise(&seal, &policy, &mut problems)?;
        }
        match place {
            Place::There(snapshot) if problems.is_empty() => Ok(self.reuse(snapshot, files)?),
            Place::Draft(draft) if problems.is_empty() => Ok(self.publish(draft, &seal, files)?),
            _ => Err(refused(Some(&seal), problems)),
        }
    }

    fn place(&self, seal: &Seal) -> Result<Place<'_>, StoreError> {
        Ok(match self.find(&seal.manifest.digest())? {
            Found::Whole(snapshot) => Place::There(snapshot),
            Found::Damaged(_) | Found::Absent => Place::Draft(Draft::new(self)?),
        })
    }

    /// Uses `snapshot` again, as the newest one, for a folder with `files`.
    fn reuse(
        &self,
        snapshot: Snapshot,
        files: BTreeMap<RelativeName, SnapshotFile>,
    ) -> Result<Snapshot, StoreError> {
        let failed = self.failed("use snapshot again", &snapshot.digest().to_string());
        mark_newest(&snapshot.inner.pin).map_err(&failed)?;
        Ok(match with_permissions(&snapshot.inner, files).map_err(&failed)? {
            Some(changed) => self.keep(changed),
            None => snapshot,
        })
    }

    /// Makes the whole `draft` the snapshot of its manifest.
    fn publish(
        &self,
        mut draft: Draft<'_>,
        seal: &Seal,
        files: BTreeMap<RelativeName, SnapshotFile>,
    ) -> Result<Snapshot, StoreError> {
        let digest = seal.manifest.digest();
        let name = digest.to_string();
        let failed = self.failed("write snapshot", &name);
        draft.finish(seal, &files).map_err(&failed)?;
        loop {
            let guard = self.lock()?;
            match renameat(&self.folder, &draft.name, &self.folder, name.as_str()) {
                Ok(()) => {
                    let pin = draft.into_pin().map_err(&failed)?;
                    self.folder.sync_all().map_err(&failed)?;
                    drop(guard);
                    let path = self.path.join(&name);
                    return Ok(self.keep(Inner { digest, path, files, pin: pin.into() }));
                }
                // Another thread or process was faster. Its snapshot is as good, when it is whole.
                Err(Errno::EEXIST | Errno::ENOTEMPTY) => {}
                Err(error) => return Err(failed(error.into())),
            }
            drop(guard);
            if let Found::Whole(snapshot) = self.find(&digest)? {
                return self.reuse(snapshot, files);
            }
        }
    }
}

/// Where the bytes of the folder go while they are being verified.
enum Place<'a> {
    /// They are in the store already.
    There(Snapshot),
    Draft(Draft<'a>),
    /// The folder is refused already; it is only looked at for what else is wrong.
    Nowhere,
}

impl Place<'_> {
    fn to_fill(&self) -> Option<&File> {
        match self {
            Self::Draft(draft) => Some(&draft.folder),
            Self::There(_) | Self::Nowhere => None,
        }
    }
}

/// A snapshot that is being made, removed again when it is dropped. The exclusive lock on its folder tells
/// other processes that it is no rubbish.
struct Draft<'a> {
    store: &'a SnapshotStore,
    name: PathBuf,
    folder: File,
    published: bool,
}

impl<'a> Draft<'a> {
    fn new(store: &'a SnapshotStore) -> Result<Self, StoreError> {
        let failed = store.failed("make snapshot", "");
        // Nobody may take the folder for rubbish before it is locked.
        let _guard = store.lock()?;
        let name = loop {
            let name = temporary_name();
            match mkdirat(&store.folder, &name, Mode::S_IRWXU) {
                Ok(()) => break name,
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
        };
        let folder = fs::open_folder_at(&store.folder, &name).map_err(&failed)?;
        fs::set_mode(&folder, 0o700).map_err(&failed)?;
        fs::uninterrupted(|| folder.lock()).map_err(&failed)?;
        Ok(Self { store, name, folder, published: false })
    }

    /// Adds the manifest and its signature, takes all write permissions away, and flushes. One flush of the
    /// file system costs less than one of each file.
    fn finish(&mut self, seal: &Seal, files: &BTreeMap<RelativeName, SnapshotFile>) -> io::Result<()> {
        self.write(MANIFEST_NAME, seal.manifest.as_bytes())?;
        if let Some(signature) = &seal.signature {
            self.write(SIGNATURE_NAME, signature)?;
        }
        let folders: BTreeSet<&Path> = files
            .keys()
            .flat_map(|name| AsRef::<Path>::as_ref(name).ancestors().skip(1))
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        // The innermost first: afterwards the way to it could not be changed any more.
        for folder in folders.into_iter().rev() {
            fs::set_mode(&fs::open_folder_at(&self.folder, folder)?, 0o500)?;
        }
        fs::set_mode(&self.folder, 0o500)?;
        mark_newest(&self.folder)?;
        Ok(syncfs(&self.folder)?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_file_at(&self.folder, Path::new(name), 0o400)?.write_all(bytes)
    }

    /// The published snapshot's folder, its lock changed into a pin.
    fn into_pin(mut self) -> io::Result<File> {
        self.published = true;
        let pin = self.folder.try_clone()?;
        fs::uninterrupted(|| pin.lock_shared())?;
        Ok(pin)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(error) = fs::remove_tree(&self.store.folder, &self.name) {
            tracing::warn!(name = %self.name.display(), %error, "a half made snapshot cannot be removed");
        }
    }
}

/// A name that no other thread of this process uses, and another process only if it had the same number.
pub(super) fn temporary_name() -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id()).into()
}

/// Pruning keeps the snapshots whose folders have the latest times.
fn mark_newest(folder: &File) -> io::Result<()> {
    folder.set_modified(SystemTime::now())
}
