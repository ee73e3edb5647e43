//! The record's first files: `task.json`, which says what was asked and what was started, and `debug.sh` where it is
//! wanted. Later, `debug.sh` is made of `task.json`.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::attempts::ATTEMPTS_FOLDER;
use crate::debug_script::{self, Run};
use crate::durable;
use crate::environment::Environment;
use crate::error::StartError;
use crate::names::TaskId;
use crate::prepare::Accepted;
use crate::raw_text::RawText;
use crate::record::{DEBUG_FILE, Records, TASK_FILE};
use crate::request::{ExecuteScriptRequest, env_for_record};

/// Largest `task.json` that is read back. What the kernel takes as arguments and variables fits, and so does an input of a
/// few MiB.
const MAX_BYTES: u64 = 16 << 20;

/// What the record's `task.json` says.
#[derive(Serialize)]
struct TaskFile<'a> {
    name: &'a str,
    #[serde(flatten)]
    run: &'a Run<'a>,
    env: BTreeMap<&'a str, String>,
    timeout_s: u64,
    attempt: u32,
    created_by: &'a str,
    created_at: Timestamp,
    manifest: Option<&'a str>,
    spec: Option<&'a serde_json::Value>,
}

/// Writes them into the record of an execution that is about to start.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(
    request: &ExecuteScriptRequest,
    accepted: &Accepted<'_>,
    environment: &Environment,
) -> Result<(), StartError> {
    let run = Run {
        id: accepted.id.as_str().into(),
        script: accepted.script.path.as_os_str().into(),
        script_sha256: accepted.script.sha256.as_str().into(),
        args: request.args.iter().map(|arg| arg.as_os_str().into()).collect(),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        work_dir: accepted.workspace.path.as_os_str().into(),
        stdin: RawText((&*request.stdin).into()),
        secrets: request.secrets.iter().map(|secret| secret.variable.as_str().into()).collect(),
    };
    let file = TaskFile {
        name: &accepted.script_name,
        run: &run,
        env: env_for_record(&request.env),
        timeout_s: accepted.timeout.as_secs(),
        attempt: accepted.attempt,
        created_by: &accepted.created_by,
        created_at: accepted.created_at,
        manifest: accepted.script.manifest.as_deref(),
        spec: request.spec.as_ref(),
    };
    let json = serde_json::to_vec_pretty(&file).map_err(io::Error::other);
    let written = json.and_then(|json| durable::create(&accepted.record, TASK_FILE, &json, 0o600));
    written.map_err(StartError::host(format_args!("write the record of task {}", accepted.id)))?;
    if !request.debug_script {
        return Ok(());
    }
    durable::create(&accepted.record, DEBUG_FILE, &debug_script::render(&run), 0o700)
        .map_err(StartError::host(format_args!("write debug.sh of task {}", accepted.id)))
}

impl Records {
    /// The script that reproduces a task by hand, made of its record; for one that ran elsewhere what was kept of that agent's.
    /// None when the task has none, since it did not come to a start. It reads the disk.
    ///
    /// # Errors
    /// When `task.json` cannot be read. `InvalidData` when it is damaged or larger than 16 MiB.
    pub fn debug_script(&self, id: &TaskId) -> io::Result<Option<Vec<u8>>> {
        let newest =
            self.newest_attempt(id).map(|attempt| format!("{ATTEMPTS_FOLDER}/{attempt}/{TASK_FILE}"));
        let mut found = self.read(id, TASK_FILE, MAX_BYTES);
        // Between two attempts there is only what the earlier one left.
        if let (Err(error), Some(newest)) = (&found, &newest)
            && error.kind() == io::ErrorKind::NotFound
        {
            found = self.read(id, newest, MAX_BYTES);
        }
        let json = match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.kept_debug_script(id),
            json => json?,
        };
        let run: Run<'_> = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        Ok(Some(debug_script::render(&run)))
    }

    fn kept_debug_script(&self, id: &TaskId) -> io::Result<Option<Vec<u8>>> {
        match self.read(id, DEBUG_FILE, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            script => script.map(Some),
        }
    }
}

fn damaged(error: &serde_json::Error) -> io::Error {
    let message = format!("{TASK_FILE} is damaged, or larger than {MAX_BYTES} bytes: {error}");
    io::Error::new(io::ErrorKind::InvalidData, message)
}
