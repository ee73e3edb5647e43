//! `agent-cli task`: tasks of the HTTP service.

mod list;
mod logs;
mod show;
mod submit;

use std::io::Read;
use std::process::ExitCode;

use serde_json::Value;
use task_runners::Task;

use crate::args::{Global, OneTask, TaskArgs, TaskCommand};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::follow::Screen;
use crate::output::{self, say};
use crate::terminal::escaped_line;

/// Carries one of the task's commands out.
pub(crate) fn run(global: &Global, command: TaskCommand) -> Result<ExitCode, Failure> {
    match command {
        TaskCommand::Submit(args) => submit::submit(global, &args),
        TaskCommand::List(args) => list::list(global, &args),
        TaskCommand::Show(args) => show::show(global, &args),
        TaskCommand::Logs(args) => logs::logs(global, &args),
        TaskCommand::Cancel(args) => end(global, &args, "/cancel", "asked to end"),
        TaskCommand::Rerun(args) => submit::rerun(global, &args),
        TaskCommand::Abandon(args) => end(global, &args, "/abandon", "given up"),
        TaskCommand::DebugScript(one) => debug_script(global, &one),
    }
}

/// Has a task end, in one way or the other, and says what became of it.
fn end(
    global: &Global,
    TaskArgs { one, json }: &TaskArgs,
    how: &str,
    said: &str,
) -> Result<ExitCode, Failure> {
    let task = Client::new(global, &one.server)?.post(&path(&one.id, how), None)?;
    if *json {
        output::print_json(&task);
    } else {
        say(&format!("{said}; it is {}", escaped_line(task["status"].as_str().unwrap_or_default())));
    }
    Ok(ExitCode::SUCCESS)
}

fn debug_script(global: &Global, OneTask { server, id }: &OneTask) -> Result<ExitCode, Failure> {
    let client = Client::new(global, server)?;
    let mut script = Vec::new();
    client
        .stream(&path(id, "/debug.sh"), 0)?
        .read_to_end(&mut script)
        .map_err(|error| Failure::new(format!("the answer was cut off: {error}")))?;
    // It is the service's text, and on a terminal as harmless as a log.
    let mut screen = Screen::default();
    screen.write(&script);
    screen.finish();
    Ok(ExitCode::SUCCESS)
}

/// The path of a task, and of what is below it.
fn path(id: &str, below: &str) -> String {
    format!("/api/v1/tasks/{}{below}", segment(id))
}

/// Reads a task off the service's answer.
fn parsed(json: Value) -> Result<Task, Failure> {
    serde_json::from_value(json)
        .map_err(|error| Failure::new(format!("the service's answer is no task: {error}")))
}
