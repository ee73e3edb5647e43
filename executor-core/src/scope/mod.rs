//! How the engine finds and ends every process of an execution.
//!
//! Two ways: a cgroup of the execution's own, which the kernel vouches for, and where there is none a mark in
//! the environment, which a process can shed. Which one is used is probed when the executor is built.

mod cgroup;
mod marker;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

pub(crate) use cgroup::{CgroupPool, cgroup_name, kill_tree as kill_cgroup_tree};
pub(crate) use marker::{Marker, kill_marked};

use crate::proc;
use crate::result::KillScope;
use crate::sys::{self, CgroupEntry};

/// How long one kill by marker may take before the supervising loop looks at other things, deadlines among them.
const KILL_TURN: Duration = Duration::from_millis(100);

/// What the processes of one execution have in common.
#[derive(Debug)]
pub(crate) enum Scope {
    Cgroup(cgroup::Lease),
    Marker(Marker),
}

impl Scope {
    pub(crate) fn kind(&self) -> KillScope {
        match self {
            Self::Cgroup(_) => KillScope::Cgroup,
            Self::Marker(_) => KillScope::Marker,
        }
    }

    /// The cgroup that the main process starts in, and how it gets there.
    pub(crate) fn cgroup(&self) -> Option<(BorrowedFd<'_>, CgroupEntry)> {
        match self {
            Self::Cgroup(lease) => Some(lease.dir()),
            Self::Marker(_) => None,
        }
    }

    /// Tells the scope which process was started in it.
    pub(crate) fn set_main(&mut self, pid: i32) {
        if let Self::Marker(marker) = self {
            marker.set_main(pid);
        }
    }

    /// Whether no process of it is live; a main process that ended and was not reaped yet does not count.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Cgroup(lease) => lease.is_empty(),
            Self::Marker(marker) => marker.others().is_empty(),
        }
    }

    /// How many processes are live in it, the main one aside.
    pub(crate) fn count_others(&self, main: i32) -> u64 {
        let count = match self {
            Self::Cgroup(lease) => lease.processes().iter().filter(|&&pid| pid != main).count(),
            Self::Marker(marker) => marker.others().len(),
        };
        count as u64
    }

    /// Asks every process to end: TERM, and CONT so that a stopped one hears it.
    pub(crate) fn terminate(&self) {
        match self {
            Self::Cgroup(lease) => lease.signal_each(&[libc::SIGTERM, libc::SIGCONT]),
            Self::Marker(marker) => marker.signal_others(&[libc::SIGTERM, libc::SIGCONT]),
        }
    }

    /// Kills every process that is there now. By cgroup that is all of them; by marker it is repeated until nothing is
    /// found or the turn is over.
    pub(crate) fn kill(&self) {
        match self {
            Self::Cgroup(lease) => lease.kill(),
            Self::Marker(marker) => {
                marker.kill_all(KILL_TURN);
            }
        }
    }

    /// Whether no process of it is live after a kill. Processes that one looks for may have started others since the
    /// last look, so by marker what is found is killed again.
    pub(crate) fn is_empty_after_kill(&self) -> bool {
        match self {
            Self::Cgroup(lease) => lease.is_empty(),
            Self::Marker(marker) => marker.kill_all(KILL_TURN),
        }
    }

    /// Says that all was decided: what is still live now may live on. Without, a scope that is dropped kills.
    pub(crate) fn let_go(&mut self) {
        match self {
            Self::Cgroup(lease) => lease.let_go(),
            Self::Marker(marker) => marker.let_go(),
        }
    }

    /// A descriptor that reports with POLLPRI when the scope may have become empty; none where one must look
    /// again and again.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Cgroup(lease) => Some(lease.events()),
            Self::Marker(_) => None,
        }
    }
}

/// Sends signals to one process if it is still the one that was looked at: between looking and opening its
/// descriptor the number may have gone to somebody else, so it is looked at again behind the descriptor.
fn signal_if_still(pid: i32, is_same: impl FnOnce() -> bool, signals: &[i32]) {
    let Ok(pidfd) = sys::pidfd_open(pid) else {
        return;
    };
    if !is_same() {
        return;
    }
    for &signal in signals {
        // It fails only when the process has ended meanwhile, which is what is wanted.
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), signal);
    }
}

/// Whether a process lies in the cgroup at `path` or below, as `/proc/PID/cgroup` tells it.
fn is_in_cgroup(pid: i32, path: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| {
        text.lines()
            .filter_map(|line| line.strip_prefix("0::"))
            .any(|own| own == path || own.strip_prefix(path).is_some_and(|below| below.starts_with('/')))
    })
}

/// Whether the process of that number is still the one with this start time.
fn is_same_process(pid: i32, start_time: u64) -> bool {
    proc::stat(pid).is_some_and(|stat| stat.start_time == start_time)
}

/// Writes a short text to a file of the kernel's.
fn write_kernel_file(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
