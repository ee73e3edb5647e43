//! The folder that a script works in: one of its own for each task, or a shared one by name that is locked
//! while somebody works in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::StartError;
use crate::folder;
use crate::names::{TaskId, WorkspaceName};
use crate::output_params::OUTPUT_FILE;

/// All workspaces of one agent.
#[derive(Debug)]
pub(crate) struct Workspaces {
    root: PathBuf,
    root_dir: OwnedFd,
    locks: PathBuf,
}

/// A folder to work in, as long as this value lives.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) path: PathBuf,
    pub(crate) dir: OwnedFd,
    /// Held for shared ones; given back on drop.
    _lock: Option<Flock<File>>,
}

impl Workspaces {
    /// Makes the folders where they are missing. Locks stand in the state folder, where no script can hold them.
    pub(crate) fn open(root: &Path, state_dir: &Path) -> io::Result<Self> {
        for part in ["tasks", "shared"] {
            DirBuilder::new().recursive(true).mode(0o755).create(root.join(part))?;
        }
        let locks = state_dir.join("locks");
        DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
        let root = std::fs::canonicalize(root)?;
        Ok(Self { root_dir: folder::open_folder(&root)?, root, locks })
    }

    /// Where the folder for one execution is, or would be made.
    pub(crate) fn path(&self, id: &TaskId, shared: Option<&WorkspaceName>) -> PathBuf {
        match shared {
            Some(name) => self.root.join("shared").join(name.as_str()),
            None => self.root.join("tasks").join(id.as_str()),
        }
    }

    /// The folder for one execution: the shared one of that name, locked, or the task's own.
    pub(crate) fn prepare(
        &self,
        id: &TaskId,
        shared: Option<&WorkspaceName>,
    ) -> Result<Workspace, StartError> {
        match shared {
            Some(name) => {
                let lock = self.lock(name)?;
                self.folder("shared", name.as_str(), Some(lock))
            }
            None => self.folder("tasks", id.as_str(), None),
        }
    }

    fn folder(&self, kind: &str, name: &str, lock: Option<Flock<File>>) -> Result<Workspace, StartError> {
        let path = self.root.join(kind).join(name);
        let parent = folder::open_beneath(&self.root_dir, kind, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let mode = Mode::from_bits_truncate(0o755);
        let dir = parent.and_then(|parent| folder::ensure_folder(parent, name, mode));
        let dir = dir.map_err(|error| match error {
            // Said by the errors alone, a planted link would look like a loop or a file.
            Errno::ELOOP | Errno::ENOTDIR => io::Error::new(
                io::ErrorKind::NotADirectory,
                "there is a link or a file of that name where a folder should be",
            ),
            other => other.into(),
        });
        let dir =
            dir.map_err(StartError::host(format_args!("make the working folder {}", path.display())))?;
        Ok(Workspace { path, dir, _lock: lock })
    }

    /// Locks a shared workspace against every agent on this state folder (flock(2)).
    fn lock(&self, name: &WorkspaceName) -> Result<Flock<File>, StartError> {
        let path = self.locks.join(name.as_str());
        let operation = || format!("open the lock {}", path.display());
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(StartError::host(operation()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) => Err(StartError::WorkspaceBusy(name.to_string())),
            Err((_, error)) => Err(StartError::host(operation())(error.into())),
        }
    }
}

impl Workspace {
    /// Removes the file of output parameters that an earlier script left, so that it is not taken for this one's. A
    /// folder of that name is left alone: it is no file of parameters, and said to be none at the end.
    pub(crate) fn forget_output(&self) -> io::Result<()> {
        match unlinkat(&self.dir, OUTPUT_FILE, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
