//! Ends the zombies of strangers: the first process of a container inherits whatever loses its parent there, and must
//! wait for it (pid_namespaces(7)).
//!
//! How the agent's own children ended is never taken away: a child is entered here before it can be looked at, since a
//! start holds the lock that a look needs.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

use crate::proc;

/// How often one looks; no zombie is older than twice this.
const INTERVAL: Duration = Duration::from_millis(250);
/// Zombies that are waited for while nothing is started, which takes less than a start.
const AT_ONCE: usize = 128;
/// Time after which a look is tried again that met one of the agent's own children, and how often that is done.
const PAUSE: Duration = Duration::from_millis(2);
const MOST_PAUSES: u32 = 50;

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

    /// Waits for all strangers that have ended.
    fn reap_strangers(&self, agent: i32) {
        let mut pauses = 0;
        loop {
            match self.reap_some() {
                Found::Nothing => return,
                Found::Strangers => pauses = 0,
                // Whoever watches it waits for it in a moment.
                Found::OwnInFront if pauses < MOST_PAUSES => {
                    pauses += 1;
                    std::thread::sleep(PAUSE);
                }
                Found::OwnInFront => return self.reap_by_the_table(agent),
            }
        }
    }

    /// Waits for what the kernel names first, a few times: of ten thousand the table of processes takes seconds to read.
    fn reap_some(&self) -> Found {
        let _no_start = self.starts.write().unwrap_or_else(PoisonError::into_inner);
        let own = self.own();
        for _ in 0..AT_ONCE {
            // Looked at first and left as it is (`WNOWAIT`): it may be one of the agent's own.
            let first = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
            match first.map(|status| status.pid()) {
                Ok(None) | Err(Errno::ECHILD) => return Found::Nothing,
                Ok(Some(stranger)) if !own.contains(&stranger.as_raw()) => reap(stranger),
                // Or one that ended in a way that cannot be told.
                Ok(Some(_)) | Err(_) => return Found::OwnInFront,
            }
        }
        Found::Strangers
    }

    /// Does the same by the table of processes, where the kernel goes on naming the same one.
    fn reap_by_the_table(&self, agent: i32) {
        let found = proc::all().into_iter().flatten();
        let mut zombies =
            found.filter(|found| found.parent == agent && !found.is_live()).map(|found| found.pid);
        loop {
            let some: Vec<i32> = zombies.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            let _no_start = self.starts.write().unwrap_or_else(PoisonError::into_inner);
            let own = self.own();
            some.iter().filter(|pid| !own.contains(pid)).for_each(|pid| reap(Pid::from_raw(*pid)));
        }
    }
}

/// What a look at the zombies came to.
enum Found {
    Nothing,
    /// Some, and there may be more.
    Strangers,
    /// One that is not to be waited for here, in front of any others.
    OwnInFront,
}

fn reap(stranger: Pid) {
    // Whoever else waited for it meanwhile was welcome.
    let _ = waitpid(stranger, Some(WaitPidFlag::WNOHANG));
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
