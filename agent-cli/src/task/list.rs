//! `agent-cli task list`: tasks of the service, newest first.

use std::process::ExitCode;

use serde_json::{Value, json};
use task_runners::Task;

use crate::args::{Global, TaskListArgs};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{self, say, table};
use crate::summary::{brief_moment, duration, moment};
use crate::terminal;

/// Most tasks that the service gives at once.
const MAX_PAGE: u32 = 1000;

/// Lists the tasks that the filters let through.
pub(crate) fn list(global: &Global, args: &TaskListArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &args.server)?;
    let (tasks, next) = pages(&client, args)?;
    if args.json {
        output::print_json(&json!({ "tasks": tasks, "next": next }));
        return Ok(ExitCode::SUCCESS);
    }
    let tasks: Vec<Task> = serde_json::from_value(tasks.into()).map_err(|error| no_list(&error))?;
    for line in if output::is_terminal() { short_lines(&tasks, terminal::width()) } else { lines(&tasks) } {
        output::print(&line);
    }
    if tasks.is_empty() {
        say("no such tasks");
    }
    if !next.is_null() {
        say("there are more; ask for more with --limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// As many tasks as were asked for, page after page, and where the rest begins.
fn pages(client: &Client, args: &TaskListArgs) -> Result<(Vec<Value>, Value), Failure> {
    let mut tasks = Vec::new();
    let mut wanted = args.limit;
    let mut next = Value::Null;
    loop {
        let mut page = client.get(&format!("/api/v1/tasks?{}", query(args, wanted.min(MAX_PAGE), &next)))?;
        let found: Vec<Value> =
            serde_json::from_value(page["tasks"].take()).map_err(|error| no_list(&error))?;
        next = page["next"].take();
        wanted = wanted.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        // A page may be empty although there is a next one, where little fits a filter.
        let is_last = next.is_null() || wanted == 0;
        tasks.extend(found);
        if is_last {
            return Ok((tasks, next));
        }
    }
}

fn no_list(error: &serde_json::Error) -> Failure {
    Failure::new(format!("the service's answer is no list of tasks: {error}"))
}

/// The filters, so many tasks at most, and where the page begins.
fn query(args: &TaskListArgs, limit: u32, cursor: &Value) -> String {
    let mut query = format!("limit={limit}");
    if let Some(cursor) = cursor.as_str() {
        query.push_str(&format!("&cursor={}", segment(cursor)));
    }
    let texts = [
        ("status", &args.status),
        ("name", &args.name),
        ("since", &args.since),
        ("node", &args.node),
        ("q", &args.search),
    ];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in texts.chain(args.labels.iter().map(|label| ("label", label))) {
        query.push_str(&format!("&{name}={}", segment(value)));
    }
    query
}

/// The columns for programs that read columns: always the same ones.
fn lines(tasks: &[Task]) -> Vec<String> {
    let row = |task: &Task| {
        let created = moment(task.created_at);
        let [id, status, name] = [task.id.to_string(), task.status.to_string(), task.name.clone()];
        vec![id, status, created, took(task), task.created_by.clone(), name, place(task)]
    };
    table(&tasks.iter().map(row).collect::<Vec<_>>())
}

/// The columns for people, whose terminal may be narrow: what `task show` tells too is left out where it does not fit.
fn short_lines(tasks: &[Task], width: Option<usize>) -> Vec<String> {
    let with = |has_took: bool, has_by: bool| {
        let row = |task: &Task| {
            let mut row = vec![task.id.to_string(), task.status.to_string(), brief_moment(task.created_at)];
            row.extend(has_took.then(|| took(task)));
            row.extend(has_by.then(|| task.created_by.clone()));
            row.extend([task.name.clone(), place(task)]);
            row
        };
        table(&tasks.iter().map(row).collect::<Vec<_>>())
    };
    let fits =
        |lines: &[String]| lines.iter().all(|line| width.is_none_or(|width| line.chars().count() <= width));
    let wide = [with(true, true), with(false, true)].into_iter().find(|lines| fits(lines));
    wide.unwrap_or_else(|| with(false, false))
}

fn took(task: &Task) -> String {
    task.result.as_ref().map(|result| duration(result.duration_ms)).unwrap_or_default()
}

/// The node, and whether it is away; nothing for a task of this agent.
fn place(task: &Task) -> String {
    match (&task.node, task.unreachable_since) {
        (Some(node), Some(_)) => format!("{node}, away"),
        (Some(node), None) => node.clone(),
        (None, _) => String::new(),
    }
}
