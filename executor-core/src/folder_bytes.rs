//! What a folder takes on the disk, whatever a script has left in it.
//!
//! As in `removal` nothing recurses, since a script nests folders deeper than any stack or table of descriptors. Of the
//! way down only the nearest folders are open. Of those above them it is known which they are and how many of their
//! entries were gone through; the walk comes back to them by `..`. So depth costs some bytes a level, and width nothing.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, ResolveFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::removal::open_allowed;

/// Folders of the way down that are open, with two descriptors each. Coming back to one above them takes opening it
/// again, and passing by what was seen there.
const OPEN: usize = 16;
/// Entries that are looked at; what is beyond does not count. So it ends even while somebody goes on adding some.
const MOST_ENTRIES: u64 = 20_000_000;
/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How many bytes of the disk a folder takes with all that is in it, as `du -x` tells: blocks that are written, not
/// lengths. A file with several names counts in equal parts at each of them.
///
/// It takes a few descriptors and little memory however deep and wide the folder is, follows no link, and does not look
/// into what is mounted there. Folders that are closed to their owner are opened to them by that.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) where nothing is there; otherwise the first folder or file that cannot be looked
/// at, or was moved away meanwhile with the walk in it. What is added or removed meanwhile is none.
pub fn folder_bytes(path: &Path) -> io::Result<u64> {
    let (mut here, mut bytes) = Level::open(AT_FDCWD, path, ResolveFlag::empty())?;
    let mut above: Vec<Above> = Vec::new();
    for _ in 0..MOST_ENTRIES {
        match here.next()? {
            Some(Found::File(takes)) => bytes += takes,
            Some(Found::Folder(folder, takes)) => {
                bytes += takes;
                above.push(Above::Open(std::mem::replace(&mut here, folder)));
                if let Some(far) = above.len().checked_sub(OPEN) {
                    above[far].close();
                }
            }
            None => match above.pop() {
                Some(Above::Open(level)) => here = level,
                Some(Above::Closed { is, seen }) => here = here.leave_to(is, seen)?,
                None => break,
            },
        }
    }
    Ok(bytes)
}

/// Device and number of a folder: no two have both at the same time.
type Identity = (u64, u64);

/// A folder that is gone through.
#[derive(Debug)]
struct Level {
    is: Identity,
    folder: OwnedFd,
    entries: OwningIter,
    /// Entries that were gone through.
    seen: usize,
}

/// A folder above the one that is gone through.
#[derive(Debug)]
enum Above {
    Open(Level),
    Closed { is: Identity, seen: usize },
}

/// What an entry is, and the bytes that it takes itself.
enum Found {
    File(u64),
    Folder(Level, u64),
}

impl Above {
    fn close(&mut self) {
        if let Self::Open(level) = self {
            *self = Self::Closed { is: level.is, seen: level.seen };
        }
    }
}

impl Level {
    /// Opens a folder; with what it takes itself.
    fn open(
        parent: impl AsFd,
        name: &(impl NixPath + ?Sized),
        resolve: ResolveFlag,
    ) -> io::Result<(Self, u64)> {
        let folder = open_allowed(parent, name, resolve, Mode::S_IRUSR | Mode::S_IXUSR)?;
        let stat = fstat(&folder)?;
        Ok((Self::of(folder, &stat)?, takes(&stat)))
    }

    fn of(folder: OwnedFd, stat: &FileStat) -> io::Result<Self> {
        // A descriptor of its own, since reading moves it on.
        let entries = Dir::openat(&folder, ".", FOLDER, Mode::empty())?.into_iter();
        Ok(Self { is: (stat.st_dev, stat.st_ino), folder, entries, seen: 0 })
    }

    /// The next entry that counts; none when all were gone through.
    fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(entry) = self.entries.next() {
            self.seen += 1;
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match self.look_at(name) {
                // It went away, or something else took its place; or something is mounted on it.
                Err(error) if is_passed_by(&error) => {}
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    fn look_at(&self, name: &CStr) -> io::Result<Found> {
        let stat = fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
            return Ok(Found::File(takes(&stat) / stat.st_nlink.max(1)));
        }
        let (folder, takes) = Level::open(&self.folder, name, ResolveFlag::RESOLVE_NO_XDEV)?;
        Ok(Found::Folder(folder, takes))
    }

    /// Goes on in the folder above, which was closed.
    fn leave_to(self, is: Identity, seen: usize) -> io::Result<Self> {
        let folder = openat(&self.folder, "..", FOLDER, Mode::empty())?;
        let stat = fstat(&folder)?;
        if (stat.st_dev, stat.st_ino) != is {
            return Err(io::Error::other("a folder in it was moved while it was looked through"));
        }
        let mut above = Self::of(folder, &stat)?;
        above.seen = above.entries.by_ref().take(seen).count();
        Ok(above)
    }
}

/// What a file or a folder takes itself.
fn takes(stat: &FileStat) -> u64 {
    stat.st_blocks.unsigned_abs() * BLOCK
}

fn is_passed_by(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV))
}
