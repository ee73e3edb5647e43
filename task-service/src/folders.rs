//! Folders of tasks that are removed. Everything is done beneath a descriptor of the folder that they stand in, and no link
//! is followed, so that nothing outside is touched whatever a script has left there.
//!
//! A folder is put away first, under a name that no task has: from then on it is nobody's. What was put away and not
//! removed, because the agent died in between, is removed at the next start.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use task_runners::{TaskId, folder_bytes, remove_folder};

/// What the names of folders that were put away begin with. No task's id does.
const PUT_AWAY: &str = ".leaving-";
/// A folder that is opened, and no link to one.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A folder of a task.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: TaskId,
    /// When something was made in it, or removed.
    pub(crate) modified: SystemTime,
    pub(crate) mark: Mark,
}

/// What tells a folder from the others that stand beside it, and from itself after it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    inode: u64,
    /// Seconds and nanoseconds, by the kernel: whoever has the folder in hand cannot set it.
    changed: (i64, i64),
}

/// A folder that holds folders of tasks.
#[derive(Debug)]
pub(crate) struct Folders {
    path: PathBuf,
    dir: File,
}

impl Folders {
    /// Opens it; none where there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        match nix::fcntl::open(path, FOLDER, Mode::empty()) {
            Ok(dir) => Ok(Some(Self { path: path.to_owned(), dir: dir.into() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folders of tasks that are there.
    pub(crate) fn all(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for name in names(&self.dir)? {
            // A link is no folder here, and what went away meanwhile is none any more.
            let (Ok(id), Ok(folder)) = (name.parse(), open(&self.dir, &name)) else { continue };
            let about = File::from(folder).metadata()?;
            let mark = Mark { inode: about.ino(), changed: (about.ctime(), about.ctime_nsec()) };
            found.push(Found { id, modified: about.modified()?, mark });
        }
        Ok(found)
    }

    /// The tasks in whose folders nothing has been made or removed since then.
    pub(crate) fn untouched_since(&self, before: SystemTime) -> io::Result<Vec<TaskId>> {
        let all = self.all()?;
        Ok(all.into_iter().filter(|folder| folder.modified < before).map(|folder| folder.id).collect())
    }

    /// What the folder of a task takes on the disk; nothing where there is none.
    pub(crate) fn bytes(&self, id: &TaskId) -> io::Result<u64> {
        match folder_bytes(&beneath(&self.dir, id.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            told => told,
        }
    }

    /// Removes the folder of a task, if this still holds when nobody finds it any more; whether it is gone.
    pub(crate) fn remove_if(&self, id: &TaskId, may_go: impl FnOnce() -> bool) -> io::Result<bool> {
        if !self.put_away(id) {
            return Ok(false);
        }
        // The id may be used again just now. A task's row is written before its folder is looked for, so that whoever
        // has found this one is known by now.
        if may_go() {
            return Ok(self.remove(id));
        }
        self.take_back(id)?;
        Ok(false)
    }

    /// Puts the folder of a task away; whether it was there and is away now. One that cannot be is told in the log, and
    /// keeps none of the others.
    pub(crate) fn put_away(&self, id: &TaskId) -> bool {
        let away = format!("{PUT_AWAY}{id}");
        let renamed = remove(&self.dir, &away)
            .and_then(|()| Ok(renameat(&self.dir, id.as_str(), &self.dir, away.as_str())?));
        match renamed {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                self.warn(id.as_str(), &error);
                false
            }
        }
    }

    /// Undoes [`put_away`](Self::put_away).
    fn take_back(&self, id: &TaskId) -> io::Result<()> {
        Ok(renameat(&self.dir, format!("{PUT_AWAY}{id}").as_str(), &self.dir, id.as_str())?)
    }

    /// Removes the folder of a task that was put away; whether it is gone. One that cannot be removed is told in the log.
    pub(crate) fn remove(&self, id: &TaskId) -> bool {
        self.remove_named(&format!("{PUT_AWAY}{id}"))
    }

    /// Removes what was put away and is still there.
    pub(crate) fn remove_put_away(&self) -> io::Result<()> {
        names(&self.dir)?.iter().filter(|name| name.starts_with(PUT_AWAY)).for_each(|name| {
            self.remove_named(name);
        });
        Ok(())
    }

    fn remove_named(&self, name: &str) -> bool {
        let removed = remove(&self.dir, name);
        if let Err(error) = &removed {
            self.warn(name, error);
        }
        removed.is_ok()
    }

    fn warn(&self, name: &str, error: &io::Error) {
        let folder = self.path.join(name);
        tracing::warn!(folder = %folder.display(), %error, "a folder that was kept long enough cannot be removed");
    }
}

/// Removes what has this name beneath `parent`, with all that is in it. It is no error where there is nothing.
fn remove(parent: &File, name: &str) -> io::Result<()> {
    match remove_folder(&beneath(parent, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The path of what has this name beneath `parent`. It begins at the descriptor, wherever the path that it was opened by
/// leads by now (proc(5)).
fn beneath(parent: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", parent.as_raw_fd()))
}

fn open(parent: &impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    openat(parent, name, FOLDER, Mode::empty())
}

/// The names in a folder, those that are text.
fn names(folder: &impl AsFd) -> io::Result<Vec<String>> {
    let entries = entries(folder)?;
    Ok(entries.iter().filter_map(|name| name.to_str().ok().map(str::to_owned)).collect())
}

/// All names in a folder.
fn entries(folder: &impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    // A descriptor of its own, since reading moves it on.
    let mut dir = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
