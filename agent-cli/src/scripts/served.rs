//! `list --server` and `show --server`: the scripts of a service, or of its nodes, and how each ended last there.

use std::collections::HashMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};
use task_runners::{SCRIPT_RUNNER, Task};

use super::place::Place;
use super::rows::short_digest;
use super::{remark, rows};
use crate::args::{Global, Last, ListArgs, ShowArgs};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{self, is_terminal, say, table};
use crate::summary::{brief_moment, moment};

/// Pages of recent tasks that are looked through for a list, and tasks on each: the list is bounded, whatever ran.
const MAX_PAGES: usize = 10;
const PAGE: usize = 200;
/// Scripts on a page.
const SCRIPT_PAGE: usize = 1000;

/// The last task of each script, newest first looked up.
type LastTasks = HashMap<String, Task>;

pub(super) fn list(global: &Global, args: &ListArgs) -> Result<ExitCode, Failure> {
    let (client, place) = (client(global, &args.last)?, Place::of(&args.last));
    let (mut scripts, verification) = scripts(&client, &place)?;
    let names: Vec<&str> = scripts.iter().filter_map(|script| script["name"].as_str()).collect();
    let last = last_tasks(&client, &place, &names)?;
    if args.json {
        for script in &mut scripts {
            let task = script["name"].as_str().and_then(|name| last.get(name));
            script["last"] = task.map_or(Value::Null, as_json);
        }
        output::print_json(&json!({ "scripts": scripts, "next": null, "verification": verification }));
        return Ok(ExitCode::SUCCESS);
    }
    let when = if is_terminal() { brief_moment } else { moment };
    let lines: Vec<rows::Line> = scripts
        .iter()
        .map(|script| {
            let task = script["name"].as_str().and_then(|name| last.get(name));
            rows::Line::of(script, None, Some(columns(task, when)))
        })
        .collect();
    rows::print(&lines);
    if scripts.is_empty() {
        say(&format!("{place} no scripts that this token sees"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show(global: &Global, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let (client, place) = (client(global, &args.last)?, Place::of(&args.last));
    let name = segment(&args.script);
    let query = place.of_scripts().replacen('&', "?", 1);
    let mut script = client.get(&format!("/api/v1/scripts/{name}{query}"))?;
    // Those of a pool are looked for among others.
    let limit = if let Place::Pool(_) = place { PAGE } else { 1 };
    let mut page = client.get(&format!("/api/v1/tasks?limit={limit}&name={name}{}", place.of_tasks()))?;
    let last: Option<Task> = tasks(&mut page)?.into_iter().find(|task| place.has(task));
    if args.json {
        script["last"] = last.as_ref().map_or(Value::Null, as_json);
        output::print_json(&script);
        return Ok(ExitCode::SUCCESS);
    }
    table(&facts(&args.script, &script, last.as_ref())).iter().for_each(|line| output::print(line));
    let parameters = parameters(&script["parameters"]);
    if !parameters.is_empty() {
        output::print("\nparameters:");
        table(&parameters).iter().for_each(|line| output::print(&format!("  {line}")));
    }
    Ok(ExitCode::SUCCESS)
}

fn client(global: &Global, last: &Last) -> Result<Client, Failure> {
    Client::new(global, &last.to_server())
}

/// All scripts, and what stands behind them.
fn scripts(client: &Client, place: &Place) -> Result<(Vec<Value>, Value), Failure> {
    let first = format!("/api/v1/scripts?limit={SCRIPT_PAGE}{}", place.of_scripts());
    let (scripts, mut rest) = client.all(&first, "scripts")?;
    Ok((scripts, rest["verification"].take()))
}

/// The last tasks of these scripts among the recent ones.
fn last_tasks(client: &Client, place: &Place, names: &[&str]) -> Result<LastTasks, Failure> {
    let mut last = LastTasks::new();
    let first = format!("/api/v1/tasks?limit={PAGE}{}", place.of_tasks());
    let mut path = first.clone();
    for _ in 0..MAX_PAGES {
        let mut page = client.get(&path)?;
        for task in tasks(&mut page)?.into_iter().filter(|task| place.has(task)) {
            let script = script_of(&task);
            if names.contains(&script.as_str()) {
                last.entry(script).or_insert(task);
            }
        }
        match page["next"].as_str() {
            Some(next) if last.len() < names.len() => {
                path = format!("{first}&cursor={}", segment(next));
            }
            _ => break,
        }
    }
    Ok(last)
}

fn tasks(page: &mut Value) -> Result<Vec<Task>, Failure> {
    serde_json::from_value(page["tasks"].take())
        .map_err(|error| Failure::new(format!("the service's answer is no list of tasks: {error}")))
}

/// The script that a task ran, whichever way it was named.
fn script_of(task: &Task) -> String {
    let named = if task.name == SCRIPT_RUNNER { task.spec.params.get("script") } else { None };
    named.and_then(Value::as_str).unwrap_or(&task.name).to_owned()
}

/// How a script ended last: status, when, by whom.
fn columns(task: Option<&Task>, form: fn(Timestamp) -> String) -> Vec<String> {
    let none = || ["-", "-", "-"].map(str::to_owned).to_vec();
    task.map_or_else(none, |task| {
        let when = task.ended_at.unwrap_or(task.created_at);
        vec![task.status.to_string(), form(when), task.created_by.clone()]
    })
}

fn as_json(task: &Task) -> Value {
    json!({
        "id": task.id, "status": task.status, "created_at": task.created_at, "ended_at": task.ended_at,
        "created_by": task.created_by,
    })
}

/// One fact a line.
fn facts(name: &str, script: &Value, last: Option<&Task>) -> Vec<Vec<String>> {
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let mut rows = vec![row("name", name)];
    for fact in ["sha256", "description", "effect", "group"] {
        rows.extend(script[fact].as_str().map(|value| row(fact, value)));
    }
    rows.push(row("verified", if script["verified"] == true { "yes" } else { "no" }));
    for (what, list) in [("broken", "broken"), ("warning", "warnings")] {
        let remarks = script[list].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.extend(remarks.iter().map(|found| {
            remark(what, found["line"].as_u64(), found["reason"].as_str().unwrap_or_default(), name)
        }));
    }
    let versions = script["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.extend(versions.iter().map(|version| row("version", &of_nodes(version))));
    rows.push(match last {
        Some(task) => row("last", &format!("{}, task {}", columns(Some(task), moment).join("  "), task.id)),
        None => row("last", "-"),
    });
    rows
}

/// A version of a script, and the nodes that have it.
fn of_nodes(version: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = version["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = named.iter().map(text).collect::<Vec<_>>().join(", ");
    let digest = short_digest(&text(&version["sha256"]));
    match version["count"].as_u64().unwrap_or_default().saturating_sub(named.len() as u64) {
        0 => format!("{digest} on {names}"),
        more => format!("{digest} on {names} and {more} more"),
    }
}

/// Name, type and meaning of each parameter, by the schema.
fn parameters(schema: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, about)| {
            let must = if required.iter().any(|wanted| wanted == name) { "required" } else { "" };
            vec![name.clone(), text(&about["type"]), must.to_owned(), text(&about["description"])]
        })
        .collect()
}
