//! Opens folders and files beneath a folder's descriptor, so that no link and no `..` leads out of it
//! (openat2(2), RESOLVE_BENEATH).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// Opens a folder by its path, following links: the path is the operator's own.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Opens `path` beneath `folder`; a link anywhere on the way is refused with `ELOOP`.
pub(crate) fn open_beneath(folder: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        match openat2(folder.as_fd(), path, how) {
            // Somebody renames things meanwhile; the kernel asks to try again.
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            other => return other,
        }
    }
}

/// Opens the folder `name` beneath `parent`, and makes it with `mode` where there is none.
pub(crate) fn ensure_folder(parent: impl AsFd, name: &str, mode: Mode) -> nix::Result<OwnedFd> {
    match mkdirat(parent.as_fd(), name, mode) {
        Ok(()) | Err(nix::Error::EEXIST) => {}
        Err(error) => return Err(error),
    }
    open_beneath(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}
