//! `agent-cli run`: one script here and now, by an engine of its own. Its output goes to standard output while it
//! is written; what the agent has to say goes to standard error.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use task_runners::{
    ExecuteScriptRequest, Execution, ExecutionResult, LogReader, Outcome, Problem, ScriptRunner, StartError,
    Task, TaskId, TaskSpec, TaskStatus,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Global, RunArgs};
use crate::context;
use crate::dry_run;
use crate::output::{self, Failure, say};
use crate::terminal::{Style, TerminalFilter};

/// Bytes of the log that are read and printed at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs a script, or shows what would run.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<ExitCode, Failure> {
    let (spec, script_args) = spec(args)?;
    let settings = context::settings(global)?;
    let runner = context::runner(&settings)?;
    let (request, _) = runner.request(&spec, script_args)?;
    if args.dry_run {
        return dry_run::show(&runner, &request, args.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(execute(&runner, spec, request, args.json))
}

/// What the command line asks for, in the words of a task spec; arguments stay apart, since they need not be text.
fn spec(args: &RunArgs) -> Result<(TaskSpec, Vec<OsString>), Failure> {
    let mut words = args.words.iter().cloned();
    let script = words.next().unwrap_or_default();
    let mut fields = serde_json::Map::new();
    fields.insert("name".to_owned(), script.to_string_lossy().into());
    fields.insert("params".to_owned(), pairs("--param", &args.params)?.into());
    fields.insert("env".to_owned(), pairs("--env", &args.env)?.into());
    fields.insert("debug_script".to_owned(), args.debug_script.into());
    let texts = [("timeout", &args.timeout), ("work_dir", &args.work_dir)];
    for (name, value) in texts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        fields.insert(name.to_owned(), value.as_str().into());
    }
    let mut problems = secret_problems(&args.secrets);
    match TaskSpec::from_json(fields.into()) {
        Ok(spec) if problems.is_empty() => Ok((spec, words.collect())),
        parsed => {
            problems.splice(0..0, parsed.err().unwrap_or_default());
            Err(Failure::problems(&problems))
        }
    }
}

fn pairs(option: &str, texts: &[String]) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    texts.iter().map(|text| context::pair(option, text).map(|(name, value)| (name, value.into()))).collect()
}

/// No script declares a secret yet; one on the command line itself would stand in every process list.
fn secret_problems(secrets: &[String]) -> Vec<Problem> {
    let problem = |text: &String| {
        let name = text.split('=').next().unwrap_or_default();
        let field = format!("secrets.{}", name.escape_debug());
        match text.split_once("=@") {
            Some(_) => {
                Problem::new(field, "undeclared", "a secret that the script declares; this one declares none")
            }
            None => Problem::new(
                field,
                "secret_source",
                "NAME=@FILE, or NAME=@- for standard input: a value on the command line is seen by every user",
            ),
        }
    };
    secrets.iter().map(problem).collect()
}

async fn execute(
    runner: &ScriptRunner,
    spec: TaskSpec,
    request: ExecuteScriptRequest,
    json: bool,
) -> Result<ExitCode, Failure> {
    let created_at = Timestamp::now();
    let execution = start(runner, request).await?;
    let started_at = Timestamp::now();
    let mut signals = Signals::new()?;
    let printing = (!json).then(|| print_log(&execution)).transpose()?;
    let result = loop {
        tokio::select! {
            result = execution.wait() => break result,
            () = signals.next() => {
                say("cancelling; once more kills it at once");
                execution.cancel();
            }
        }
    };
    if let Some(printing) = printing {
        // It ends by itself: the log has ended.
        let _ = printing.join();
    }
    let record = runner.executor().records().folder(execution.id()).display().to_string();
    if json {
        let times = (created_at, started_at);
        output::print_json(&task_json(spec, &execution, &result, times, &record));
    } else {
        summarise(&spec, execution.id(), &result, &record);
    }
    Ok(exit_code(&result))
}

/// Starts the script; a shared workspace that is in use is waited for.
async fn start(runner: &ScriptRunner, request: ExecuteScriptRequest) -> Result<Execution, Failure> {
    let mut said = false;
    loop {
        match runner.executor().start(request.clone()).await {
            Err(StartError::WorkspaceBusy(name)) => {
                if !said {
                    say(&format!("waiting for the shared workspace '{name}', in which another task works"));
                    said = true;
                }
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            started => return Ok(started?),
        }
    }
}

/// How often one looks whether a shared workspace is free.
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// The signals that mean: end it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Prints the script's own output while it is written, on a thread of its own: a reader of our output that is slow
/// holds up neither the script nor a signal.
fn print_log(execution: &Execution) -> Result<std::thread::JoinHandle<()>, Failure> {
    let reader = execution.log()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(std::thread::Builder::new().name("log".to_owned()).spawn(move || follow(reader, &runtime))?)
}

fn follow(mut reader: LogReader, runtime: &tokio::runtime::Runtime) {
    let mut filter = output::is_terminal().then(TerminalFilter::default);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = reader.progress().header_bytes;
    loop {
        let progress = runtime.block_on(reader.wait_beyond(offset));
        let end = progress.body_end.unwrap_or(progress.bytes);
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let read = match reader.read_at(offset, &mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                say(&format!("cannot read the log: {error}"));
                break;
            }
        };
        offset += read as u64;
        let written = match &mut filter {
            Some(filter) => output::write(filter.filter(&buffer[..read]).as_bytes()),
            None => output::write(&buffer[..read]),
        };
        if !written {
            // Nobody reads any more; the script goes on, and its log is in the record.
            return;
        }
    }
    if let Some(mut filter) = filter {
        output::write(filter.finish().as_bytes());
    }
}

fn task_json(
    spec: TaskSpec,
    execution: &Execution,
    result: &Arc<ExecutionResult>,
    (created_at, started_at): (Timestamp, Timestamp),
    record: &str,
) -> serde_json::Value {
    let task = Task {
        id: execution.id().clone(),
        name: spec.name.clone(),
        spec: Arc::new(spec),
        status: TaskStatus::of_result(result),
        node: None,
        attempt: 1,
        created_by: whoami(),
        created_at,
        started_at: Some(started_at),
        ended_at: Some(Timestamp::now()),
        log_bytes: result.log.bytes,
        unreachable_since: None,
        result: Some(result.clone()),
    };
    let mut json = serde_json::to_value(task).unwrap_or_default();
    json["record"] = json!(record);
    json
}

fn whoami() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// One line for people, and what the script handed back.
fn summarise(spec: &TaskSpec, id: &TaskId, result: &ExecutionResult, record: &str) {
    let style = Style::of_stderr();
    let end = match &result.outcome {
        Outcome::Exited { code } => format!("exit code {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::OutOfMemory => "out of memory".to_owned(),
        Outcome::NotStarted => "not started".to_owned(),
        Outcome::Interrupted => "interrupted".to_owned(),
    };
    let end = if result.success { style.green(&end) } else { style.red(&end) };
    say(&format!("{}: {end} after {}", spec.name, duration(result.duration_ms)));
    for (name, value) in &result.output_params {
        say(&format!("  {name}={}", value.escape_debug()));
    }
    for note in notes(result) {
        say(&format!("  {note}"));
    }
    say(&style.dim(&format!("  task {id}, record {record}")));
}

/// What a person should know beside the outcome.
fn notes(result: &ExecutionResult) -> Vec<String> {
    let mut notes = Vec::new();
    if result.leftovers_killed > 0 {
        let what = match result.containment {
            Some(task_runners::Containment::Waived) => "left running",
            _ => "ended",
        };
        notes.push(format!("{} processes that it left behind were {what}", result.leftovers_killed));
    }
    if result.log.truncated_bytes > 0 {
        notes
            .push(format!("{} bytes of output were above the limit and dropped", result.log.truncated_bytes));
    }
    notes.extend(result.log.incomplete.iter().map(|why| format!("the log is incomplete: {why}")));
    notes.extend(result.output_error.iter().map(|why| format!("no output parameters: {why}")));
    notes.extend(result.error.iter().map(|error| error.message.clone()));
    notes
}

/// A duration for people.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{:01} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// The exit code of the command line for a result.
pub(crate) fn exit_code(result: &ExecutionResult) -> ExitCode {
    ExitCode::from(u8::try_from(result.command_line_code()).unwrap_or(u8::MAX))
}
