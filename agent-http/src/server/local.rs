//! The Unix socket: its file, who may put one in its place, and what is done with one that lies there already.
//!
//! Nobody but root and the service's user can change the folder, so that what was looked at is what is used. A lock beside
//! the file tells a live agent from a dead one, so that of two which start at once one does not take the other's away.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Group, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

/// Connections that may wait to be accepted; std has the same for TCP.
const BACKLOG: i32 = 1024;
/// The bits of a mode that let the group or others write, that of folders in which only owners remove, and those that
/// `chmod` sets.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const PERMISSIONS: u32 = 0o7777;

/// A Unix socket that is listened on. Dropped, its file is removed.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket, as it was made, and the lock that says that its agent lives.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
    _lock: File,
}

/// Why the Unix socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system refuses.
    #[error("cannot listen on http.socket {}: {operation}: {source}", .path.display())]
    Io {
        /// What was about to be done.
        operation: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others could put a socket of their own in its place.
    #[error(
        "cannot listen on http.socket {}: {reason}; choose a folder that only root or the service's user may change",
        .path.display()
    )]
    Folder {
        /// The socket.
        path: PathBuf,
        /// What lets others change it.
        reason: String,
    },
    /// Something lies there that is not the service's to remove.
    #[error("cannot listen on http.socket {}: {what} is in the way; remove it, or choose another path", .path.display())]
    InTheWay {
        /// The socket.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Another program listens there.
    #[error("cannot listen on http.socket {}: another program listens there; stop it, or choose another path", .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is no such group.
    #[error("cannot listen on http.socket {}: http.socket_group: this host has no group '{group}'", .path.display())]
    NoGroup {
        /// The socket.
        path: PathBuf,
        /// The group.
        group: String,
    },
}

impl LocalSocket {
    /// Listens on the Unix socket that the settings name; none when they name none.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn listen(settings: &agent_config::Http) -> Result<Option<Self>, SocketError> {
        let Some(path) = &settings.socket else { return Ok(None) };
        let failed = |operation| move |source| SocketError::Io { operation, path: path.clone(), source };
        check_folders(path)?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("make a socket"))?;
        // The file has this mode from its first moment on, and what the settings say before anybody can connect.
        fchmod(&socket, Mode::from_bits_truncate(0o600))
            .map_err(|error| failed("set its mode")(error.into()))?;
        let address = SockAddr::unix(path).map_err(failed("use the path"))?;
        socket.bind(&address).map_err(failed("make its file"))?;
        let file = SocketFile::of(path, lock).map_err(failed("look at its file"))?;
        if let Some(group) = &settings.socket_group {
            lchown(path, None, Some(gid(path, group)?)).map_err(failed("give it to http.socket_group"))?;
        }
        fs::set_permissions(path, Permissions::from_mode(settings.socket_mode))
            .map_err(failed("set its mode"))?;
        socket.listen(BACKLOG).map_err(failed("listen"))?;
        socket.set_nonblocking(true).map_err(failed("listen"))?;
        let listener = UnixListener::from_std(socket.into()).map_err(failed("listen"))?;
        Ok(Some(Self { listener, file }))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl SocketFile {
    fn of(path: &Path, lock: File) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), id: id_of(path)?, _lock: lock })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another file in its place is somebody else's; and one that is left is found to be stale at the next start.
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Nobody else may put anything into the socket's folder, or another folder in the place of that.
fn check_folders(path: &Path) -> Result<(), SocketError> {
    let wrong = |reason| SocketError::Folder { path: path.to_path_buf(), reason };
    let not_found =
        |source| SocketError::Io { operation: "find its folder", path: path.to_path_buf(), source };
    let named = std::path::absolute(path.parent().unwrap_or(Path::new("/"))).map_err(not_found)?;
    let folder = named.canonicalize().map_err(not_found)?;
    // The way as it was named is looked at too: who may exchange a link on it says where everybody goes.
    for above in named.ancestors().chain(folder.ancestors()) {
        let name = above.display();
        let metadata = fs::symlink_metadata(above).map_err(|error| wrong(format!("{name}: {error}")))?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & PERMISSIONS);
        if owner != 0 && owner != geteuid().as_raw() {
            return Err(wrong(format!("{name} belongs to user {owner}")));
        }
        // Higher up the sticky bit keeps others from renaming what is ours; in the folder itself they could be first.
        let is_sticky = above != folder && mode & STICKY != 0;
        if mode & WRITABLE_BY_OTHERS != 0 && !is_sticky && !metadata.is_symlink() {
            return Err(wrong(format!("{name} may be written by others (mode {mode:04o})")));
        }
    }
    Ok(())
}

/// Takes the lock that an agent holds for as long as it listens. Its file stays: removed, two could each hold one.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let failed =
        |source| SocketError::Io { operation: "open its lock", path: PathBuf::from(&beside), source };
    let file = options.open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes room where a dead agent of the same user has left its socket. Nothing else is removed.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |operation| move |source| SocketError::Io { operation, path: path.to_path_buf(), source };
    let in_the_way = |what| SocketError::InTheWay { path: path.to_path_buf(), what };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at what is there")(error)),
    };
    if metadata.is_symlink() {
        return Err(in_the_way("a link"));
    }
    if !metadata.file_type().is_socket() {
        return Err(in_the_way("a file that is no socket"));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(in_the_way("a socket of another user"));
    }
    match is_listened_on(path) {
        Ok(true) => Err(SocketError::InUse { path: path.to_path_buf() }),
        Ok(false) => fs::remove_file(path).map_err(failed("remove the socket of a dead agent")),
        Err(error) => Err(failed("ask who listens there")(error)),
    }
}

/// Whether somebody listens on a socket, without waiting for it.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        // It listens, and as many wait already as may.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

fn gid(path: &Path, group: &str) -> Result<u32, SocketError> {
    let failed = |error: nix::Error| SocketError::Io {
        operation: "look up http.socket_group",
        path: path.to_path_buf(),
        source: error.into(),
    };
    let found = Group::from_name(group).map_err(failed)?;
    let missing = || SocketError::NoGroup { path: path.to_path_buf(), group: group.to_owned() };
    found.map(|group| group.gid.as_raw()).ok_or_else(missing)
}
