//! The start itself: the log and its callbacks, the kill scope, the descriptors, and the process.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::banner::{self, Started};
use crate::callbacks::Callbacks;
use crate::durable;
use crate::environment::c_string;
use crate::error::{ScriptFault, StartError};
use crate::execution::ExecutionDriver;
use crate::executor::Inner;
use crate::instance;
use crate::log_writer::LogWriter;
use crate::names::NameError;
use crate::orphans::OwnChild;
use crate::prepare::{Accepted, Prepared};
use crate::request::ExecuteScriptRequest;
use crate::result::LogSummary;
use crate::scope::{Marker, Scope};
use crate::scratch::Scratch;
use crate::sys::{self, ChildPlan, SpawnError, SpawnStep, Spawned};

/// How often a start is tried again while somebody has the file open for writing, and for how long each time.
const BUSY_RETRIES: u32 = 1000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// A started script.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Spawned,
    _own: OwnChild,
    pub(crate) scope: Scope,
    /// The reading end of its output.
    pub(crate) output: OwnedFd,
    pub(crate) log: LogWriter,
    pub(crate) callbacks: Callbacks,
    pub(crate) started: Instant,
    pub(crate) command: Vec<String>,
}

/// Makes the log and starts the script. What fails is given with what the log has come to.
pub(crate) fn launch(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared<'_>,
    driver: &ExecutionDriver,
) -> Result<Running, (StartError, LogSummary)> {
    let log = open_log(inner, request, &prepared.accepted).map_err(|error| (error, LogSummary::default()))?;
    log.announce(driver);
    match start(inner, request, prepared, driver) {
        Ok(started) => Ok(started.with(log)),
        Err(error) => Err((error, log.summary().clone())),
    }
}

/// A started script, its log aside.
struct WithoutLog {
    child: Spawned,
    own: OwnChild,
    scope: Scope,
    output: OwnedFd,
    callbacks: Callbacks,
    started: Instant,
    command: Vec<String>,
}

impl WithoutLog {
    fn with(self, log: LogWriter) -> Running {
        let Self { child, own, scope, output, callbacks, started, command } = self;
        Running { child, _own: own, scope, output, log, callbacks, started, command }
    }
}

fn start(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared<'_>,
    driver: &ExecutionDriver,
) -> Result<WithoutLog, StartError> {
    let callbacks = Callbacks::start(&request.log_callbacks, &driver.handle())
        .map_err(StartError::host("start the log callbacks"))?;
    let scope = scope(inner, request, &prepared.equipment.scratch)?;
    let (output, writer) = output_pipe()?;
    let stdin = stdin(request, &prepared.equipment.scratch)?;
    let args = arguments(request, &prepared.accepted);
    let argv: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let envp = prepared.equipment.environment.strings();
    let plan = ChildPlan {
        program: argv[0],
        argv: &argv,
        envp: &envp,
        work_dir: prepared.accepted.workspace.dir.as_fd(),
        stdin: stdin.as_fd(),
        output: writer.as_fd(),
        keep: Some(inner.instance.lock()),
        cgroup: scope.cgroup(),
        new_session: request.process_group,
        open_files: inner.settings.open_files,
    };
    let started = Instant::now();
    let started_child = inner.children.start(|| spawn(&plan), |child| child.pid);
    let (child, own) = started_child.map_err(|error| spawn_error(&prepared.accepted, error))?;
    let command = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    Ok(WithoutLog { child, own, scope, output, callbacks, started, command })
}

fn open_log(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    accepted: &Accepted<'_>,
) -> Result<LogWriter, StartError> {
    let header = banner::started(&Started {
        at: Timestamp::now(),
        work_dir: &accepted.workspace.path.to_string_lossy(),
        script: &accepted.script.path.to_string_lossy(),
        metadata: &[
            ("id", &accepted.id),
            ("created_by", &accepted.created_by),
            ("created_at", &accepted.created_at),
            ("attempt", &accepted.attempt),
            ("timeout", &format_args!("{}s", accepted.timeout.as_secs())),
        ],
    });
    LogWriter::create(&accepted.record, inner.settings.max_log_bytes, &header)
        .and_then(|log| accepted.name_log(&request.log_file).map(|()| log))
        .map_err(StartError::host(format_args!("make the log of task {}", accepted.id)))
}

fn scope(inner: &Inner, request: &ExecuteScriptRequest, scratch: &Scratch) -> Result<Scope, StartError> {
    match &inner.cgroups {
        Some(pool) => {
            let lease = pool.lease().map_err(StartError::host("make a cgroup for the script"))?;
            Ok(Scope::Cgroup(lease))
        }
        None => Ok(Scope::Marker(Marker::new(instance::mark(&scratch.path), request.process_group))),
    }
}

/// One pipe for both streams, so that their order is true; its reading end does not block.
fn output_pipe() -> Result<(OwnedFd, OwnedFd), StartError> {
    let made = nix::unistd::pipe2(OFlag::O_CLOEXEC).and_then(|(reader, writer)| {
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
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
    let opened = durable::create(&scratch.dir, ".stdin", &request.stdin, 0o600)
        .and_then(|()| File::open(&path))
        .and_then(|file| std::fs::remove_file(&path).map(|()| file));
    opened.map_err(StartError::host("hand the script its input"))
}

fn arguments(request: &ExecuteScriptRequest, accepted: &Accepted<'_>) -> Vec<CString> {
    let program: &OsStr = accepted.script.path.as_os_str();
    let words = std::iter::once(program).chain(request.args.iter().map(|arg| arg.as_os_str()));
    words.map(|word| c_string(word.as_bytes().to_vec())).collect()
}

fn spawn(plan: &ChildPlan<'_>) -> Result<Spawned, SpawnError> {
    for _ in 0..BUSY_RETRIES {
        match sys::spawn(plan) {
            // Another thread's child may hold a copy of a descriptor that the file was written through, until it
            // executes its own program: gone in a moment.
            Err(error) if error.source.raw_os_error() == Some(libc::ETXTBSY) => {
                std::thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
    sys::spawn(plan)
}

fn spawn_error(accepted: &Accepted<'_>, error: SpawnError) -> StartError {
    let fault = |fault| match accepted.script_name.parse() {
        Ok(name) => StartError::Script { name, fault },
        Err(NameError(problem)) => StartError::Invalid(vec![problem]),
    };
    let operation = match error.step {
        SpawnStep::Clone => "start a process",
        SpawnStep::Cgroup => "enter the script's cgroup",
        SpawnStep::Session => "start a session",
        SpawnStep::OwnDescriptors | SpawnStep::Descriptors => "set up the script's descriptors",
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
        _ => StartError::host(format_args!("{operation} {}", accepted.script.path.display()))(error.source),
    }
}
