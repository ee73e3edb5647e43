//! `agent-cli task show`: one task, one fact a line.

use std::process::ExitCode;

use task_runners::Task;

use crate::args::{Global, TaskArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, table};
use crate::summary::{duration, moment, outcome};
use crate::task::{parsed, path};

/// Shows one task.
pub(crate) fn show(global: &Global, TaskArgs { one, json }: &TaskArgs) -> Result<ExitCode, Failure> {
    let task = Client::new(global, &one.server)?.get(&path(&one.id, ""))?;
    if *json {
        output::print_json(&task);
        return Ok(ExitCode::SUCCESS);
    }
    for line in table(&describe(&parsed(task)?)) {
        output::print(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(task: &Task) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("id", task.id.to_string()),
        row("name", task.name.clone()),
        row("status", task.status.to_string()),
        row("node", task.node.clone().unwrap_or_default()),
        row("created", format!("{} by {}", moment(task.created_at), task.created_by)),
    ];
    // A task of this agent has none.
    rows.retain(|row| !row[1].is_empty());
    rows.extend(task.unreachable_since.map(|at| row("away since", moment(at))));
    rows.extend(task.started_at.map(|at| row("started", moment(at))));
    rows.extend(task.ended_at.map(|at| row("ended", moment(at))));
    rows.push(row("log", format!("{} bytes", task.log_bytes)));
    let Some(result) = &task.result else { return rows };
    rows.push(row("took", duration(result.duration_ms)));
    rows.push(row("outcome", outcome(&result.outcome)));
    rows.extend(result.error.iter().map(|error| row("error", error.message.clone())));
    rows.extend(task.late_result.iter().map(|late| row("came late", outcome(&late.outcome))));
    for (name, value) in &result.output_params {
        rows.push(row("output", format!("{name}={value}")));
    }
    rows
}
