//! `agent-cli node`: the nodes of the HTTP service.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::{DrainArgs, Global, NodeArgs, NodeCommand, NodeListArgs};
use crate::client::{Client, segment};
use crate::failure::Failure;
use crate::output::{self, count, say, table};
use crate::terminal::escaped_line;

/// Carries one of the node's commands out.
pub(crate) fn run(global: &Global, command: NodeCommand) -> Result<ExitCode, Failure> {
    match command {
        NodeCommand::List(args) => list(global, &args),
        NodeCommand::Show(args) => show(global, &args),
        NodeCommand::Drain(args) => drain(global, &args),
    }
}

fn list(global: &Global, args: &NodeListArgs) -> Result<ExitCode, Failure> {
    let answer = Client::new(global, &args.server)?.get("/api/v1/nodes")?;
    if args.json {
        output::print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let nodes = answer["nodes"].as_array();
    let nodes = nodes.ok_or_else(|| Failure::new("the service's answer is no list of nodes".to_owned()))?;
    print_table(&nodes.iter().map(row).collect::<Vec<_>>());
    if nodes.is_empty() {
        say("no node has connected");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, args: &NodeArgs) -> Result<ExitCode, Failure> {
    let node = Client::new(global, &args.server)?.get(&path(&args.node, ""))?;
    if args.json {
        output::print_json(&node);
        return Ok(ExitCode::SUCCESS);
    }
    print_table(&facts(&node));
    Ok(ExitCode::SUCCESS)
}

fn drain(global: &Global, DrainArgs { one, undo }: &DrainArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &one.server)?;
    let node = client.post(&path(&one.node, "/drain"), Some(&json!({ "enabled": !undo })))?;
    if one.json {
        output::print_json(&node);
        return Ok(ExitCode::SUCCESS);
    }
    let takes = if *undo { "takes tasks again" } else { "takes no new tasks" };
    let running = count(node["running"].as_u64().unwrap_or_default(), "task");
    say(&format!("{} {takes}; it has {running} now", escaped_line(&one.node)));
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
        row("since", text(&node["since"])),
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
