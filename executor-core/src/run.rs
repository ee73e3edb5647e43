//! The way of one execution, step by step: check, look up, prepare, start, watch, collect, record.
//!
//! The seed does all of this in one function, `ExecuteScript`; here each step is a call. Everything from the
//! look-up on happens on the execution's own thread.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::banner::{self, Started};
use crate::callbacks::Callbacks;
use crate::debug_script;
use crate::durable;
use crate::environment::{Environment, c_string};
use crate::error::{ScriptFault, StartError};
use crate::execution::{Execution, ExecutionDriver};
use crate::executor::Inner;
use crate::instance::{self, Slot};
use crate::log_writer::LogWriter;
use crate::names::TaskId;
use crate::output_params::{self, OUTPUT_FILE};
use crate::policy::Leftovers;
use crate::problem::Problem;
use crate::record::{DEBUG_FILE, TASK_FILE};
use crate::request::{CheckedNames, ExecuteScriptRequest, env_for_record};
use crate::result::{
    Confinement, Containment, ErrorReport, ExecutionResult, KillScope, LogSummary, Outcome, Usage,
};
use crate::scope::{Marker, Scope};
use crate::scratch::Scratch;
use crate::script_source::{ResolvedScript, ScriptSource};
use crate::supervise::{Ended, Rules, Supervised, supervise};
use crate::sys::{self, ChildPlan, SpawnError, SpawnStep, Spawned};
use crate::workspace::Workspace;

/// Stack of an execution's thread, bytes; its largest buffers are on the heap.
const THREAD_STACK_BYTES: usize = 512 << 10;
/// How often a start is tried again while somebody has the file open for writing, and for how long each time.
const BUSY_RETRIES: u32 = 1000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

type Answer = oneshot::Sender<Result<Execution, StartError>>;

/// Checks a request and starts it on a thread of its own.
pub(crate) async fn start(inner: Arc<Inner>, request: ExecuteScriptRequest) -> Result<Execution, StartError> {
    let names = checked(&inner, &request)?;
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("execution".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || carry_out(&inner, &request, names, answer))
        .map_err(StartError::host("start a thread for the execution"))?;
    let lost = || io::Error::other("the thread of the execution ended without an answer");
    answered.await.unwrap_or_else(|_| Err(StartError::host("start the script")(lost())))
}

fn checked(inner: &Inner, request: &ExecuteScriptRequest) -> Result<CheckedNames, StartError> {
    let checked = request.checked();
    let mut problems = checked.as_ref().err().cloned().unwrap_or_default();
    if request.timeout.is_some_and(|timeout| timeout > inner.settings.max_timeout) {
        let expected = format!("at most {}s, the agent's max_timeout", inner.settings.max_timeout.as_secs());
        problems.push(Problem::new("timeout", "maximum", expected));
    }
    match checked {
        Ok(names) if problems.is_empty() => Ok(names),
        _ => Err(StartError::Invalid(problems)),
    }
}

/// Checks a request, and that its script is there and can be executed, without making or starting anything.
pub(crate) fn check(inner: &Inner, request: &ExecuteScriptRequest) -> Result<ResolvedScript, StartError> {
    let names = checked(inner, request)?;
    source(inner, request).resolve(&names.script)
}

fn source<'a>(inner: &'a Inner, request: &'a ExecuteScriptRequest) -> &'a dyn ScriptSource {
    request.source.as_ref().unwrap_or(&inner.source).as_ref()
}

/// The execution's thread from beginning to end.
fn carry_out(inner: &Arc<Inner>, request: &ExecuteScriptRequest, names: CheckedNames, answer: Answer) {
    let id = names.id.clone();
    let prepared = match prepare(inner, request, names) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(answer, error),
    };
    let folder = inner.records.folder(&id);
    let (execution, driver) = match Execution::new(id.clone(), folder.join(&request.log_file)) {
        Ok(ends) => ends,
        Err(source) => {
            let error = StartError::host("make the execution's handle")(source);
            return refuse(answer, not_started(inner, &prepared, LogSummary::default(), error));
        }
    };
    let running = match begin(inner, request, &prepared, &driver) {
        Ok(running) => running,
        Err((error, log)) => return refuse(answer, not_started(inner, &prepared, log, error)),
    };
    inner.running().insert(id.clone(), execution.clone());
    // Whoever asked may have gone away; the execution goes on all the same.
    let _ = answer.send(Ok(execution));
    let result = watch(inner, request, &prepared, &driver, running);
    inner.running().remove(&id);
    // Whoever waits for the result may want the same workspace next. Scratch is removed behind it: that may take
    // long, and nobody has to wait for it.
    let Prepared { workspace, scratch, .. } = prepared;
    drop(workspace);
    driver.finish(result);
    drop(scratch);
}

fn refuse(answer: Answer, error: StartError) {
    tracing::info!(code = error.code(), %error, "not started");
    // Whoever asked may have gone away.
    let _ = answer.send(Err(error));
}

/// Everything that an execution needs and holds until its end.
struct Prepared {
    id: TaskId,
    script: ResolvedScript,
    script_name: String,
    workspace: Workspace,
    scratch: Scratch,
    environment: Environment,
    timeout: Duration,
    created_by: String,
    created_at: Timestamp,
}

/// Looks the script up and makes record, workspace, scratch and environment.
fn prepare(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    names: CheckedNames,
) -> Result<Prepared, StartError> {
    let CheckedNames { script: script_name, id, workspace } = names;
    let script = source(inner, request).resolve(&script_name)?;
    let workspace = inner.workspaces.prepare(&id, workspace.as_ref())?;
    inner.records.create(&id).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => StartError::invalid("id", "unique", "an id that no task has had yet"),
        _ => StartError::host(format!("make the record of task {id}"))(error),
    })?;
    let scratch = inner.scratch.prepare(&format!("{id}.{}", request.metadata.attempt));
    let scratch = scratch.map_err(StartError::host(format!("make the scratch folder of task {id}")))?;
    let metadata = &request.metadata;
    let mut prepared = Prepared {
        timeout: request.timeout.unwrap_or(inner.settings.default_timeout.min(inner.settings.max_timeout)),
        created_by: metadata.created_by.clone().unwrap_or_else(|| inner.account.name.clone()),
        created_at: metadata.created_at.unwrap_or_else(Timestamp::now),
        script_name: script_name.to_string(),
        environment: Environment::default(),
        id,
        script,
        workspace,
        scratch,
    };
    prepared.environment = environment(inner, request, &prepared);
    Ok(prepared)
}

/// The standard variables, the site's, the caller's.
fn environment(inner: &Inner, request: &ExecuteScriptRequest, prepared: &Prepared) -> Environment {
    let mut env = Environment::default();
    env.set("PATH", &inner.settings.path);
    env.set("LANG", "C.UTF-8");
    for (name, value) in &inner.settings.env {
        env.set(name, value);
    }
    for (name, value) in &request.env {
        env.set(name, value);
    }
    env.set("HOME", &inner.account.home);
    env.set("USER", &inner.account.name);
    env.set("LOGNAME", &inner.account.name);
    env.set("TMPDIR", &prepared.scratch.path);
    env.set("TASK_ID", prepared.id.as_str());
    env.set("TASK_NAME", &prepared.script_name);
    env.set("TASK_WORK_DIR", &prepared.workspace.path);
    env.set("TASK_SCRIPT_DIR", &prepared.script.folder);
    env.set("TASK_OUTPUT", prepared.scratch.path.join(OUTPUT_FILE));
    env.set("TASK_TIMEOUT_S", prepared.timeout.as_secs().to_string());
    env.set("TASK_CREATED_BY", &prepared.created_by);
    env.set("TASK_ATTEMPT", request.metadata.attempt.to_string());
    env.set("TASK_NODE", &inner.settings.node);
    env
}

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

/// A started script.
struct Running<'a> {
    child: Spawned,
    scope: Scope,
    slot: Slot<'a>,
    output: OwnedFd,
    log: LogWriter,
    callbacks: Callbacks,
    started: Instant,
    command: Vec<String>,
}

type BeginError = (StartError, LogSummary);

/// Writes the beginnings of record and log, and starts the script.
fn begin<'a>(
    inner: &'a Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared,
    driver: &ExecutionDriver,
) -> Result<Running<'a>, BeginError> {
    let without_log = |error| (error, LogSummary::default());
    write_task_file(inner, request, prepared).map_err(without_log)?;
    let log = open_log(inner, request, prepared).map_err(without_log)?;
    log.announce(driver.progress());
    let failed = |error| (error, log.summary().clone());
    let callbacks = Callbacks::start(&request.log_callbacks, &driver.handle())
        .map_err(StartError::host("start the log callbacks"))
        .map_err(failed)?;
    let slot = inner.instance.enter(&prepared.id);
    let slot = slot.map_err(StartError::host("note the execution in the state folder")).map_err(failed)?;
    let mut scope = scope(inner, request, prepared).map_err(failed)?;
    let (output, writer) = output_pipe().map_err(failed)?;
    let stdin = stdin(request, &prepared.scratch).map_err(failed)?;
    let args: Vec<CString> = arguments(request, prepared);
    let command = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let started = Instant::now();
    let child = spawn(inner, prepared, &args, &Descriptors { stdin, writer, scope: &scope, request });
    let child = child.map_err(failed)?;
    scope.set_main(child.pid);
    if let Scope::Marker(marker) = &scope
        && let Err(error) = slot.set_main(child.pid, marker.main_start())
    {
        tracing::warn!(task_id = %prepared.id, %error, "could not note the main process in the state folder");
    }
    tracing::info!(task_id = %prepared.id, script = prepared.script_name, pid = child.pid, "started");
    Ok(Running { child, scope, slot, output, log, callbacks, started, command })
}

fn write_task_file(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared,
) -> Result<(), StartError> {
    let folder = inner.records.folder(&prepared.id);
    let file = TaskFile {
        id: &prepared.id,
        name: &prepared.script_name,
        args: request.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        env: env_for_record(&request.env),
        work_dir: prepared.workspace.path.display().to_string(),
        timeout_s: prepared.timeout.as_secs(),
        attempt: request.metadata.attempt,
        created_by: &prepared.created_by,
        created_at: prepared.created_at,
        script_sha256: &prepared.script.sha256,
        manifest: prepared.script.manifest.as_deref(),
        spec: request.spec.as_ref(),
    };
    let json = serde_json::to_vec_pretty(&file).map_err(io::Error::other);
    let written = json.and_then(|json| durable::create(&folder.join(TASK_FILE), &json, 0o600));
    written.map_err(StartError::host(format!("write the record of task {}", prepared.id)))?;
    if !request.debug_script {
        return Ok(());
    }
    let script = debug_script::render(&debug_script::Run {
        id: prepared.id.as_str(),
        script: &prepared.script.path,
        sha256: &prepared.script.sha256,
        args: &request.args,
        env: prepared.environment.iter().collect(),
        work_dir: &prepared.workspace.path,
        stdin: &request.stdin,
    });
    durable::create(&folder.join(DEBUG_FILE), &script, 0o700)
        .map_err(StartError::host(format!("write debug.sh of task {}", prepared.id)))
}

fn open_log(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared,
) -> Result<LogWriter, StartError> {
    let header = banner::started(&Started {
        at: Timestamp::now(),
        work_dir: &prepared.workspace.path.to_string_lossy(),
        script: &prepared.script.path.to_string_lossy(),
        metadata: &[
            ("id", prepared.id.to_string()),
            ("created_by", prepared.created_by.clone()),
            ("created_at", prepared.created_at.to_string()),
            ("attempt", request.metadata.attempt.to_string()),
            ("timeout", format!("{}s", prepared.timeout.as_secs())),
        ],
    });
    let folder = inner.records.folder(&prepared.id);
    LogWriter::create(&folder, &request.log_file, inner.settings.max_log_bytes, &header)
        .map_err(StartError::host(format!("make the log of task {}", prepared.id)))
}

fn scope(inner: &Inner, request: &ExecuteScriptRequest, prepared: &Prepared) -> Result<Scope, StartError> {
    match &inner.cgroups {
        Some(pool) => {
            let lease = pool.lease().map_err(StartError::host("make a cgroup for the script"))?;
            Ok(Scope::Cgroup(lease))
        }
        None => Ok(Scope::Marker(Marker::new(instance::mark(&prepared.scratch.path), request.process_group))),
    }
}

/// One pipe for both streams, so that their order is true; its reading end does not block.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), StartError> {
    let made = nix::unistd::pipe2(OFlag::O_CLOEXEC).and_then(|(reader, writer)| {
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((reader, writer))
    });
    made.map_err(|error| StartError::host("make a pipe for the output")(error.into()))
}

/// What the script reads: nothing, or a file of its own that has no name any more.
fn stdin(request: &ExecuteScriptRequest, scratch: &Scratch) -> Result<File, StartError> {
    if request.stdin.is_empty() {
        return File::open("/dev/null").map_err(StartError::host("open /dev/null"));
    }
    let path = scratch.path.join(".stdin");
    let opened = durable::create(&path, &request.stdin, 0o600)
        .and_then(|()| File::open(&path))
        .and_then(|file| std::fs::remove_file(&path).map(|()| file));
    opened.map_err(StartError::host("hand the script its input"))
}

fn arguments(request: &ExecuteScriptRequest, prepared: &Prepared) -> Vec<CString> {
    let program = prepared.script.path.clone().into_os_string();
    let words: Vec<&OsString> = [&program].into_iter().chain(&request.args).collect();
    words.into_iter().map(|word| c_string(word.as_bytes())).collect()
}

struct Descriptors<'a> {
    stdin: File,
    writer: OwnedFd,
    scope: &'a Scope,
    request: &'a ExecuteScriptRequest,
}

fn spawn(
    inner: &Inner,
    prepared: &Prepared,
    args: &[CString],
    with: &Descriptors<'_>,
) -> Result<Spawned, StartError> {
    let env = prepared.environment.to_c_strings();
    let argv: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let envp: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    let plan = ChildPlan {
        program: argv[0],
        argv: &argv,
        envp: &envp,
        work_dir: prepared.workspace.dir.as_fd(),
        stdin: with.stdin.as_fd(),
        output: with.writer.as_fd(),
        cgroup: with.scope.cgroup(),
        new_session: with.request.process_group,
        open_files: inner.settings.open_files,
    };
    let mut retries = BUSY_RETRIES;
    loop {
        match sys::spawn(&plan) {
            Ok(child) => return Ok(child),
            // Another thread's child may hold a copy of a descriptor that the file was written through, until it
            // executes its own program: gone in a moment.
            Err(error) if error.source.raw_os_error() == Some(libc::ETXTBSY) && retries > 0 => {
                retries -= 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(spawn_error(prepared, error)),
        }
    }
}

fn spawn_error(prepared: &Prepared, error: SpawnError) -> StartError {
    let fault = |fault| match prepared.script_name.parse() {
        Ok(name) => StartError::Script { name, fault },
        Err(crate::names::NameError(problem)) => StartError::Invalid(vec![problem]),
    };
    let operation = match error.step {
        SpawnStep::Clone => "start a process",
        SpawnStep::Cgroup => "enter the script's cgroup",
        SpawnStep::Session => "start a session",
        SpawnStep::Descriptors => "set up the script's descriptors",
        SpawnStep::Limits => "set the script's limits",
        SpawnStep::WorkDir => "enter the working folder",
        SpawnStep::Execute => "execute the script",
    };
    match (error.step, error.source.raw_os_error()) {
        (SpawnStep::Execute, Some(libc::E2BIG)) => fault(ScriptFault::TooLong),
        (SpawnStep::Execute, Some(libc::ETXTBSY)) => fault(ScriptFault::NotExecutable(
            "somebody has it open for writing; put scripts in place by rename".to_owned(),
        )),
        (SpawnStep::Execute, Some(libc::EACCES | libc::ENOEXEC | libc::ENOENT)) => {
            let source = &error.source;
            fault(ScriptFault::NotExecutable(format!(
                "the kernel does not execute it ({source}); look at its mode, its first line and its interpreter"
            )))
        }
        _ => StartError::host(format!("{operation} {}", prepared.script.path.display()))(error.source),
    }
}

/// Writes the result of an execution that came as far as a record but not to a start.
fn not_started(inner: &Inner, prepared: &Prepared, log: LogSummary, error: StartError) -> StartError {
    let mut result = ExecutionResult::without_run(Outcome::NotStarted, error.code(), error.to_string());
    result.log = log;
    result.script_sha256 = Some(prepared.script.sha256.clone());
    result.manifest = prepared.script.manifest.clone();
    if let Err(error) = inner.records.write_result(&prepared.id, &result) {
        tracing::error!(task_id = %prepared.id, %error, "could not write the result");
    }
    error
}

/// Watches the script to its end, collects what it leaves, and writes the result.
fn watch(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared,
    driver: &ExecutionDriver,
    mut running: Running<'_>,
) -> ExecutionResult {
    let rules = Rules {
        started: running.started,
        timeout: prepared.timeout,
        kill_grace: request.kill_grace.unwrap_or(inner.settings.kill_grace),
        leftovers: inner.settings.leftovers,
        group_signal: request.process_group && request.group_kill,
        cancellation: request.cancellation.clone(),
    };
    let ended = supervise(Supervised {
        child: running.child,
        scope: &running.scope,
        output: running.output,
        log: &mut running.log,
        driver,
        rules,
    });
    let mut result = match ended {
        Ok(ended) => result_of(inner, prepared, &running.scope, &running.command, ended),
        Err(error) => ExecutionResult::without_run(Outcome::Interrupted, "agent_failed", error.to_string()),
    };
    let footer = banner::finished(Timestamp::now(), &result);
    result.log = running.log.finish(&footer, driver.progress());
    running.callbacks.wait(&prepared.id);
    if let Err(error) = inner.records.write_result(&prepared.id, &result) {
        tracing::error!(task_id = %prepared.id, %error, "could not write the result");
        let message = format!("the result could not be written: {error}");
        result.log.incomplete.get_or_insert(message);
    }
    drop(running.slot);
    tracing::info!(task_id = %prepared.id, outcome = ?result.outcome, duration_ms = result.duration_ms, "ended");
    result
}

fn result_of(
    inner: &Inner,
    prepared: &Prepared,
    scope: &Scope,
    command: &[String],
    ended: Ended,
) -> ExecutionResult {
    let (output_params, output_error) = match collect_output(prepared) {
        Ok(params) => (params, None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    let exit_code = match ended.outcome {
        Outcome::Exited { code } => Some(code),
        _ => None,
    };
    let waived = ended.survivors || (ended.leftovers > 0 && inner.settings.leftovers == Leftovers::Report);
    ExecutionResult {
        success: exit_code == Some(0),
        exit_code,
        duration_ms: millis(ended.duration),
        command: command.to_vec(),
        script_sha256: Some(prepared.script.sha256.clone()),
        manifest: prepared.script.manifest.clone(),
        output_params,
        output_error,
        kill_scope: Some(scope.kind()),
        containment: Some(match scope.kind() {
            _ if waived => Containment::Waived,
            KillScope::Cgroup => Containment::Guaranteed,
            KillScope::Marker => Containment::BestEffort,
        }),
        confinement: Confinement::None,
        leftovers_killed: ended.leftovers,
        leaked_output: ended.leaked_output,
        log: LogSummary::default(),
        usage: ended.usage.map_or_else(Usage::default, |used| Usage {
            user_ms: millis(used.user),
            system_ms: millis(used.system),
            max_rss_kib: Some(used.max_rss_kib).filter(|&peak| peak > own_peak_kib()),
        }),
        error: None::<ErrorReport>,
        outcome: ended.outcome,
    }
}

/// `$TASK_OUTPUT` wins; else the file of that name in the working folder.
fn collect_output(prepared: &Prepared) -> Result<BTreeMap<String, String>, output_params::OutputError> {
    if let Some(params) = output_params::collect(&prepared.scratch.dir)? {
        return Ok(params);
    }
    Ok(output_params::collect(&prepared.workspace.dir)?.unwrap_or_default())
}

/// The agent's own peak: what a child shows below it may be the agent's memory before execve (getrusage(2)).
fn own_peak_kib() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(u64::MAX, |usage| u64::try_from(usage.max_rss()).unwrap_or(u64::MAX))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
