//! Scratch: a folder of the task's own on a memory file system, for TMPDIR, `output.env` and secret files. It
//! goes with the task.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::folder;
use crate::removal::remove_folder;

/// Where the scratch folders of one agent instance stand.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    path: PathBuf,
    is_in_memory: bool,
}

/// The scratch folder of one execution; removed, with all that is in it, when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    pub(crate) dir: OwnedFd,
}

impl ScratchRoot {
    /// Makes the root for an instance in the best place: the wanted one, else the runtime folder of the service or of the
    /// user, or `/dev/shm`, where those are memory file systems that may execute, else the state folder.
    pub(crate) fn create(
        wanted: Option<&Path>,
        runtime: Option<&Path>,
        state_dir: &Path,
        instance: &str,
    ) -> io::Result<Self> {
        let parent = match wanted {
            Some(wanted) => wanted.to_owned(),
            None => memory_folder(runtime).unwrap_or_else(|| state_dir.join("scratch")),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
        let path = std::fs::canonicalize(parent)?.join(folder_name(instance));
        // Not recursive: somebody else's folder of that name must not be taken over.
        DirBuilder::new().mode(0o700).create(&path)?;
        let is_in_memory = is_in_memory(&path);
        Ok(Self { path, is_in_memory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is on a memory file system, so that what is written there reaches no disk.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }

    /// Makes the scratch folder of one execution.
    pub(crate) fn prepare(&self, name: &str) -> io::Result<Scratch> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let dir = folder::open_folder(&path)?;
        Ok(Scratch { path, dir })
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The name of the folder that the scratch folders of an instance stand in.
pub(crate) fn folder_name(instance: &str) -> String {
    format!("devops-agent-{instance}")
}

/// Removes a folder and all that is in it, and says in the log where that fails.
pub(crate) fn remove(path: &Path) {
    match remove_folder(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %path.display(), %error, "could not remove a scratch folder");
        }
        _ => {}
    }
}

fn memory_folder(of_service: Option<&Path>) -> Option<PathBuf> {
    let uid = nix::unistd::geteuid();
    let of_user = PathBuf::from(format!("/run/user/{uid}"));
    let is_ours =
        |path: &PathBuf| std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == uid.as_raw());
    let ours = [of_service.map(Path::to_owned), Some(of_user)].into_iter().flatten().filter(is_ours);
    ours.chain(["/dev/shm".into()]).find(|path| is_fit(path))
}

/// In memory, writable, and not mounted noexec: programs unpack and run things in TMPDIR.
fn is_fit(path: &Path) -> bool {
    let usable =
        statvfs(path).is_ok_and(|fs| !fs.flags().intersects(FsFlags::ST_NOEXEC | FsFlags::ST_RDONLY));
    let writable = nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    is_in_memory(path) && usable && writable
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}
