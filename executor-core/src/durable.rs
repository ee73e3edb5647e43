//! Writes small files so that a reader, or a power loss, finds either the old content or the new one, whole.
//!
//! Files are named beneath the descriptor of their folder: whatever becomes of the folder's path meanwhile, nothing is
//! written elsewhere.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};

/// Writes `content` to `name` in a folder: a temporary file, flushed, renamed over the name, and the folder flushed
/// (rename(2), fsync(2)).
///
/// # Errors
/// When any of these steps fails; the old content, if there was any, is still there then.
pub(crate) fn write(folder: impl AsFd, name: &str, content: &[u8]) -> io::Result<()> {
    let folder = folder.as_fd();
    let temporary = format!(".{name}.new");
    let written = create_in_place_of_leftover(folder, &temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| Ok(renameat(folder, temporary.as_str(), folder, name)?))
        .and_then(|()| Ok(fsync(folder)?));
    if written.is_err() {
        // Left behind it would only take space; the error above is the one to report.
        let _ = unlinkat(folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    written
}

/// Puts a file in place, at once or not at all for whoever reads it. It is not flushed.
///
/// # Errors
/// When any of these steps fails; the old content, if there was any, is still there then.
pub(crate) fn put(folder: impl AsFd, name: &str, content: &[u8]) -> io::Result<()> {
    let folder = folder.as_fd();
    let temporary = format!(".{name}.new");
    let written = create_in_place_of_leftover(folder, &temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| Ok(renameat(folder, temporary.as_str(), folder, name)?));
    if written.is_err() {
        let _ = unlinkat(folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    written
}

/// Makes a file; one of that name was left behind by a writer that died and is no longer anybody's.
fn create_in_place_of_leftover(folder: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    match create_new(folder, name, 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?;
            create_new(folder, name, 0o600)
        }
        other => other,
    }
}

/// Makes a file that was not there before, and writes `content`; what is flushed later, or never, is the caller's
/// to decide.
pub(crate) fn create(folder: impl AsFd, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    create_new(folder, name, mode)?.write_all(content)
}

/// Makes an empty file that was not there before, to be written and read; a link of that name is not followed.
pub(crate) fn create_new(folder: impl AsFd, name: &str, mode: u32) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(folder, name, flags, Mode::from_bits_truncate(mode))?.into())
}

/// Gives a file of a folder a second name that was not there before.
pub(crate) fn link(folder: impl AsFd, name: &str, second: &str) -> io::Result<()> {
    let folder = folder.as_fd();
    Ok(linkat(folder, name, folder, second, AtFlags::empty())?)
}
