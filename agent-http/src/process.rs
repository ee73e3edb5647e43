//! What belongs to the whole process: its signals, its limit of open files, what its service manager gave it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agent_http::ServerLimits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Part of the open files that connections may take: a followed log takes two, a task about ten.
const CONNECTIONS_PER_FILE: u64 = 4;
/// Part of them that nodes may take, each of which takes one.
const NODES_PER_FILE: u64 = 2;

/// The signals that mean something here.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The limit of open files (getrlimit(2)): as it was, and as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles {
    before: Option<(u64, u64)>,
    now: u64,
}

/// The first of the folders that the service manager made for the service's runtime (systemd.exec(5), RuntimeDirectory=).
pub(crate) fn runtime_dir() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = folders.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    let folder = PathBuf::from(OsStr::from_bytes(first));
    folder.is_absolute().then_some(folder)
}

impl Signals {
    /// Takes the signals over.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT, and does something at each SIGHUP meanwhile.
    pub(crate) async fn told_to_stop(&mut self, at_hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => at_hangup(),
            }
        }
    }
}

/// Keeps what is in memory, secrets, tokens and keys, out of core files, and from being read by other processes of this
/// user: scripts for one. What the agent starts is not bound by it.
pub(crate) fn close_memory() {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "a core file of this process could not be forbidden; it would hold secrets");
    }
}

impl OpenFiles {
    /// Raises the soft limit to the hard one: connections, logs and scripts all need some.
    pub(crate) fn raise() -> Self {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return Self { before: None, now: 1024 };
        };
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => Self { before: Some((soft, hard)), now: hard },
            Err(error) => {
                tracing::warn!(%error, soft, hard, "the limit of open files could not be raised");
                Self { before: None, now: soft }
            }
        }
    }

    /// Soft and hard limit as they were, for scripts.
    pub(crate) fn before(self) -> Option<(u64, u64)> {
        self.before
    }

    /// The limits of a server that leaves enough open files for tasks.
    pub(crate) fn bound(self, limits: ServerLimits) -> ServerLimits {
        let a_part = |part: u64| usize::try_from(self.now / part).unwrap_or(usize::MAX);
        ServerLimits {
            connections: limits.connections.min(a_part(CONNECTIONS_PER_FILE)),
            upgraded: limits.upgraded.min(a_part(NODES_PER_FILE)),
            ..limits
        }
    }
}
