//! The records: one folder a task with spec, log and result, owned by the agent. No path in it is ever handed
//! to a script.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::durable;
use crate::log_reader::LogReader;
use crate::names::TaskId;
use crate::progress::LogProgress;
use crate::result::ExecutionResult;

/// Name of the log in a record, unless the request names another.
pub const LOG_FILE: &str = "stdout.txt";
/// Name of the result in a record.
pub const RESULT_FILE: &str = "result.json";
/// Name of what was asked, in a record.
pub const TASK_FILE: &str = "task.json";
/// Name of the reproduction script in a record.
pub const DEBUG_FILE: &str = "debug.sh";

/// Largest result that is read back: 256 output parameters of 64 KiB stay below their own limit of 1 MiB, and
/// JSON escapes a byte by six at most.
const MAX_RESULT_BYTES: u64 = 16 << 20;

/// The folder `tasks` below a state folder.
#[derive(Debug, Clone)]
pub struct Records {
    tasks: PathBuf,
}

impl Records {
    /// Opens the records below `state_dir`, and makes their folder (mode 0700) where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let tasks = state_dir.join("tasks");
        DirBuilder::new().recursive(true).mode(0o700).create(&tasks)?;
        Ok(Self { tasks })
    }

    /// The folder of one task.
    pub fn folder(&self, id: &TaskId) -> PathBuf {
        self.tasks.join(id.as_str())
    }

    /// Where the log of a task stands.
    pub fn log_path(&self, id: &TaskId) -> PathBuf {
        self.folder(id).join(LOG_FILE)
    }

    /// Makes the folder of a task.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one: an id is used once.
    pub fn create(&self, id: &TaskId) -> io::Result<PathBuf> {
        let folder = self.folder(id);
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Makes the folder's own name survive a power loss.
    pub(crate) fn flush(&self) -> io::Result<()> {
        durable::flush_folder(&self.tasks)
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
        let folder = self.folder(id);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut json = serde_json::to_vec_pretty(result).map_err(io::Error::other)?;
        json.push(b'\n');
        durable::write(&folder, RESULT_FILE, &json)?;
        self.flush()
    }

    /// Reads a task's result; none when there is none. An empty or damaged file is set aside under a name that
    /// ends in `.damaged`, said in the agent's log, and counts as none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read_result(&self, id: &TaskId) -> io::Result<Option<ExecutionResult>> {
        let path = self.folder(id).join(RESULT_FILE);
        let bytes = match read_regular(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&bytes) {
            Ok(result) => Ok(Some(result)),
            Err(error) => {
                let aside = path.with_extension("json.damaged");
                tracing::error!(task_id = %id, file = %path.display(), set_aside = %aside.display(), %error,
                    "a damaged result was set aside");
                fs::rename(&path, &aside)?;
                Ok(None)
            }
        }
    }
}

/// Reads a file of a bounded size that is no link and no device.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_RESULT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
