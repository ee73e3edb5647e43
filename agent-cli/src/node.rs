//! `agent-cli node`: the nodes of the HTTP service.

use std::process::ExitCode;

use serde_json::{Value, json};
use task_runners::Problem;

use crate::args::{DrainArgs, Global, NodeArgs, NodeCommand, NodeListArgs, OneNode, RemoveArgs};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{self, count, say, table};
use crate::summary::moment;
use crate::terminal::escaped_line;

/// Where the list of nodes begins: a node comes with the digests of its scripts.
const PAGE: &str = "/api/v1/nodes?limit=200";

/// Carries one of the node's commands out.
pub(crate) fn run(global: &Global, command: NodeCommand) -> Result<ExitCode, Failure> {
    match command {
        NodeCommand::List(args) => list(global, &args),
        NodeCommand::Show(args) => show(global, &args),
        NodeCommand::Drain(args) => drain(global, &args),
        NodeCommand::Remove(args) => remove(global, &args),
    }
}

fn list(global: &Global, args: &NodeListArgs) -> Result<ExitCode, Failure> {
    let (nodes, _) = Client::new(global, &args.server)?.all(PAGE, "nodes")?;
    if args.json {
        output::print_json(&json!({ "nodes": nodes, "next": null }));
        return Ok(ExitCode::SUCCESS);
    }
    print_table(&nodes.iter().map(row).collect::<Vec<_>>());
    if nodes.is_empty() {
        say("no node has connected");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, NodeArgs { one, json }: &NodeArgs) -> Result<ExitCode, Failure> {
    let node = Client::new(global, &one.server)?.get(&path(&one.node, ""))?;
    if *json {
        output::print_json(&node);
        return Ok(ExitCode::SUCCESS);
    }
    print_table(&facts(&node));
    Ok(ExitCode::SUCCESS)
}

fn drain(global: &Global, DrainArgs { node, undo }: &DrainArgs) -> Result<ExitCode, Failure> {
    let NodeArgs { one, json } = node;
    let client = Client::new(global, &one.server)?;
    let node = client.post(&path(&one.node, "/drain"), Some(&json!({ "enabled": !undo })))?;
    if *json {
        output::print_json(&node);
        return Ok(ExitCode::SUCCESS);
    }
    let takes = if *undo { "takes tasks again" } else { "takes no new tasks" };
    let running = count(node["running"].as_u64().unwrap_or_default(), "task");
    say(&format!("{} {takes}; it has {running} now", escaped_line(&one.node)));
    Ok(ExitCode::SUCCESS)
}

fn remove(global: &Global, RemoveArgs { one, yes }: &RemoveArgs) -> Result<ExitCode, Failure> {
    let OneNode { server, node } = one;
    let asked = format!("{} and its key are forgotten; type its name to do so:", escaped_line(node));
    let is_confirmed = *yes || output::can_ask() && output::ask(&asked).as_deref() == Some(node);
    if !is_confirmed {
        let problem = Problem::new("confirm", "confirm", format!("--yes, or {node:?} typed at a terminal"));
        return Err(Failure::new("nothing was forgotten").with_details(vec![problem.to_string()]));
    }
    Client::new(global, server)?.delete(&path(node, ""))?;
    say(&format!("{} is forgotten", escaped_line(node)));
    Ok(ExitCode::SUCCESS)
}

/// Name, state, slots in use, labels.
fn row(node: &Value) -> Vec<String> {
    vec![text(&node["name"]), state(node), slots(node), labels(node)]
}

fn facts(node: &Value) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("name", text(&node["name"])),
        row("state", state(node)),
        row("since", since(node)),
        row("running", slots(node)),
        row("labels", labels(node)),
        row("agent", text(&node["agent"])),
    ];
    rows.retain(|row| !row[1].is_empty());
    let scripts = node["scripts"].as_object();
    rows.extend(scripts.into_iter().flatten().map(|(name, _)| row("script", name.clone())));
    rows
}

fn state(node: &Value) -> String {
    let line = if node["connected"] == true { "connected" } else { "away" };
    if node["draining"] == true { format!("{line}, draining") } else { line.to_owned() }
}

/// Since when it is there, or away.
fn since(node: &Value) -> String {
    let since = text(&node["since"]);
    since.parse().map_or(since, moment)
}

/// Tasks that it was handed, of those that it runs at once.
fn slots(node: &Value) -> String {
    let capacity = node["capacity"].as_u64().map_or_else(|| "?".to_owned(), |capacity| capacity.to_string());
    format!("{} of {capacity}", node["running"].as_u64().unwrap_or_default())
}

fn labels(node: &Value) -> String {
    let labels = node["labels"].as_object().into_iter().flatten();
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}={}", text(value))).collect();
    pairs.join(",")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn print_table(rows: &[Vec<String>]) {
    table(rows).iter().for_each(|line| output::print(line));
}

/// The path of a node, and of what is below it.
fn path(name: &str, below: &str) -> String {
    format!("/api/v1/nodes/{}{below}", segment(name))
}
