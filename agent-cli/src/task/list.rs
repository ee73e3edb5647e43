//! `agent-cli task list`: tasks of the service, newest first.

use std::process::ExitCode;

use task_runners::Task;

use crate::args::{Global, TaskListArgs};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{self, say, table};
use crate::summary::duration;

/// Lists the tasks that the filters let through.
pub(crate) fn list(global: &Global, args: &TaskListArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &args.server)?;
    let page = client.get(&format!("/api/v1/tasks?{}", query(args)))?;
    if args.json {
        output::print_json(&page);
        return Ok(ExitCode::SUCCESS);
    }
    let tasks: Vec<Task> = serde_json::from_value(page["tasks"].clone())
        .map_err(|error| Failure::new(format!("the service's answer is no list of tasks: {error}")))?;
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    for line in table(&rows) {
        output::print(&line);
    }
    if tasks.is_empty() {
        say("no such tasks");
    }
    if !page["next"].is_null() {
        say("there are more; ask for more with --limit");
    }
    Ok(ExitCode::SUCCESS)
}

fn query(args: &TaskListArgs) -> String {
    let mut query = format!("limit={}", args.limit);
    let texts = [("status", &args.status), ("name", &args.name), ("since", &args.since)];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in texts.chain(args.labels.iter().map(|label| ("label", label))) {
        query.push_str(&format!("&{name}={}", segment(value)));
    }
    query
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
