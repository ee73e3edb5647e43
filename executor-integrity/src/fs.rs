//! The file system through folder descriptors: a name is looked up beneath an open folder and never
//! followed through a link, so that nobody can swap a folder under a path in between.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc::S_IFMT;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Flags of every open: no descriptor leaks into scripts, and no link is followed.
const OPEN: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW);

/// The kinds of entries that a folder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    SymbolicLink,
    /// Anything else, named for people.
    Special(&'static str),
}

/// What `stat` says the entry is (inode(7)).
pub(crate) fn kind(stat: &FileStat) -> Kind {
    match stat.st_mode & S_IFMT {
        nix::libc::S_IFREG => Kind::File,
        nix::libc::S_IFDIR => Kind::Folder,
        nix::libc::S_IFLNK => Kind::SymbolicLink,
        nix::libc::S_IFIFO => Kind::Special("named pipe"),
        nix::libc::S_IFSOCK => Kind::Special("socket"),
        _ => Kind::Special("device"),
    }
}

/// Opens the folder at `path`. Links in the path itself are followed: it is the operator's word.
pub(crate) fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?.into())
}

/// Opens the folder `name` beneath `folder`.
pub(crate) fn open_folder_at(folder: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OPEN | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}

/// Opens the file `name` beneath `folder` for reading. Never waits for the writer of a named pipe.
pub(crate) fn open_file_at(folder: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OPEN | OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    Ok(openat(folder, name, flags, Mode::empty())?.into())
}

/// Makes the file `name` beneath `folder`, which must not be there, with exactly `mode`.
pub(crate) fn create_file_at(folder: impl AsFd, name: &Path, mode: u32) -> io::Result<File> {
    let flags = OPEN | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file: File = openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into();
    // The process's umask takes bits away from the mode given above, but not from this one.
    set_mode(&file, mode)?;
    Ok(file)
}

/// Sets the permission bits of an open file or folder.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    Ok(fchmod(file, Mode::from_bits_truncate(mode))?)
}

/// What the open file is.
pub(crate) fn stat(file: &File) -> io::Result<FileStat> {
    Ok(fstat(file)?)
}

/// What `name` beneath `folder` is, itself and not what it links to.
pub(crate) fn stat_at(folder: impl AsFd, name: &Path) -> io::Result<FileStat> {
    Ok(fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Up to `limit` names in `folder`, sorted by their bytes, and whether there are more.
pub(crate) fn names(folder: &File, limit: usize) -> io::Result<(Vec<OsString>, bool)> {
    // A descriptor of its own, since reading a folder moves the descriptor's position.
    let copy = openat(folder, ".", OPEN | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(copy)?.iter() {
        let name: CString = entry?.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        if names.len() == limit {
            return Ok((names, true));
        }
        names.push(OsString::from_vec(name.into_bytes()));
    }
    names.sort_unstable();
    Ok((names, false))
}

/// Gives the file `name` beneath `folder` the content `bytes` and permission bits `mode`: whoever looks
/// sees the old file or the new one, and when this has returned the new one survives a power cut.
pub(crate) fn write_atomically(folder: &File, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(name);
    let temporary = Path::new(&temporary);
    let written = create_file_at(folder, temporary, mode)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| Ok(renameat(folder, temporary, folder, name)?));
    if let Err(error) = written {
        // It may not even have been made, and the first error is the one to tell.
        let _ = unlinkat(folder, temporary, UnlinkatFlags::NoRemoveDir);
        return Err(error);
    }
    folder.sync_all()
}

/// A hidden name for a file that becomes `name`, which no other thread or process uses at this time.
fn temporary_name(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}.{count}", std::process::id())
}

/// The process that was writing the file `name` under the temporary name `entry`, if `entry` is such a name.
pub(crate) fn writer_of(entry: &str, name: &str) -> Option<u32> {
    let rest = entry.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?;
    let (pid, count) = rest.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(pid) && digits(count) && !count.is_empty()).then(|| pid.parse().ok())?
}

/// Removes what writers of the file `name` beneath `folder` have left behind that are no more.
pub(crate) fn remove_half_written(folder: &File, name: &str) -> io::Result<()> {
    for entry in names(folder, usize::MAX)?.0 {
        let Some(pid) = entry.to_str().and_then(|entry| writer_of(entry, name)) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            match unlinkat(folder, Path::new(&entry), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes the folder `name` beneath `folder` with all that is in it, read-only folders too. A folder that
/// is gone is no error.
pub(crate) fn remove_tree(folder: &File, name: &Path) -> io::Result<()> {
    let inner = match open_folder_at(folder, name) {
        Ok(inner) => inner,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    set_mode(&inner, 0o700)?;
    for entry in names(&inner, usize::MAX)?.0 {
        let entry = Path::new(&entry);
        match unlinkat(&inner, entry, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => remove_tree(&inner, entry)?,
            Err(error) => return Err(error.into()),
        }
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Calls `operation` again for as long as a signal interrupts it.
pub(crate) fn uninterrupted<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Makes the folder `path` beneath `folder`, and those on the way to it, for the owner alone.
pub(crate) fn create_folders_at(folder: &File, path: &Path) -> io::Result<()> {
    let mut made = std::path::PathBuf::new();
    for segment in path {
        made.push(segment);
        match nix::sys::stat::mkdirat(folder, &made, Mode::S_IRWXU) {
            // The umask may have taken bits away that are needed to go on.
            Ok(()) => set_mode(&open_folder_at(folder, &made)?, 0o700)?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
