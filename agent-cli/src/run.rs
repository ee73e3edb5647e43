//! `agent-cli run`: one script here and now, by an engine of its own. Its output goes to standard output while it
//! is written; what the agent has to say goes to standard error.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use task_runners::{
    ExecuteScriptRequest, Execution, ExecutionResult, Metadata, ScriptRunner, StartError, Task, TaskSpec,
    TaskStatus,
};

use crate::args::{Global, RunArgs};
use crate::asked::Asked;
use crate::context;
use crate::describe;
use crate::dry_run;
use crate::failure::{CANCELLED, Failure};
use crate::follow::Printing;
use crate::output::{self, say};
use crate::prompt;
use crate::signals::Signals;
use crate::summary;
use crate::terminal::escaped_line;

/// How often one looks whether a shared workspace is free: it may be held by any process on this state folder.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Runs a script, or shows what would run.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut asked = Asked::of(args);
    let settings = context::settings(global)?;
    let runner = context::runner(&settings)?;
    if asked.wants_help()
        && let Some(help) = help(&runner, asked.script())
    {
        help.iter().for_each(|line| output::print(line));
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json {
        prompt::fill(&mut asked, &runner)?;
    }
    let request = asked.confirmed_request(&runner)?;
    if args.dry_run {
        return dry_run::show(&runner, &request, args.json);
    }
    let spec = spec_with_args(asked);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let code = execute(&runner, spec, request, args.json).await;
        // What ends before the engine has tidied up leaves that to the next run.
        runner.executor().clone().close().await;
        code
    })
}

/// The help of a script that describes itself, and has no flag of that name.
fn help(runner: &ScriptRunner, script: &str) -> Option<Vec<String>> {
    let entry = runner.scripts().get(&script.parse().ok()?).ok()??;
    let declared = entry.declared?;
    let spelled = declared.parameters.iter().filter_map(|parameter| parameter.form.flag());
    let is_its_own =
        declared.takes_unknown_flags || spelled.flat_map(|flag| &flag.0).any(|spelling| spelling == "--help");
    if is_its_own {
        return None;
    }
    let description = declared.description.iter().flat_map(|text| [escaped_line(text), String::new()]);
    Some(description.chain(describe::lines(script, &declared)).collect())
}

/// The spec as records keep it: with the arguments, as far as they are text.
fn spec_with_args(asked: Asked) -> TaskSpec {
    let args = asked.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    TaskSpec { args, ..asked.spec }
}

async fn execute(
    runner: &ScriptRunner,
    spec: TaskSpec,
    request: ExecuteScriptRequest,
    json: bool,
) -> Result<ExitCode, Failure> {
    // Before the start: a signal in between would end this process and leave the script behind.
    let mut signals = Signals::new()?;
    let created_at = Timestamp::now();
    let metadata = Metadata { created_at: Some(created_at), ..Metadata::default() };
    let request = request.metadata(metadata).spec(serde_json::to_value(&spec).unwrap_or_default());
    let Some(execution) = start(runner, request, &mut signals).await? else {
        say("cancelled before it started");
        return Ok(ExitCode::from(CANCELLED));
    };
    let started_at = Timestamp::now();
    let printing = if json { None } else { print(&execution) };
    let result = wait(&execution, &mut signals).await;
    if let Some(printing) = printing {
        finish_printing(printing, &mut signals).await;
    }
    let record = runner.executor().records().folder(execution.id()).display().to_string();
    if json {
        let task = task(spec, &execution, &result, (created_at, started_at));
        output::print_json(&with_record(&task, &record));
    } else {
        summary::say_end(&spec.name, execution.id().as_str(), &result, &record);
    }
    Ok(exit_code(&result))
}

/// Starts the script; a shared workspace that is in use is waited for. None when somebody cancelled meanwhile.
async fn start(
    runner: &ScriptRunner,
    request: ExecuteScriptRequest,
    signals: &mut Signals,
) -> Result<Option<Execution>, Failure> {
    let mut said = false;
    loop {
        match runner.executor().start(request.clone()).await {
            Err(StartError::WorkspaceBusy(name)) => {
                if !said {
                    say(&format!("waiting for the shared workspace '{name}', in which another task works"));
                    said = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(BUSY_PAUSE) => {}
                    () = signals.next() => return Ok(None),
                }
            }
            started => return Ok(Some(started?)),
        }
    }
}

/// Waits for the end. The first signal asks for it politely, the next one ends it at once.
async fn wait(execution: &Execution, signals: &mut Signals) -> Arc<ExecutionResult> {
    let mut asked = false;
    loop {
        tokio::select! {
            result = execution.wait() => return result,
            () = signals.next() => {
                // First, since saying so may block on a terminal that is held.
                execution.cancel();
                say(if asked { "killing it" } else { "cancelling; once more kills it at once" });
                asked = true;
            }
        }
    }
}

/// A log that cannot be shown is no reason to leave a script that runs alone.
fn print(execution: &Execution) -> Option<Printing> {
    match Printing::start(execution) {
        Ok(printing) => Some(printing),
        Err(error) => {
            say(&format!("cannot show the output, which is in the record all the same: {error}"));
            None
        }
    }
}

/// Waits until everything is printed; a reader that does not read is given up at a signal.
async fn finish_printing(printing: Printing, signals: &mut Signals) {
    tokio::select! {
        () = printing.ended() => {}
        () = signals.next() => say("the script has ended; the rest of its output is in the record"),
    }
}

fn task(
    spec: TaskSpec,
    execution: &Execution,
    result: &Arc<ExecutionResult>,
    (created_at, started_at): (Timestamp, Timestamp),
) -> Task {
    Task {
        id: execution.id().clone(),
        name: spec.name.clone(),
        spec: Arc::new(spec),
        status: TaskStatus::of_result(result),
        node: None,
        attempt: 1,
        attempts: Vec::new(),
        created_by: whoami(),
        created_at,
        started_at: Some(started_at),
        ended_at: Some(Timestamp::now()),
        log_bytes: result.log.bytes,
        unreachable_since: None,
        late_result: None,
        result: Some(result.clone()),
    }
}

/// The task as JSON, and where its record is, which only this host's own command line can say.
fn with_record(task: &Task, record: &str) -> serde_json::Value {
    let mut json = serde_json::to_value(task).unwrap_or_default();
    json["record"] = record.into();
    json
}

fn whoami() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The exit code of the command line for a result.
pub(crate) fn exit_code(result: &ExecutionResult) -> ExitCode {
    ExitCode::from(u8::try_from(result.command_line_code()).unwrap_or(u8::MAX))
}
