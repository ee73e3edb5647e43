//! Where there is no cgroup: the processes of the main process's session, those that carry the execution's mark
//! in their environment, and their children. Best effort: a process that left the session, cleared its
//! environment and lost its parent is not found.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::proc::{self, ProcStat};
use crate::scope::{is_same_process, signal_if_still};

/// Most passes of a recovery.
const MAX_KILL_PASSES: u32 = 20;
/// How long a scope that is dropped without having been let go tries to kill what it finds.
const LAST_KILL: Duration = Duration::from_secs(2);

/// Time after which a recovery looks a second time.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// What tells the processes of one execution from all others.
#[derive(Debug)]
pub(crate) struct Marker {
    /// A whole `NAME=value` that no other execution's environment has.
    mark: Vec<u8>,
    main: i32,
    main_start: u64,
    own_session: bool,
    let_go: bool,
}

impl Marker {
    pub(crate) fn new(mark: Vec<u8>, own_session: bool) -> Self {
        Self { mark, main: 0, main_start: 0, own_session, let_go: false }
    }

    /// Remembers the main process. It stays unreaped until the sweep is done, so its number, and that of its
    /// session, are nobody else's meanwhile.
    pub(crate) fn set_main(&mut self, pid: i32) {
        self.main = pid;
        self.main_start = proc::stat(pid).map_or(0, |stat| stat.start_time);
    }

    pub(crate) fn let_go(&mut self) {
        self.let_go = true;
    }

    pub(crate) fn main_start(&self) -> u64 {
        self.main_start
    }

    /// The live processes of the execution, the main one aside.
    pub(crate) fn others(&self) -> Vec<ProcStat> {
        self.visit_others(|_| {})
    }

    pub(crate) fn signal_others(&self, signals: &[i32]) {
        self.visit_others(|stat| signal(stat, signals));
    }

    /// Kills what is found, the main process too, until nothing is or the time is over; says whether nothing is.
    pub(crate) fn kill_all(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        self.kill_main();
        loop {
            if self.visit_others(|stat| signal(stat, &[libc::SIGKILL])).is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    /// Kills the main process, with its group where that is its own: nobody in a group escapes its signal by forking
    /// (fork(2) starts anew while one is pending). The main process is unreaped, so the number is its own.
    fn kill_main(&self) {
        if self.main == 0 {
            // Nothing was started; the group of number 0 is the agent's own.
        } else if self.own_session {
            // It fails only when nobody is left in it.
            let _ = killpg(Pid::from_raw(self.main), Signal::SIGKILL);
        } else if let Some(main) = proc::stat(self.main).filter(ProcStat::is_live) {
            signal(&main, &[libc::SIGKILL]);
        }
    }

    fn visit_others(&self, visit: impl FnMut(&ProcStat)) -> Vec<ProcStat> {
        let session = self.own_session.then_some(self.main);
        let belongs = |stat: &ProcStat| {
            session.is_some_and(|session| stat.session == session || stat.group == session)
                || stat.start_time >= self.main_start
                    && proc::environment_has(stat.pid, |entry| entry == self.mark)
        };
        visit_members(self.main, belongs, visit)
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        if !self.let_go && self.main != 0 {
            self.kill_all(LAST_KILL);
        }
    }
}

/// Kills what an ended agent left: processes with a variable that is one of its marks, and the sessions of the main
/// processes that it had recorded with their start times. Gives how many there were.
pub(crate) fn kill_marked(is_mark: impl Fn(&[u8]) -> bool, mains: &[(i32, u64)]) -> u64 {
    let sessions: Vec<i32> =
        mains.iter().filter(|&&(pid, start)| is_same_process(pid, start)).map(|&(pid, _)| pid).collect();
    let belongs =
        |stat: &ProcStat| sessions.contains(&stat.session) || proc::environment_has(stat.pid, &is_mark);
    let mut killed = HashSet::new();
    let mut kill = || {
        let found = visit_members(0, belongs, |stat| signal(stat, &[libc::SIGKILL]));
        killed.extend(found.iter().map(|stat| (stat.pid, stat.start_time)));
        !found.is_empty()
    };
    for _ in 0..MAX_KILL_PASSES {
        if !kill() {
            // One that was being started when its agent died has its mark in a moment.
            std::thread::sleep(SECOND_LOOK);
            if !kill() {
                break;
            }
        }
    }
    killed.len() as u64
}

/// Visits the live processes that belong to an execution, and all their descendants; `main` is its main process, which
/// is not visited itself. Each is visited when it is met, not after all were looked at: what forks and ends all the
/// time would be gone by then, and its children not known yet.
fn visit_members(
    main: i32,
    belongs: impl Fn(&ProcStat) -> bool,
    mut visit: impl FnMut(&ProcStat),
) -> Vec<ProcStat> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    match proc::all() {
        Ok(all) => {
            for stat in all.filter(|stat| stat.is_live() && stat.pid != own && stat.pid != main) {
                if belongs(&stat) {
                    visit(&stat);
                    found.push(stat);
                } else {
                    rest.push(stat);
                }
            }
        }
        Err(error) => tracing::error!(%error, "could not list processes"),
    }
    let mut known: HashSet<i32> =
        found.iter().map(|stat| stat.pid).chain([main]).filter(|&pid| pid > 0).collect();
    loop {
        let (children, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|stat| known.contains(&stat.parent));
        if children.is_empty() {
            return found;
        }
        children.iter().for_each(&mut visit);
        known.extend(children.iter().map(|stat| stat.pid));
        found.extend(children);
        rest = others;
    }
}

fn signal(stat: &ProcStat, signals: &[i32]) {
    signal_if_still(stat.pid, || is_same_process(stat.pid, stat.start_time), signals);
}
