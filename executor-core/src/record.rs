//! The records: one folder a task with spec, log and result, owned by the agent. No path in it is ever handed
//! to a script.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use crate::durable;
use crate::folder;
use crate::log_reader::LogReader;
use crate::names::TaskId;
use crate::progress::LogProgress;
use crate::result::ExecutionResult;

/// Name of the log in a record. Where a request names another, the log has both names.
pub const LOG_FILE: &str = "stdout.txt";
/// Name of the result in a record.
pub const RESULT_FILE: &str = "result.json";
/// Name of the result that came of a task after it was given up.
pub(crate) const LATE_FILE: &str = "late.json";
/// Name of what was asked, in a record.
pub const TASK_FILE: &str = "task.json";
/// Name of the reproduction script in a record.
pub const DEBUG_FILE: &str = "debug.sh";

/// Largest result that is read back: output parameters of 1 MiB and the few MiB of arguments that the kernel takes, of
/// which JSON escapes a byte by six at most.
const MAX_RESULT_BYTES: u64 = 64 << 20;
/// More than both banners of a log ever have together.
const BANNER_ROOM: u64 = 64 << 10;
/// Mode of a record's folder.
pub(crate) const FOLDER_MODE: Mode = Mode::S_IRWXU;

/// The folder `tasks` below a state folder.
///
/// A result is flushed before anyone hears of it, and the log before the result: both survive a loss of power. `task.json`
/// and `debug.sh` are there for people and are not flushed by themselves, since each flush costs as much as a start.
#[derive(Debug, Clone)]
pub struct Records {
    tasks: PathBuf,
    dir: Arc<OwnedFd>,
    /// Most bytes of a log that another agent sends.
    most_of_a_copy: u64,
}

impl Records {
    /// Opens the records below `state_dir`, and makes their folder (mode 0700) where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made or opened.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let tasks = state_dir.join("tasks");
        DirBuilder::new().recursive(true).mode(0o700).create(&tasks)?;
        let dir = Arc::new(folder::open_folder(&tasks)?);
        Ok(Self { tasks, dir, most_of_a_copy: u64::MAX })
    }

    /// Takes no more of a script's output from another agent than of one of its own, banners aside.
    pub(crate) fn bounded(self, max_log_bytes: u64) -> Self {
        Self { most_of_a_copy: max_log_bytes.saturating_add(BANNER_ROOM), ..self }
    }

    pub(crate) fn most_of_a_copy(&self) -> u64 {
        self.most_of_a_copy
    }

    /// The folder that holds the folders of all tasks.
    pub fn root(&self) -> &Path {
        &self.tasks
    }

    /// The folder of one task.
    pub fn folder(&self, id: &TaskId) -> PathBuf {
        self.tasks.join(id.as_str())
    }

    /// Where the log of a task stands.
    pub fn log_path(&self, id: &TaskId) -> PathBuf {
        self.folder(id).join(LOG_FILE)
    }

    /// Makes the folder of a task. One that holds nothing but the task's ended attempts is as good as new.
    ///
    /// # Errors
    /// `AlreadyExists` when there is another one: an id is used once.
    pub fn create(&self, id: &TaskId) -> io::Result<PathBuf> {
        self.make(id).map(|_| self.folder(id))
    }

    /// Makes the folder of a task and opens it.
    pub(crate) fn make(&self, id: &TaskId) -> io::Result<OwnedFd> {
        match mkdirat(&self.dir, id.as_str(), FOLDER_MODE) {
            Err(Errno::EEXIST) if self.has_only_attempts(id)? => {}
            made => made?,
        }
        open(&self.dir, id.as_str()).inspect_err(|_| {
            // An empty record would stand there without a result; the error above is the one to report.
            let _ = unlinkat(&self.dir, id.as_str(), UnlinkatFlags::RemoveDir);
        })
    }

    /// Opens the log of a task that has ended; `log` is what its result says about it.
    ///
    /// # Errors
    /// When there is none or it cannot be opened.
    pub fn ended_log(&self, id: &TaskId, log: &crate::result::LogSummary) -> io::Result<LogReader> {
        LogReader::ended(&self.log_path(id), LogProgress::of_summary(log))
    }

    /// Writes a task's result, flushed and whole or not at all. The folder is made where there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_result(&self, id: &TaskId, result: &ExecutionResult) -> io::Result<()> {
        let folder = folder::ensure_folder(&self.dir, id.as_str(), FOLDER_MODE)?;
        self.write_result_in(&folder, result)
    }

    /// The same into a record's folder that is open already, wherever its path leads by now.
    pub(crate) fn write_result_in(&self, folder: &OwnedFd, result: &ExecutionResult) -> io::Result<()> {
        durable::write(folder, RESULT_FILE, &json(result)?)?;
        // The folder's own name must survive as well.
        Ok(fsync(&self.dir)?)
    }

    /// Writes what came of a task after it was given up into its record's folder.
    pub(crate) fn write_late_result(&self, folder: &OwnedFd, result: &ExecutionResult) -> io::Result<()> {
        durable::write(folder, LATE_FILE, &json(result)?)
    }

    /// What came of a task after it was given up; none when nothing did yet, or it cannot be understood.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn late_result(&self, id: &TaskId) -> io::Result<Option<ExecutionResult>> {
        match self.read(id, LATE_FILE, MAX_RESULT_BYTES) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the record of a task if there is nothing in it.
    pub(crate) fn remove_empty(&self, id: &TaskId) -> io::Result<()> {
        match unlinkat(&self.dir, id.as_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The length of a task's log and at most so many of its first bytes; what cannot be read, a link or a pipe that
    /// somebody put there, counts as empty.
    pub(crate) fn beginning_of_log(&self, id: &TaskId, at_most: u64) -> (u64, Vec<u8>) {
        let read = || {
            let file = open_regular(&open(&self.dir, id.as_str())?, LOG_FILE)?;
            let mut bytes = Vec::new();
            (&file).take(at_most).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>((file.metadata()?.len(), bytes))
        };
        read().unwrap_or_default()
    }

    /// The first `most` bytes of a file in a task's record.
    pub(crate) fn read(&self, id: &TaskId, name: &str, most: u64) -> io::Result<Vec<u8>> {
        read_regular(&self.open_record(id)?, name, most)
    }

    /// Opens the folder of a task.
    pub(crate) fn open_record(&self, id: &TaskId) -> io::Result<OwnedFd> {
        open(&self.dir, id.as_str())
    }

    /// Reads a task's result; none when there is none. An empty or damaged file is set aside under a name that
    /// ends in `.damaged`, said in the agent's log, and counts as none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read_result(&self, id: &TaskId) -> io::Result<Option<ExecutionResult>> {
        self.read_result_in(id.as_str(), id)
    }

    /// The same from the folder at `path` beneath that of all tasks.
    pub(crate) fn read_result_in(&self, path: &str, id: &TaskId) -> io::Result<Option<ExecutionResult>> {
        let folder = match open(&self.dir, path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = match read_regular(&folder, RESULT_FILE, MAX_RESULT_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&bytes) {
            Ok(result) => Ok(Some(result)),
            Err(error) => {
                let aside = format!("{RESULT_FILE}.damaged");
                tracing::error!(task_id = %id, folder = path, file = RESULT_FILE, set_aside = %aside, %error,
                    "a damaged result was set aside");
                renameat(&folder, RESULT_FILE, &folder, aside.as_str())?;
                Ok(None)
            }
        }
    }
}

fn json(result: &ExecutionResult) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(result).map_err(io::Error::other)?;
    json.push(b'\n');
    Ok(json)
}

fn open(tasks: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    Ok(folder::open_beneath(tasks, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)
}

/// Reads the beginning of a file that is no link and no device.
pub(crate) fn read_regular(folder: &OwnedFd, name: &str, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(folder, name)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file for reading; a link, a pipe or a device of that name is an error, and is not waited for.
fn open_regular(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let file = File::from(folder::open_beneath(folder, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no regular file"))),
    }
}
