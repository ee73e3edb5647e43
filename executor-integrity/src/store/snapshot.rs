//! A snapshot in use: which files it has, and the pin that keeps it there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::inspect::{check_files, read_manifest};
use crate::problem::{FileFault, Problem, Problems};
use crate::{Digest, MANIFEST_NAME, RelativeName, fs};

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name relative to the scripts folder.
    pub name: RelativeName,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether its owner may execute it, as the scripts folder said when this handle was taken.
    pub executable: bool,
}

/// A whole, read-only copy of a verified scripts folder. While a handle, or a clone of it, lives, no
/// process's pruning removes it. Nothing here touches the disk; cloning is cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) digest: Digest,
    pub(super) path: PathBuf,
    pub(super) files: BTreeMap<RelativeName, SnapshotFile>,
    /// The snapshot's folder; the shared lock on it lasts for as long as it is open.
    pub(super) pin: Arc<File>,
}

impl Snapshot {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The digest of its manifest: what names it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Its folder, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All its files, in the order of their names.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &SnapshotFile> {
        self.inner.files.values()
    }

    /// The file of this name.
    #[must_use]
    pub fn resolve(&self, name: &RelativeName) -> Option<&SnapshotFile> {
        self.inner.files.get(name)
    }

    /// Where `file` lies, absolute.
    #[must_use]
    pub fn path_of(&self, file: &SnapshotFile) -> PathBuf {
        self.inner.path.join(&file.name)
    }
}

/// Opens the snapshot in the folder `pin` after comparing every byte with its manifest. Gives the folder
/// back, and what is wrong, when it is not whole.
pub(super) fn load(pin: File, path: PathBuf, digest: Digest) -> Result<Inner, (File, Problems)> {
    let mut problems = Problems::default();
    let manifest = read_manifest(&pin, &mut problems).filter(|_| problems.is_empty());
    let files = manifest.map(|manifest| {
        if manifest.digest() != digest {
            let fault = FileFault::DigestDiffers { listed: digest, found: manifest.digest() };
            problems.push(Problem::file_fault(MANIFEST_NAME, fault));
        }
        // Nothing is copied, so that there is no error of copying.
        check_files(&pin, Some(&manifest), None, &mut problems).unwrap_or_default()
    });
    match files {
        Some(files) if problems.is_empty() => Ok(Inner { digest, path, files, pin: Arc::new(pin) }),
        _ => Err((pin, problems)),
    }
}

/// The snapshot `inner` with the execute permissions that `files` has, which the manifest does not vouch
/// for: the scripts folder's owner may change them without a new manifest. None when they are the same.
///
/// On the disk permissions are only given: somebody may have pinned the snapshot for what could be executed when a task
/// was accepted.
pub(super) fn with_permissions(
    inner: &Inner,
    files: BTreeMap<RelativeName, SnapshotFile>,
) -> io::Result<Option<Inner>> {
    if inner.files == files {
        return Ok(None);
    }
    for file in files.values() {
        let before = inner.files.get(&file.name).map(|file| file.executable);
        if file.executable && before != Some(true) {
            let open = fs::open_file_at(&*inner.pin, file.name.as_ref())?;
            fs::set_mode(&open, file_mode(file.executable))?;
        }
    }
    Ok(Some(Inner { digest: inner.digest, path: inner.path.clone(), files, pin: Arc::clone(&inner.pin) }))
}

/// The permission bits of a file in a snapshot.
pub(crate) fn file_mode(executable: bool) -> u32 {
    if executable { 0o500 } else { 0o400 }
}
