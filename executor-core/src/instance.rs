//! One agent instance on a state folder: its lock, what it runs, and what it left behind when it died.
//!
//! Each instance has a file in `state/instances` that it holds locked (flock(2)) as long as it lives. The file says
//! what is needed to find its processes again. Whoever gets the lock of such a file has a dead instance before
//! them, and cleans up after that one and no other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

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
/// Largest file that is read back: far more executions at once than threads that can be had.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Describes an instance to whoever recovers after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    boot_id: String,
    pid: u32,
    scratch: PathBuf,
    cgroup: Option<PathBuf>,
}

/// One execution under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    id: TaskId,
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
}

/// What was cleaned up after an agent that had died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Tasks that it was running; each has a result now.
    pub tasks: Vec<TaskId>,
    /// Processes that were still alive and were killed.
    pub killed: u64,
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
        let header = Header {
            boot_id: proc::boot_id()?,
            pid: std::process::id(),
            scratch: scratch.to_owned(),
            cgroup: cgroup.map(Path::to_owned),
        };
        // Locked before it has its name: nobody can take it for a dead one's in between.
        let temporary = folder.join(format!(".{name}.new"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| io::Error::from(error))?;
        file.write_all_at(&padded(&header, HEADER_BYTES)?, 0)?;
        let path = folder.join(name);
        fs::rename(&temporary, &path)?;
        Ok(Self { path, file, used: Mutex::new(Vec::new()) })
    }

    /// Notes that an execution is about to start.
    pub(crate) fn enter(&self, id: &TaskId) -> io::Result<Slot<'_>> {
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
        let slot = Slot { instance: self, index, id: id.clone() };
        slot.write(None)?;
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
    /// Notes the main process and its start time.
    pub(crate) fn set_main(&self, pid: i32, start_time: u64) -> io::Result<()> {
        self.write(Some((pid, start_time)))
    }

    fn write(&self, main: Option<(i32, u64)>) -> io::Result<()> {
        let entry = Entry { id: self.id.clone(), main };
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
/// gives each task that it was running a result.
///
/// # Errors
/// When the folder of instances cannot be read; what goes wrong with one of them is said in the agent's log, and it
/// is tried again the next time.
pub(crate) fn recover(state_dir: &Path, records: &Records) -> io::Result<Vec<Recovered>> {
    let mut recovered = Vec::new();
    for entry in fs::read_dir(folder(state_dir)?)? {
        let path = entry?.path();
        match recover_one(&path, records) {
            Ok(found) => recovered.extend(found),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "could not clean up after an agent that died");
            }
        }
    }
    Ok(recovered)
}

fn recover_one(path: &Path, records: &Records) -> io::Result<Option<Recovered>> {
    let file = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        // Its agent ended well just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    (&*file).take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let entries = entries(&bytes);
    let killed = match header(&bytes) {
        Some(header) => end_processes(&header, &entries)?,
        None => {
            tracing::error!(file = %path.display(), "an agent's file is damaged; what it ran cannot be looked for");
            0
        }
    };
    for entry in &entries {
        interrupt(records, &entry.id)?;
    }
    fs::remove_file(path)?;
    Ok(Some(Recovered { tasks: entries.into_iter().map(|entry| entry.id).collect(), killed }))
}

fn end_processes(header: &Header, entries: &[Entry]) -> io::Result<u64> {
    // No process outlives a start of the machine.
    if header.boot_id != proc::boot_id()? {
        return Ok(0);
    }
    let killed = match &header.cgroup {
        Some(cgroup) => scope::kill_cgroup_tree(cgroup)?,
        None => {
            let mark = format!("{}={}/", crate::executor::MARK_VARIABLE, header.scratch.display());
            let mains: Vec<(i32, u64)> = entries.iter().filter_map(|entry| entry.main).collect();
            scope::kill_marked(mark.as_bytes(), &mains)
        }
    };
    scratch::remove(&header.scratch);
    Ok(killed)
}

/// Gives a task that a dead agent was running its result, if it has none.
fn interrupt(records: &Records, id: &TaskId) -> io::Result<()> {
    if records.read_result(id)?.is_some() {
        return Ok(());
    }
    let message = "the agent died while this task ran; what it had started was killed";
    let mut result = ExecutionResult::without_run(Outcome::Interrupted, "agent_died", message);
    result.log.bytes = fs::metadata(records.log_path(id)).map_or(0, |metadata| metadata.len());
    result.log.incomplete = Some("the agent died while the log was written".to_owned());
    records.write_result(id, &result)
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

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let slots = bytes.get(HEADER_BYTES..).unwrap_or_default().chunks(SLOT_BYTES);
    slots.filter_map(|slot| serde_json::from_slice(slot).ok()).collect()
}

/// The value by which processes of an execution are told from all others: its `output.env`'s path, which holds
/// the instance's name.
pub(crate) fn mark(scratch: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    let path = scratch.join(OUTPUT_FILE);
    [crate::executor::MARK_VARIABLE.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()
}
