//! Removes folders that scripts worked in, whatever they left there.
//!
//! What a script nests may be deeper than any stack or table of descriptors: 20,000 levels are made in a moment, and by
//! unpacking an archive too. So nothing here recurses. The folder's own entries are gone through, and whatever is found
//! in one of its folders and cannot be removed at once is moved up beside it, to be met by a later pass. Depth and width
//! cost time, and neither memory nor descriptors.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::NixPath;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes a folder and all that is in it.
///
/// This is the one way in which folders are removed that scripts had in their hands. It takes a few descriptors and
/// little stack however deep they are, removes links and follows none, makes folders writable that are not, and does
/// not look into what is mounted there. A link, or a file, in the place of the folder is removed itself.
///
/// # Errors
/// [`NotFound`](io::ErrorKind::NotFound) where nothing is there; otherwise the first of what could not be removed.
/// Everything else is gone then, and it may be tried again.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    // Most scripts leave nothing behind.
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTDIR) => return Ok(unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir)?),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        other => return Ok(other?),
    }
    let top = open_allowed(AT_FDCWD, path, ResolveFlag::empty(), Mode::S_IRWXU)?;
    let mut removal = Removal { top, moved: 0, is_changed: true, failure: None };
    loop {
        removal.pass();
        if unlink(AT_FDCWD, path, Some(Type::Directory))? {
            return Ok(());
        }
        // As long as something goes there is room for more, and what stood in the way may be gone.
        if !removal.is_changed {
            return Err(removal.failure.unwrap_or_else(|| Errno::ENOTEMPTY.into()));
        }
    }
}

/// A folder that is being removed.
#[derive(Debug)]
struct Removal {
    top: OwnedFd,
    /// How many names were made for folders that were moved to the top.
    moved: u64,
    /// Whether the last pass removed or moved anything.
    is_changed: bool,
    /// What the last pass met first that it could not remove.
    failure: Option<io::Error>,
}

impl Removal {
    /// Goes once through what stands at the top.
    fn pass(&mut self) {
        (self.is_changed, self.failure) = (false, None);
        let top = self.top.try_clone();
        let gone_through = top.and_then(|top| {
            for_each(&top, |name, kind| {
                let outcome = match unlink(&top, name, kind) {
                    Ok(false) => self.flatten(name),
                    other => self.note(other),
                };
                self.note_failure(name, outcome);
            })
        });
        self.note_failure(c".", gone_through);
    }

    /// Removes a folder at the top, after moving the folders in it that have something in them to its side.
    fn flatten(&mut self, name: &CStr) -> io::Result<()> {
        let folder = open_allowed(&self.top, name, ResolveFlag::RESOLVE_NO_XDEV, Mode::S_IRWXU)?;
        for_each(&folder, |inner, kind| {
            let outcome = match unlink(&folder, inner, kind) {
                Ok(false) => self.move_up(folder.as_fd(), inner),
                other => self.note(other),
            };
            self.note_failure(inner, outcome);
        })?;
        // It stays where something in it does; why is noted.
        let gone = unlink(&self.top, name, Some(Type::Directory));
        self.note(gone)
    }

    /// Moves a folder to the top, under a name that nothing has there.
    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let mut is_writable = false;
        loop {
            self.moved += 1;
            match renameat(parent, name, &self.top, self.moved.to_string().as_str()) {
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                // Its own entry `..` is changed by this.
                Err(Errno::EACCES) if !is_writable => {
                    open_allowed(parent, name, ResolveFlag::RESOLVE_NO_XDEV, Mode::S_IRWXU)?;
                    is_writable = true;
                }
                moved => return self.note(moved.map(|()| true)),
            }
        }
    }

    /// Notes that something went, if it did.
    fn note(&mut self, gone: nix::Result<bool>) -> io::Result<()> {
        self.is_changed |= gone?;
        Ok(())
    }

    fn note_failure(&mut self, name: &CStr, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            let name = name.to_bytes().escape_ascii();
            self.failure.get_or_insert_with(|| io::Error::new(error.kind(), format!("'{name}': {error}")));
        }
    }
}

/// Calls `with` for each entry of a folder, which may be removed by that.
fn for_each(folder: impl AsFd, mut with: impl FnMut(&CStr, Option<Type>)) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    for entry in Dir::openat(folder, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            with(entry.file_name(), entry.file_type());
        }
    }
    Ok(())
}

/// Removes an entry, whatever it is; whether it is gone, since a folder that has something in it stays.
fn unlink(parent: impl AsFd, name: &(impl NixPath + ?Sized), kind: Option<Type>) -> nix::Result<bool> {
    if kind != Some(Type::Directory) {
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            // Not every file system says in its listings what is a folder.
            Err(Errno::EISDIR) => {}
            Err(Errno::ENOENT) => return Ok(true),
            other => return other.map(|()| true),
        }
    }
    match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Opens a folder, and allows its owner this where the folder did not. A link is refused.
pub(crate) fn open_allowed(
    parent: impl AsFd,
    name: &(impl NixPath + ?Sized),
    resolve: ResolveFlag,
    rights: Mode,
) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags | OFlag::O_RDONLY).resolve(resolve);
    let folder = match openat2(&parent, name, how) {
        Err(Errno::EACCES) => {
            // This needs no right to the folder, and leads to that very one, whatever its name leads to by now.
            let unread = openat(&parent, name, flags | OFlag::O_PATH, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", unread.as_raw_fd());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
            openat2(&parent, name, how)?
        }
        opened => opened?,
    };
    let mode = Mode::from_bits_truncate(fstat(&folder)?.st_mode);
    if !mode.contains(rights) {
        // Whose folder it is not is told by what fails next, if anything does: root may do without.
        let _ = fchmod(&folder, mode | rights);
    }
    Ok(folder)
}
