//! Cgroups of version 2, one for each execution, from a pool (cgroups(7); `cgroup.kill` since Linux 5.14).
//!
//! Making and removing one each time costs a quarter of a millisecond, so an empty one is used again. Empty is
//! what the kernel says: `populated 0`, and no folder that the script made in it.
//!
//! One that was ever killed is never used again: since Linux 6.14 a process that is cloned into a cgroup is
//! killed at birth when that cgroup's count of kills differs from the count of the cloning process's own cgroup. Where
//! the agent's own cgroup was killed before (a supervisor may do that between two starts), the same rule kills
//! what is cloned into any fresh one; the probe finds that out, and children then enter by themselves.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::stat::fstat;

use crate::folder;
use crate::scope::{is_in_cgroup, signal_if_still, write_kernel_file};
use crate::sys::{self, CgroupEntry, ChildPlan, SpawnStep};

/// Most empty cgroups that are kept for the next executions.
const MAX_FREE: usize = 128;
/// Links of a cgroup's folder that has no folder in it: its name and its own `.`.
const LINKS_WITHOUT_SUBFOLDER: u64 = 2;
/// How long an ended agent's cgroup may take to become empty once it is killed.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// The cgroups of one agent instance, below one of their own.
#[derive(Debug)]
pub(crate) struct CgroupPool {
    /// In the file system.
    parent: PathBuf,
    /// As `/proc/PID/cgroup` shows it.
    kernel_path: String,
    entry: CgroupEntry,
    next: AtomicU64,
    free: Mutex<Vec<Cgroup>>,
    /// Those that could not be removed since something that was let go lives on in them.
    busy: Mutex<VecDeque<PathBuf>>,
}

#[derive(Debug)]
struct Cgroup {
    name: String,
    path: PathBuf,
    dir: OwnedFd,
    events: File,
    killed: AtomicBool,
}

/// One execution's cgroup; goes back to the pool, or away, when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<CgroupPool>,
    cgroup: Option<Cgroup>,
    let_go: bool,
}

/// Why there is no cgroup scope on this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("there is no cgroup file system of version 2")]
    NoMount,
    #[error("cannot {step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

impl CgroupPool {
    /// Makes the instance's own cgroup below the one that this process is in, and tries all that will be needed:
    /// a cgroup in it, a start in that one, and its `cgroup.kill`.
    pub(crate) fn probe(instance: &str) -> Result<Arc<Self>, ProbeError> {
        let own = own_cgroup().ok_or(ProbeError::NoMount)?;
        let name = cgroup_name(instance);
        let parent = own.folder.join(&name);
        fs::create_dir(&parent).map_err(step("make a cgroup"))?;
        let kernel_path = format!("{}/{name}", own.kernel_path.trim_end_matches('/'));
        let next = AtomicU64::new(0);
        let free = Mutex::new(Vec::new());
        let busy = Mutex::default();
        let mut pool = Self { parent, kernel_path, entry: CgroupEntry::Clone, next, free, busy };
        let cgroup = pool.make().map_err(step("make a cgroup in it"))?;
        if try_start_in(&cgroup, CgroupEntry::Clone).is_err() {
            pool.entry = CgroupEntry::Write;
            try_start_in(&cgroup, CgroupEntry::Write).map_err(step("start a process in it"))?;
        }
        cgroup.kill().map_err(step("write its cgroup.kill"))?;
        remove_tree(&cgroup.path);
        Ok(Arc::new(pool))
    }

    /// The instance's own cgroup, for whoever recovers after it.
    pub(crate) fn path(&self) -> &Path {
        &self.parent
    }

    /// A cgroup that no process is in.
    pub(crate) fn lease(self: &Arc<Self>) -> io::Result<Lease> {
        self.remove_one_busy();
        let free = self.free().pop();
        let cgroup = match free {
            Some(cgroup) => cgroup,
            None => self.make()?,
        };
        Ok(Lease { pool: self.clone(), cgroup: Some(cgroup), let_go: false })
    }

    fn make(&self) -> io::Result<Cgroup> {
        let name = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.parent.join(&name);
        fs::create_dir(&path)?;
        let dir = folder::open_folder(&path)?;
        let events = File::open(path.join("cgroup.events"))?;
        Ok(Cgroup { name, path, dir, events, killed: AtomicBool::new(false) })
    }

    /// Looks whether the one that has been busy for the longest time can be removed by now.
    fn remove_one_busy(&self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = busy.pop_front()
            && !remove_tree(&path)
        {
            busy.push_back(path);
        }
    }

    /// Removes a cgroup now or, while something lives on in it, later.
    fn remove(&self, path: PathBuf) {
        if !remove_tree(&path) {
            self.busy.lock().unwrap_or_else(PoisonError::into_inner).push_back(path);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Cgroup>> {
        // Nobody panics while holding it; and the list is whole between any two of its calls.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CgroupPool {
    fn drop(&mut self) {
        if !remove_tree(&self.parent) {
            tracing::warn!(cgroup = %self.parent.display(), "something that was let go lives on in this cgroup");
        }
    }
}

impl Lease {
    fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().expect("a lease holds its cgroup until it is dropped")
    }

    /// Its folder, and how to get a process into it.
    pub(crate) fn dir(&self) -> (BorrowedFd<'_>, CgroupEntry) {
        (self.cgroup().dir.as_fd(), self.pool.entry)
    }

    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        self.cgroup().events.as_fd()
    }

    /// Whether the kernel says that no live process is in it or below.
    pub(crate) fn is_empty(&self) -> bool {
        is_unpopulated(&self.cgroup().events)
    }

    /// The live processes in it and below.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        collect_processes(&self.cgroup().path, &mut found);
        found
    }

    pub(crate) fn signal_each(&self, signals: &[i32]) {
        let own = format!("{}/{}", self.pool.kernel_path, self.cgroup().name);
        for pid in self.processes() {
            signal_if_still(pid, || is_in_cgroup(pid, &own), signals);
        }
    }

    pub(crate) fn let_go(&mut self) {
        self.let_go = true;
    }

    pub(crate) fn kill(&self) {
        if let Err(error) = self.cgroup().kill() {
            tracing::error!(cgroup = %self.cgroup().path.display(), %error, "could not kill a cgroup");
        }
    }
}

impl Cgroup {
    fn kill(&self) -> io::Result<()> {
        self.killed.store(true, Ordering::Relaxed);
        write_kernel_file(&self.path.join("cgroup.kill"), "1")
    }

    fn is_as_new(&self) -> bool {
        let links = fstat(&self.dir).map_or(0, |metadata| metadata.st_nlink);
        !self.killed.load(Ordering::Relaxed)
            && is_unpopulated(&self.events)
            && links == LINKS_WITHOUT_SUBFOLDER
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.let_go && !self.is_empty() {
            self.kill();
        }
        let Some(cgroup) = self.cgroup.take() else {
            return;
        };
        if !cgroup.is_as_new() {
            // Somebody is still in it, made folders in it, or it was killed: it must not be anybody else's.
            self.pool.remove(cgroup.path);
            return;
        }
        let mut free = self.pool.free();
        if free.len() < MAX_FREE {
            free.push(cgroup);
        } else {
            drop(free);
            self.pool.remove(cgroup.path);
        }
    }
}

/// The name of the cgroup of an instance.
pub(crate) fn cgroup_name(instance: &str) -> String {
    format!("devops-agent.{instance}")
}

/// Kills everything below an ended agent's cgroup, waits for the end, and removes it. Gives how many there were.
pub(crate) fn kill_tree(path: &Path) -> io::Result<u64> {
    let mut processes = Vec::new();
    collect_processes(path, &mut processes);
    let events = match File::open(path.join("cgroup.events")) {
        Ok(events) => events,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    write_kernel_file(&path.join("cgroup.kill"), "1")?;
    let deadline = Instant::now() + KILL_WAIT;
    while !is_unpopulated(&events) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "processes survived cgroup.kill"));
        }
        wait_for_event(&events, left)?;
    }
    remove_tree(path);
    Ok(processes.len() as u64)
}

fn wait_for_event(events: &File, at_most: Duration) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_unpopulated(events: &File) -> bool {
    let mut buffer = [0; 128];
    events.read_at(&mut buffer, 0).is_ok_and(|read| buffer[..read].starts_with(b"populated 0"))
}

fn collect_processes(path: &Path, found: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for below in subfolders(path) {
        collect_processes(&below, found);
    }
}

/// Removes a cgroup and those in it, deepest first, and says whether it is gone. One that is still in use stays.
fn remove_tree(path: &Path) -> bool {
    for below in subfolders(path) {
        remove_tree(&below);
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(cgroup = %path.display(), %error, "could not remove a cgroup");
            false
        }
        _ => true,
    }
}

fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// A start that gets as far as executing: `/` can be executed by nobody, so nothing runs.
fn try_start_in(cgroup: &Cgroup, entry: CgroupEntry) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let root = folder::open_folder(Path::new("/"))?;
    let plan = ChildPlan {
        program: c"/",
        argv: &[c"/"],
        envp: &[],
        work_dir: root.as_fd(),
        stdin: null.as_fd(),
        output: null.as_fd(),
        keep: None,
        cgroup: Some((cgroup.dir.as_fd(), entry)),
        new_session: true,
        open_files: None,
    };
    match sys::spawn(&plan) {
        Err(error) if error.step == SpawnStep::Execute => Ok(()),
        Err(error) => Err(error.source),
        Ok(child) => {
            // It was killed before it came that far.
            let _ = sys::reap(child.pidfd.as_fd());
            Err(io::Error::other("a process that starts in it is killed at birth"))
        }
    }
}

/// This process's own cgroup.
struct OwnCgroup {
    /// Below the mount of the cgroup file system of version 2.
    folder: PathBuf,
    /// As `/proc/self/cgroup` shows it.
    kernel_path: String,
}

fn own_cgroup() -> Option<OwnCgroup> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (mount, root) = mounts.lines().find_map(cgroup2_mount)?;
    // Where a part of the hierarchy is mounted, the own path must be within that part.
    let below = if root == "/" { own.as_str() } else { own.strip_prefix(root)? };
    Some(OwnCgroup { folder: Path::new(mount).join(below.trim_start_matches('/')), kernel_path: own })
}

/// Mount point and root of a line of mountinfo (proc_pid_mountinfo(5)) if it is a cgroup file system of version 2.
fn cgroup2_mount(line: &str) -> Option<(&str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    let fields: Vec<&str> = before.split(' ').collect();
    (after.split(' ').next() == Some("cgroup2")).then_some(())?;
    Some((*fields.get(4)?, *fields.get(3)?))
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |source| ProbeError::Step { step, source }
}
