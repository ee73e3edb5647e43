//! Ends the zombies of strangers: the first process of a container inherits whatever loses its parent there, and must
//! wait for it (pid_namespaces(7)).
//!
//! How the agent's own children ended is never taken away: a child is entered here before it can be looked at, since a
//! start holds the lock that a look needs.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::proc;

/// How often one looks; no zombie is older than twice this.
const INTERVAL: Duration = Duration::from_millis(250);

/// The children of one executor, which nobody else may wait for.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Held for reading by each start, and for writing by whoever waits for strangers.
    starts: RwLock<()>,
    own: Mutex<BTreeSet<i32>>,
}

/// A child of ours, until it has been waited for.
#[derive(Debug)]
pub(crate) struct OwnChild {
    children: Arc<Children>,
    pid: i32,
}

impl Children {
    /// Begins to wait for strangers, until the last handle is gone.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(crate) fn begin_reaping(self: &Arc<Self>) -> io::Result<()> {
        let children = Arc::downgrade(self);
        std::thread::Builder::new()
            .name("orphans".to_owned())
            .spawn(move || reap_until_gone(&children))
            .map(drop)
    }

    /// Starts a child and enters it.
    pub(crate) fn start<T, E>(
        self: &Arc<Self>,
        start: impl FnOnce() -> Result<T, E>,
        pid: impl FnOnce(&T) -> i32,
    ) -> Result<(T, OwnChild), E> {
        let _start = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        let child = start()?;
        let pid = pid(&child);
        self.own().insert(pid);
        Ok((child, OwnChild { children: self.clone(), pid }))
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        // The set is whole between any two of its calls.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap_strangers(&self, agent: i32) {
        let zombies =
            proc::all().into_iter().flatten().filter(|found| found.parent == agent && !found.is_live());
        for zombie in zombies {
            let _no_start = self.starts.write().unwrap_or_else(PoisonError::into_inner);
            if !self.own().contains(&zombie.pid) {
                // Whoever else waited for it meanwhile was welcome.
                let _ = waitpid(Pid::from_raw(zombie.pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        self.children.own().remove(&self.pid);
    }
}

fn reap_until_gone(children: &Weak<Children>) {
    let Ok(agent) = i32::try_from(std::process::id()) else { return };
    while let Some(children) = children.upgrade() {
        children.reap_strangers(agent);
        drop(children);
        std::thread::sleep(INTERVAL);
    }
}
