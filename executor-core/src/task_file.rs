//! The record's first files: `task.json`, which says what was asked, and `debug.sh` where it is wanted.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::debug_script;
use crate::durable;
use crate::environment::Environment;
use crate::error::StartError;
use crate::names::TaskId;
use crate::prepare::Accepted;
use crate::record::{DEBUG_FILE, TASK_FILE};
use crate::request::{ExecuteScriptRequest, env_for_record};

/// What the record's `task.json` says.
#[derive(Serialize)]
struct TaskFile<'a> {
    id: &'a TaskId,
    name: &'a str,
    args: Vec<String>,
    env: BTreeMap<&'a str, String>,
    work_dir: String,
    timeout_s: u64,
    attempt: u32,
    created_by: &'a str,
    created_at: Timestamp,
    script_sha256: &'a str,
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
    let file = TaskFile {
        id: &accepted.id,
        name: &accepted.script_name,
        args: request.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        env: env_for_record(&request.env),
        work_dir: accepted.workspace.path.display().to_string(),
        timeout_s: accepted.timeout.as_secs(),
        attempt: accepted.attempt,
        created_by: &accepted.created_by,
        created_at: accepted.created_at,
        script_sha256: &accepted.script.sha256,
        manifest: accepted.script.manifest.as_deref(),
        spec: request.spec.as_ref(),
    };
    let json = serde_json::to_vec_pretty(&file).map_err(io::Error::other);
    let written = json.and_then(|json| durable::create(&accepted.record, TASK_FILE, &json, 0o600));
    written.map_err(StartError::host(format_args!("write the record of task {}", accepted.id)))?;
    if !request.debug_script {
        return Ok(());
    }
    let script = debug_script::render(&debug_script::Run {
        id: accepted.id.as_str(),
        script: &accepted.script.path,
        sha256: &accepted.script.sha256,
        args: &request.args,
        env: environment.iter().collect(),
        work_dir: &accepted.workspace.path,
        stdin: &request.stdin,
    });
    durable::create(&accepted.record, DEBUG_FILE, &script, 0o700)
        .map_err(StartError::host(format_args!("write debug.sh of task {}", accepted.id)))
}
