//! `agent-cli task`: tasks of the HTTP service.

use std::io::Read;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use task_runners::{ExecutionResult, Task};

use crate::args::{Global, Server, SubmitArgs, TaskCommand, TaskListArgs};
use crate::client::{Client, segment};
use crate::context;
use crate::output::{self, Failure, say, table};
use crate::run::{duration, exit_code};
use crate::terminal::TerminalFilter;

/// Bytes of a log that are read and printed at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest time that the service is asked to wait for an end in one request, seconds.
const WAIT_S: u64 = 60;

/// Carries one of the task's commands out.
pub(crate) fn run(global: &Global, command: TaskCommand) -> Result<ExitCode, Failure> {
    match command {
        TaskCommand::Submit(args) => submit(global, &args),
        TaskCommand::List(args) => list(global, &args),
        TaskCommand::Show { server, id, json } => show(global, &server, &id, json),
        TaskCommand::Logs { server, id, follow, banner } => logs(global, &server, &id, follow, banner),
        TaskCommand::Cancel { server, id } => cancel(global, &server, &id),
        TaskCommand::DebugScript { server, id } => debug_script(global, &server, &id),
    }
}

fn submit(global: &Global, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &args.server)?;
    let (_, task) = client.post("/api/v1/tasks", Some(&spec(args)?))?;
    let id = task["id"].as_str().unwrap_or_default().to_owned();
    if args.follow {
        say(&format!("task {id}"));
        print_log(&client, &log_path(&id, true, false))?;
        return ended(&client, &id);
    }
    if args.json {
        output::print_json(&task);
    } else {
        output::print(&id);
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(args: &SubmitArgs) -> Result<Value, Failure> {
    let mut words = args.words.iter();
    let mut spec = Map::new();
    spec.insert("name".to_owned(), json!(words.next()));
    let rest: Vec<&String> = words.collect();
    if !rest.is_empty() {
        spec.insert("args".to_owned(), json!(rest));
    }
    for (field, option, texts) in [
        ("params", "--param", &args.params),
        ("env", "--env", &args.env),
        ("labels", "--label", &args.labels),
    ] {
        let pairs: Map<String, Value> = texts
            .iter()
            .map(|text| context::pair(option, text).map(|(name, value)| (name, Value::from(value))))
            .collect::<Result<_, _>>()?;
        if !pairs.is_empty() {
            spec.insert(field.to_owned(), pairs.into());
        }
    }
    let texts = [
        ("id", &args.id),
        ("timeout", &args.timeout),
        ("work_dir", &args.work_dir),
        ("confirm", &args.confirm),
    ];
    for (field, value) in texts {
        if let Some(value) = value {
            spec.insert(field.to_owned(), json!(value));
        }
    }
    if args.debug_script {
        spec.insert("debug_script".to_owned(), json!(true));
    }
    Ok(spec.into())
}

fn list(global: &Global, args: &TaskListArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &args.server)?;
    let mut query = format!("limit={}", args.limit);
    for (name, value) in [("status", &args.status), ("name", &args.name)] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let page = client.get(&format!("/api/v1/tasks?{query}"))?;
    if args.json {
        output::print_json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    let tasks: Vec<Task> = serde_json::from_value(page["tasks"].clone())
        .map_err(|error| Failure::new(format!("the service's answer is no list of tasks: {error}")))?;
    for line in table(&tasks.iter().map(row).collect::<Vec<_>>()) {
        output::print(&line);
    }
    if !page["next"].is_null() {
        say("there are more; ask for more with --limit");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(task: &Task) -> Vec<String> {
    let took = task.result.as_ref().map(|result| duration(result.duration_ms)).unwrap_or_default();
    vec![
        task.id.to_string(),
        task.status.to_string(),
        task.created_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        took,
        task.created_by.clone(),
        task.name.clone(),
    ]
}

fn show(global: &Global, server: &Server, id: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let client = Client::new(global, server)?;
    let json = client.get(&task_path(id, ""))?;
    if as_json {
        output::print_json(&json);
        return Ok(ExitCode::SUCCESS);
    }
    let task: Task = serde_json::from_value(json)
        .map_err(|error| Failure::new(format!("the service's answer is no task: {error}")))?;
    for line in table(&describe(&task)) {
        output::print(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// A task for people, one fact a line.
fn describe(task: &Task) -> Vec<Vec<String>> {
    let mut rows = vec![
        vec!["id".to_owned(), task.id.to_string()],
        vec!["name".to_owned(), task.name.clone()],
        vec!["status".to_owned(), task.status.to_string()],
        vec!["created".to_owned(), format!("{} by {}", task.created_at, task.created_by)],
    ];
    rows.extend(task.started_at.map(|at| vec!["started".to_owned(), at.to_string()]));
    rows.extend(task.ended_at.map(|at| vec!["ended".to_owned(), at.to_string()]));
    rows.push(vec!["log".to_owned(), format!("{} bytes", task.log_bytes)]);
    let Some(result) = &task.result else { return rows };
    rows.push(vec!["took".to_owned(), duration(result.duration_ms)]);
    rows.extend(result.exit_code.map(|code| vec!["exit code".to_owned(), code.to_string()]));
    rows.extend(result.error.iter().map(|error| vec!["error".to_owned(), error.message.clone()]));
    for (name, value) in &result.output_params {
        rows.push(vec!["output".to_owned(), format!("{name}={}", value.escape_debug())]);
    }
    rows
}

fn logs(global: &Global, server: &Server, id: &str, follow: bool, banner: bool) -> Result<ExitCode, Failure> {
    let client = Client::new(global, server)?;
    print_log(&client, &log_path(id, follow, banner))?;
    if follow { ended(&client, id) } else { Ok(ExitCode::SUCCESS) }
}

/// Prints a log as it comes; on a terminal without what could harm it.
fn print_log(client: &Client, path: &str) -> Result<(), Failure> {
    let mut log = client.stream(path)?;
    let mut filter = output::is_terminal().then(TerminalFilter::default);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = log
            .read(&mut buffer)
            .map_err(|error| Failure::new(format!("the log was cut off: {error}; ask for it again")))?;
        if read == 0 {
            break;
        }
        let written = match &mut filter {
            Some(filter) => output::write(filter.filter(&buffer[..read]).as_bytes()),
            None => output::write(&buffer[..read]),
        };
        if !written {
            return Ok(());
        }
    }
    if let Some(mut filter) = filter {
        output::write(filter.finish().as_bytes());
    }
    Ok(())
}

/// The script's exit code, once the task has ended: its log ends a moment before.
fn ended(client: &Client, id: &str) -> Result<ExitCode, Failure> {
    loop {
        let task = client.get(&format!("{}?wait={WAIT_S}", task_path(id, "")))?;
        if task["result"].is_null() && task["ended_at"].is_null() {
            continue;
        }
        say(&format!(
            "{}: {}",
            task["name"].as_str().unwrap_or_default(),
            task["status"].as_str().unwrap_or_default()
        ));
        let result: ExecutionResult = serde_json::from_value(task["result"].clone())
            .map_err(|error| Failure::new(format!("the service's answer is no result: {error}")))?;
        return Ok(exit_code(&result));
    }
}

fn cancel(global: &Global, server: &Server, id: &str) -> Result<ExitCode, Failure> {
    let client = Client::new(global, server)?;
    let (_, task) = client.post(&task_path(id, "/cancel"), None)?;
    say(&format!("asked to end; it is {}", task["status"].as_str().unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}

fn debug_script(global: &Global, server: &Server, id: &str) -> Result<ExitCode, Failure> {
    let client = Client::new(global, server)?;
    let mut script = Vec::new();
    client
        .stream(&task_path(id, "/debug.sh"))?
        .read_to_end(&mut script)
        .map_err(|error| Failure::new(format!("the answer was cut off: {error}")))?;
    output::write(&script);
    Ok(ExitCode::SUCCESS)
}

fn task_path(id: &str, below: &str) -> String {
    format!("/api/v1/tasks/{}{below}", segment(id))
}

fn log_path(id: &str, follow: bool, banner: bool) -> String {
    task_path(id, &format!("/log?follow={follow}&banner={banner}"))
}
