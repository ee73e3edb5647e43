//! One agent instance on a state folder: its lock, what it runs, and what it left behind when it died.
//!
//! Each instance has a file in `state/instances` that it holds locked (flock(2)) as long as it lives. The file says
//! what is needed to find its processes again. Whoever gets the lock of such a file has a dead instance before
//! them, and cleans up after that one and no other. The folder itself is locked for the moment in which a file is made
//! or its lock is tried, so that a file that is not locked yet is never taken for a dead one's.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::banner;
use crate::names::TaskId;
use crate::output_params::OUTPUT_FILE;
use crate::proc;
use crate::record::Records;
use crate::result::{ExecutionResult, Outcome};
use crate::scope;
use crate::scratch;

/// Bytes of the file's first part, which describes the instance.
const HEADER_BYTES: usize = 4096;
/// Bytes of each part behind it, one for each execution under way.
const SLOT_BYTES: usize = 512;
/// How long the lock of an agent that is gone is waited for, and how long each time.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// Ending of the name of a file that is damaged and was set aside.
const DAMAGED: &str = "damaged";
/// Longest started banner: a few paths and names, each escaped.
const MAX_BANNER_BYTES: u64 = 256 << 10;
/// Largest file that is read back: far more executions at once than threads that can be had.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Describes an instance to whoever recovers after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    boot_id: String,
    pid: i32,
    /// Together with the number it names the process for good.
    start_time: u64,
    scratch: PathBuf,
    cgroup: Option<PathBuf>,
}

/// One execution under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    id: TaskId,
    /// Which attempt of the task it is; agents that knew of no others did not note it.
    #[serde(default = "first_attempt")]
    attempt: u32,
    /// Whether its record is this execution's: before it was made, one of that name may be somebody else's.
    has_record: bool,
    /// The main process, where it cannot be found by its cgroup.
    main: Option<(i32, u64)>,
}

/// A live instance: this one.
#[derive(Debug)]
pub(crate) struct Instance {
    path: PathBuf,
    file: Flock<File>,
    used: Mutex<Vec<bool>>,
}

/// The place of one execution in the instance's file; freed when dropped.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    instance: &'a Instance,
    index: usize,
    id: TaskId,
    attempt: u32,
}

/// What was cleaned up after an agent that had died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Tasks that it was running; each has a result now.
    pub tasks: Vec<TaskId>,
    /// Processes that were still alive and were killed.
    pub killed: u64,
}

impl Header {
    /// Whether what is to be killed and removed carries the instance's own name, so that nothing else is when the
    /// file was garbled.
    fn is_of(&self, name: &str) -> bool {
        let is_named = |path: &Path, expected: String| path.file_name() == Some(OsStr::new(&expected));
        is_named(&self.scratch, scratch::folder_name(name))
            && self.cgroup.as_deref().is_none_or(|path| is_named(path, scope::cgroup_name(name)))
    }
}

impl Instance {
    /// Enters a new instance into the state folder.
    pub(crate) fn create(
        state_dir: &Path,
        name: &str,
        scratch: &Path,
        cgroup: Option<&Path>,
    ) -> io::Result<Self> {
        let folder = folder(state_dir)?;
        let own = proc::own().ok_or_else(|| io::Error::other("this process is not in /proc"))?;
        let header = Header {
            boot_id: proc::boot_id()?,
            pid: own.pid,
            start_time: own.start_time,
            scratch: scratch.to_owned(),
            cgroup: cgroup.map(Path::to_owned),
        };
        let path = folder.join(name);
        let guard = lock_folder(&folder)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| io::Error::from(error))?;
        drop(guard);
        if let Err(error) = padded(&header, HEADER_BYTES).and_then(|bytes| file.write_all_at(&bytes, 0)) {
            // Nothing was started for it yet; the error is the one to report.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { path, file, used: Mutex::new(Vec::new()) })
    }

    /// The locked file: whoever holds a copy of the descriptor keeps a recovery waiting.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Notes that an execution's record is about to be made.
    pub(crate) fn enter(&self, id: &TaskId, attempt: u32) -> io::Result<Slot<'_>> {
        let index = {
            let mut used = self.used();
            let index = used.iter().position(|used| !used).unwrap_or(used.len());
            if index == used.len() {
                used.push(true);
            } else {
                used[index] = true;
            }
            index
        };
        let slot = Slot { instance: self, index, id: id.clone(), attempt };
        slot.write(false, None)?;
        Ok(slot)
    }

    fn used(&self) -> MutexGuard<'_, Vec<bool>> {
        // The list is whole between any two of its calls.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_slot(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, (HEADER_BYTES + index * SLOT_BYTES) as u64)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // An execution that is still noted is for a recovery to end.
        if !self.used().contains(&true)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "could not remove the instance's file");
        }
    }
}

impl Slot<'_> {
    /// Notes that the record is made: it must get a result from now on.
    pub(crate) fn set_record(&self) -> io::Result<()> {
        self.write(true, None)
    }

    /// Notes the main process and its start time.
    pub(crate) fn set_main(&self, pid: i32, start_time: u64) -> io::Result<()> {
        self.write(true, Some((pid, start_time)))
    }

    fn write(&self, has_record: bool, main: Option<(i32, u64)>) -> io::Result<()> {
        let entry = Entry { id: self.id.clone(), attempt: self.attempt, has_record, main };
        self.instance.write_slot(self.index, &padded(&entry, SLOT_BYTES)?)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.instance.write_slot(self.index, &[b' '; SLOT_BYTES]) {
            tracing::warn!(%error, "could not clear an execution from the instance's file");
        }
        self.instance.used()[self.index] = false;
    }
}

/// Cleans up after every dead instance of a state folder: kills what it left running, removes its scratch, and
/// gives each task that it was running a result. `places` are those where scratch is looked for by an instance's name,
/// where its file does not tell.
///
/// # Errors
/// When the folder of instances cannot be read; what goes wrong with one of them is said in the agent's log, and it
/// is tried again the next time.
pub(crate) fn recover(state_dir: &Path, records: &Records, places: &[PathBuf]) -> io::Result<Vec<Recovered>> {
    let mut recovered = Vec::new();
    for entry in fs::read_dir(folder(state_dir)?)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == DAMAGED) {
            continue;
        }
        match recover_one(&path, records, places) {
            Ok(found) => recovered.extend(found),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "could not clean up after an agent that died");
            }
        }
    }
    Ok(recovered)
}

fn recover_one(path: &Path, records: &Records, places: &[PathBuf]) -> io::Result<Option<Recovered>> {
    let (Some(file), Some(name)) = (lock_dead(path)?, path.file_name().and_then(OsStr::to_str)) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    (&*file).take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let (entries, damaged_entries) = entries(&bytes);
    let header = header(&bytes).filter(|header| header.is_of(name));
    let killed = match &header {
        Some(header) => end_processes(header, &entries)?,
        // The name is in the mark of all that it ran, which is not sure to be all.
        None => scope::kill_marked(|variable| is_mark_of(variable, name), &[]),
    };
    if header.is_none() {
        scratch::remove_of(name, places);
    }
    // One record that cannot be written must not keep the others from their results.
    let mut failure = None;
    for entry in &entries {
        if let Err(error) = interrupt(records, entry) {
            tracing::error!(task_id = %entry.id, %error, "could not give the task of an agent that died its result");
            failure = Some(error);
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if header.is_none() || damaged_entries > 0 {
        let aside = path.with_extension(DAMAGED);
        tracing::error!(file = %path.display(), set_aside = %aside.display(), damaged_entries,
            "the file of an agent that died is damaged and was set aside; some of what it ran may not be found");
        fs::rename(path, aside)?;
    } else {
        fs::remove_file(path)?;
    }
    Ok(Some(Recovered { tasks: entries.into_iter().map(|entry| entry.id).collect(), killed }))
}

/// Opens an instance's file and takes its lock; none when its agent lives, or ended well just now.
///
/// A child that the agent was just starting holds a copy of the lock until it executes its program, which it does
/// soon, the agent's own death or not: the lock of an agent that is gone is waited for.
fn lock_dead(path: &Path) -> io::Result<Option<Flock<File>>> {
    let guard = path.parent().map(lock_folder).transpose()?;
    let file = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    drop(guard);
    let deadline = Instant::now() + LOCK_WAIT;
    while let Err((file, Errno::EWOULDBLOCK)) = locked {
        if !is_gone(&file)? || Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    }
    let file = locked.map_err(|(_, error)| io::Error::from(error))?;
    // Its agent, or another recovery, may have removed it before it gave the lock up.
    Ok((file.metadata()?.nlink() > 0).then_some(file))
}

/// Whether the process that made the file is gone, as far as the file tells.
fn is_gone(file: &File) -> io::Result<bool> {
    let mut bytes = vec![0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(header(&bytes[..read]).is_some_and(|header| {
        let now = proc::stat(header.pid).filter(proc::ProcStat::is_live);
        now.is_none_or(|stat| stat.start_time != header.start_time)
    }))
}

fn end_processes(header: &Header, entries: &[Entry]) -> io::Result<u64> {
    // No process outlives a start of the machine.
    let killed = match &header.cgroup {
        _ if header.boot_id != proc::boot_id()? => 0,
        Some(cgroup) => scope::kill_cgroup_tree(cgroup)?,
        None => {
            let mark = format!("{}={}/", crate::executor::MARK_VARIABLE, header.scratch.display());
            let mains: Vec<(i32, u64)> = entries.iter().filter_map(|entry| entry.main).collect();
            scope::kill_marked(|variable| variable.starts_with(mark.as_bytes()), &mains)
        }
    };
    scratch::remove(&header.scratch);
    Ok(killed)
}

/// Gives a task that a dead agent was running its result, if it has none. A record that was only just being made, and
/// has nothing in it, is removed.
fn interrupt(records: &Records, entry: &Entry) -> io::Result<()> {
    let id = &entry.id;
    if !entry.has_record {
        return records.remove_empty(id);
    }
    // One that was set aside has ended: a result in the record would be taken for that of the next attempt.
    if records.read_result(id)?.is_some() || records.attempt_result(id, entry.attempt)?.is_some() {
        return Ok(());
    }
    records.write_result(id, &records.interrupted(id))
}

fn first_attempt() -> u32 {
    1
}

impl Records {
    /// The result of a task whose agent died while it ran, with what its log tells. It is not written by this.
    pub fn interrupted(&self, id: &TaskId) -> ExecutionResult {
        let message = "the agent died while this task ran; what it had started was killed";
        let mut result = ExecutionResult::without_run(Outcome::Interrupted, "agent_died", message);
        let (length, beginning) = self.beginning_of_log(id, MAX_BANNER_BYTES);
        result.log.bytes = length;
        result.log.header_bytes = banner::started_length(&beginning);
        result.log.incomplete = Some("the agent died while the log was written".to_owned());
        result
    }
}

fn folder(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = state_dir.join("instances");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

fn padded(value: &impl Serialize, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    if bytes.len() >= length {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an entry of the instance's file is too long",
        ));
    }
    bytes.resize(length - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

fn header(bytes: &[u8]) -> Option<Header> {
    serde_json::from_slice(bytes.get(..HEADER_BYTES)?).ok()
}

/// The executions that were under way, and how many more there were whose entries are damaged.
fn entries(bytes: &[u8]) -> (Vec<Entry>, usize) {
    let slots = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks(SLOT_BYTES);
    let used = slots.filter(|slot| !slot.iter().all(|byte| *byte == b' '));
    let (read, damaged): (Vec<_>, Vec<_>) =
        used.map(serde_json::from_slice::<Entry>).partition(Result::is_ok);
    (read.into_iter().flatten().collect(), damaged.len())
}

/// Keeps others from making files in the folder, or trying their locks, for a moment.
fn lock_folder(folder: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(folder)?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// Whether a variable is the mark of an execution of the instance of that name.
fn is_mark_of(variable: &[u8], name: &str) -> bool {
    let prefix = format!("{}=", crate::executor::MARK_VARIABLE);
    let folder = scratch::folder_name(name);
    variable
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|path| path.split(|&byte| byte == b'/').any(|part| part == folder.as_bytes()))
}

/// The value by which processes of an execution are told from all others: its `output.env`'s path, which holds
/// the instance's name.
pub(crate) fn mark(scratch: &Path) -> Vec<u8> {
    let path = scratch.join(OUTPUT_FILE);
    [crate::executor::MARK_VARIABLE.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()
}
