//! Before a start: the script is looked up, and the record, workspace, scratch and environment are made.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::durable;
use crate::environment::Environment;
use crate::error::StartError;
use crate::execution::abandoned;
use crate::executor::Inner;
use crate::instance::Slot;
use crate::names::TaskId;
use crate::output_params::OUTPUT_FILE;
use crate::record::{LOG_FILE, Records};
use crate::request::{CheckedNames, ExecuteScriptRequest};
use crate::result::{ExecutionResult, LogSummary, Outcome};
use crate::scratch::Scratch;
use crate::script_source::{ResolvedScript, ScriptSource};
use crate::secret_files;
use crate::task_file;
use crate::wake::WakeUp;
use crate::workspace::Workspace;

/// How often, and how long each time, one waits for a descriptor to write a result with: other executions that end give
/// theirs back.
const DESCRIPTOR_RETRIES: u32 = 40;
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// An execution that has a record, so that it must get a result whatever happens.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) id: TaskId,
    pub(crate) script_name: String,
    pub(crate) script: ResolvedScript,
    pub(crate) workspace: Workspace,
    /// The record's folder.
    pub(crate) record: OwnedFd,
    pub(crate) timeout: Duration,
    pub(crate) attempt: u32,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    promise: ResultPromise<'a>,
    /// Its place in the instance's file, given up last.
    pub(crate) slot: Slot<'a>,
}

/// What it holds beside its record until its end.
#[derive(Debug)]
pub(crate) struct Equipment {
    pub(crate) scratch: Scratch,
    pub(crate) environment: Environment,
    /// Wakes this thread.
    pub(crate) wake: WakeUp,
}

/// Everything that an execution needs before it starts.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) accepted: Accepted<'a>,
    pub(crate) equipment: Equipment,
}

/// Where a request's script comes from.
pub(crate) fn source<'a>(inner: &'a Inner, request: &'a ExecuteScriptRequest) -> &'a dyn ScriptSource {
    request.source.as_ref().unwrap_or(&inner.source).as_ref()
}

/// Prepares an execution. When that fails after its record was made, the record has a result that says so.
pub(crate) fn prepare<'a>(
    inner: &'a Inner,
    request: &ExecuteScriptRequest,
    names: CheckedNames,
) -> Result<Prepared<'a>, StartError> {
    let accepted = accept(inner, request, names)?;
    match equip(inner, request, &accepted) {
        Ok(equipment) => Ok(Prepared { accepted, equipment }),
        Err(error) => Err(accepted.not_started(inner, LogSummary::default(), error)),
    }
}

/// Looks the script up, takes the workspace, notes the execution for a recovery, and makes the record. What fails here
/// leaves no record.
fn accept<'a>(
    inner: &'a Inner,
    request: &ExecuteScriptRequest,
    names: CheckedNames,
) -> Result<Accepted<'a>, StartError> {
    let CheckedNames { script: script_name, id, workspace } = names;
    let script = source(inner, request).resolve(&script_name)?;
    let workspace = inner.workspaces.prepare(&id, workspace.as_ref())?;
    let noted = StartError::host("note the execution in the state folder");
    let slot = inner.instance.enter(&id, request.metadata.attempt).map_err(noted)?;
    let record = inner.records.make(&id).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => StartError::invalid("id", "unique", "an id that no task has had yet"),
        _ => StartError::host(format_args!("make the record of task {id}"))(error),
    })?;
    let promise = ResultPromise { records: &inner.records, id: id.clone(), is_kept: Cell::new(false) };
    let metadata = &request.metadata;
    Ok(Accepted {
        id,
        script_name: script_name.to_string(),
        script,
        workspace,
        record,
        timeout: timeout(inner, request),
        attempt: metadata.attempt,
        created_by: created_by(inner, request),
        created_at: metadata.created_at.unwrap_or_else(Timestamp::now),
        promise,
        slot,
    })
}

/// Makes the execution's scratch folder, environment and the record's first files.
fn equip(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    accepted: &Accepted<'_>,
) -> Result<Equipment, StartError> {
    let id = &accepted.id;
    let noted = StartError::host("note the record in the state folder");
    accepted.slot.set_record().map_err(noted)?;
    let scratch = inner.scratch.prepare(&scratch_name(id, accepted.attempt));
    let scratch = scratch.map_err(StartError::host(format_args!("make the scratch folder of task {id}")))?;
    accepted.workspace.forget_output().map_err(StartError::host(format_args!(
        "remove the {OUTPUT_FILE} that lay in the working folder {}",
        accepted.workspace.path.display()
    )))?;
    secret_files::write(&scratch, &request.secrets, inner.scratch.is_in_memory())?;
    let facts = Facts {
        id: id.as_str(),
        script_name: &accepted.script_name,
        work_dir: &accepted.workspace.path,
        script_folder: &accepted.script.folder,
        scratch: &scratch.path,
        timeout: accepted.timeout,
        created_by: &accepted.created_by,
    };
    let environment = environment(inner, request, &facts);
    task_file::write(request, accepted, &environment)?;
    let wake = WakeUp::of_thread().map_err(StartError::host("make a wake-up for the thread"))?;
    Ok(Equipment { scratch, environment, wake })
}

/// What the standard variables tell of one execution.
pub(crate) struct Facts<'a> {
    pub(crate) id: &'a str,
    pub(crate) script_name: &'a str,
    pub(crate) work_dir: &'a Path,
    pub(crate) script_folder: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) timeout: Duration,
    pub(crate) created_by: &'a str,
}

/// The standard variables, the site's, the caller's, those of declared parameters.
pub(crate) fn environment(inner: &Inner, request: &ExecuteScriptRequest, facts: &Facts<'_>) -> Environment {
    let mut env = Environment::default();
    env.set("PATH", &inner.settings.path);
    env.set("LANG", "C.UTF-8");
    for (name, value) in inner.settings.env.iter().chain(&request.env).chain(&request.declared) {
        env.set(name, value);
    }
    for secret in &request.secrets {
        env.set(&secret.variable, secret_files::path(facts.scratch, &secret.variable));
    }
    env.set("HOME", &inner.account.home);
    env.set("USER", &inner.account.name);
    env.set("LOGNAME", &inner.account.name);
    env.set("TMPDIR", facts.scratch);
    env.set("TASK_ID", facts.id);
    env.set("TASK_NAME", facts.script_name);
    env.set("TASK_WORK_DIR", facts.work_dir);
    env.set("TASK_SCRIPT_DIR", facts.script_folder);
    env.set("TASK_OUTPUT", facts.scratch.join(OUTPUT_FILE));
    env.set("TASK_TIMEOUT_S", facts.timeout.as_secs().max(1).to_string());
    env.set("TASK_CREATED_BY", facts.created_by);
    env.set("TASK_ATTEMPT", request.metadata.attempt.to_string());
    env.set("TASK_NODE", &inner.settings.node);
    env
}

/// The name of an execution's scratch folder.
pub(crate) fn scratch_name(id: &TaskId, attempt: u32) -> String {
    format!("{id}.{attempt}")
}

/// The time limit that holds for a request.
pub(crate) fn timeout(inner: &Inner, request: &ExecuteScriptRequest) -> Duration {
    let default = inner.settings.default_timeout.min(inner.settings.max_timeout);
    request.timeout.or(request.time_limit).unwrap_or(default)
}

/// Who asked, where nobody else is named the agent's own user.
pub(crate) fn created_by(inner: &Inner, request: &ExecuteScriptRequest) -> String {
    request.metadata.created_by.clone().unwrap_or_else(|| inner.account.name.clone())
}

impl Accepted<'_> {
    /// Gives an execution that did not come to a start its result, and the error back.
    pub(crate) fn not_started(self, inner: &Inner, log: LogSummary, error: StartError) -> StartError {
        let mut result = ExecutionResult::without_run(Outcome::NotStarted, error.code(), error.to_string());
        result.log = log;
        let Self { id, script, record, workspace, promise, slot, .. } = self;
        // Where there are no more descriptors to be had, this one serves to write the result.
        drop(workspace);
        promise.keep();
        Recorded { id: &id, script: &script, folder: &record }.record(inner, &mut result, || {});
        drop(slot);
        error
    }

    /// Writes the result into the record; when that fails the result itself says so. It takes descriptors: where there
    /// are none to be had, `spare` is called once, which gives back what the execution held itself.
    pub(crate) fn record_result(&self, inner: &Inner, result: &mut ExecutionResult, spare: impl FnOnce()) {
        self.promise.keep();
        Recorded { id: &self.id, script: &self.script, folder: &self.record }.record(inner, result, spare);
    }

    /// Gives the log the name that the request wants as well.
    pub(crate) fn name_log(&self, name: &str) -> io::Result<()> {
        if name == LOG_FILE {
            return Ok(());
        }
        durable::link(&self.record, LOG_FILE, name)
    }
}

/// That a record which was made gets a result: dropped without, by a defect on the execution's thread, it writes one that
/// says so.
#[derive(Debug)]
struct ResultPromise<'a> {
    records: &'a Records,
    id: TaskId,
    is_kept: Cell<bool>,
}

impl ResultPromise<'_> {
    fn keep(&self) {
        self.is_kept.set(true);
    }
}

impl Drop for ResultPromise<'_> {
    fn drop(&mut self) {
        if !self.is_kept.get()
            && let Err(error) = self.records.write_result(&self.id, &abandoned())
        {
            tracing::error!(task_id = %self.id, %error, "could not write the result of an execution that nobody watches");
        }
    }
}

/// What is needed of an execution to write its result.
struct Recorded<'a> {
    id: &'a TaskId,
    script: &'a ResolvedScript,
    folder: &'a OwnedFd,
}

impl Recorded<'_> {
    fn record(&self, inner: &Inner, result: &mut ExecutionResult, spare: impl FnOnce()) {
        result.script_sha256 = Some(self.script.sha256.clone());
        result.manifest.clone_from(&self.script.manifest);
        let mut written = inner.records.write_result_in(self.folder, result);
        if written.as_ref().is_err_and(is_out_of_descriptors) {
            spare();
            written = inner.records.write_result_in(self.folder, result);
        }
        for _ in 0..DESCRIPTOR_RETRIES {
            if !written.as_ref().is_err_and(is_out_of_descriptors) {
                break;
            }
            std::thread::sleep(DESCRIPTOR_PAUSE);
            written = inner.records.write_result_in(self.folder, result);
        }
        if let Err(error) = written {
            tracing::error!(task_id = %self.id, %error, "could not write the result");
            let lost = format!("the result could not be written: {error}");
            result.log.incomplete = Some(match result.log.incomplete.take() {
                Some(earlier) => format!("{earlier}; {lost}"),
                None => lost,
            });
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
