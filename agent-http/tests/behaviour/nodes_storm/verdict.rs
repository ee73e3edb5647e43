//! What must be true when the storm is over, of what callers see and of what lies on both disks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::cluster::{Cluster, Member, record, result};
use super::load::Load;
use crate::support::{Service, eventually, tasks};

/// The ends that callers were told, by id.
pub(super) type Ends = BTreeMap<String, Value>;

/// How many tasks ended how.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    pub(super) cancelled: usize,
    pub(super) interrupted: usize,
}

/// Looks at the tasks that have ended: an end that was told once stays as it was.
pub(super) fn look(server: &Service, ends: &mut Ends) -> Result<(), String> {
    for task in tasks(server, "") {
        let id = text(&task, "id").to_owned();
        match ends.get(&id) {
            Some(before) if before["status"] != task["status"] || before["result"] != task["result"] => {
                return Err(format!("an end changed: {before} and {task}"));
            }
            None if !task["ended_at"].is_null() => drop(ends.insert(id, task)),
            _ => {}
        }
    }
    Ok(())
}

/// Waits until every task has its end.
pub(super) fn all_ended(server: &Service) {
    eventually("the end of all tasks", || {
        let open = tasks(server, "&status=queued").len() + tasks(server, "&status=running").len();
        (open == 0).then_some(())
    });
}

/// What is wrong, if anything is; else how all tasks ended.
pub(super) fn verdict(cluster: &Cluster, load: &Load, ends: &Ends) -> Result<Count, String> {
    let starts = starts_of(load)?;
    let mut count = Count::default();
    for number in 0..load.tasks {
        let id = Load::id(number);
        let task = ends.get(&id).ok_or_else(|| format!("{id} was accepted and has no end"))?;
        let node = &cluster.nodes[load.node(number)];
        same_log(cluster, node, &id)?;
        same_result(cluster, node, &id)?;
        let status = text(task, "status");
        match status {
            "succeeded" | "failed" => whole(cluster, &starts, number, task)?,
            "interrupted" => killed(node, task)?,
            "cancelled" if Load::is_cancelled(number) => {}
            _ => return Err(format!("nothing explains this end: {task}")),
        }
        match status {
            "succeeded" => count.succeeded += 1,
            "failed" => count.failed += 1,
            "cancelled" => count.cancelled += 1,
            _ => count.interrupted += 1,
        }
    }
    Ok(count)
}

/// The tasks whose scripts have noted their start; each may do so once.
pub(super) fn starts_of(load: &Load) -> Result<BTreeSet<String>, String> {
    let mut seen = BTreeSet::new();
    for id in std::fs::read_to_string(&load.starts).unwrap().lines() {
        if !seen.insert(id.to_owned()) {
            return Err(format!("{id} was started twice"));
        }
    }
    Ok(seen)
}

fn same_log(cluster: &Cluster, node: &Member, id: &str) -> Result<(), String> {
    // One that its node never started has none there.
    let there = node.record(id, "stdout.txt").unwrap_or_default();
    let here = record(&cluster.server().site, id, "stdout.txt").unwrap_or_default();
    match here == there {
        true => Ok(()),
        false => {
            Err(format!("the logs of {id} differ: {} bytes here, {} at its node", here.len(), there.len()))
        }
    }
}

fn same_result(cluster: &Cluster, node: &Member, id: &str) -> Result<(), String> {
    let Some(there) = result(node.record(id, "result.json")) else { return Ok(()) };
    match result(record(&cluster.server().site, id, "result.json")) {
        Some(here) if here == there => Ok(()),
        here => Err(format!("the results of {id} differ: {here:?} here, {there} at its node")),
    }
}

/// A script that came to its end was started, has all of its log, and the code that it gave.
fn whole(cluster: &Cluster, starts: &BTreeSet<String>, number: usize, task: &Value) -> Result<(), String> {
    let (id, code) = (Load::id(number), Load::code(number));
    let log = record(&cluster.server().site, &id, "stdout.txt").unwrap_or_default();
    let lines: String = (1..=300).map(|line| format!("line {line} of {id}\n")).collect();
    let is_whole = String::from_utf8_lossy(&log).contains(&format!("{lines}the end of {id}\n"));
    let is_right =
        task["result"]["exit_code"] == code && (text(task, "status") == "succeeded") == (code == 0);
    match starts.contains(&id) && is_whole && is_right {
        true => Ok(()),
        false => Err(format!("it did not run as its end says: {task}")),
    }
}

/// A task is interrupted only where its node was killed while it ran.
fn killed(node: &Member, task: &Value) -> Result<(), String> {
    let own = node.service().get(&format!("/api/v1/tasks/{}", text(task, "id"))).json();
    let at = |name: &str| own[name].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let (started, ended) = (at("started_at").or(at("created_at")), at("ended_at"));
    let is_explained = node
        .deaths
        .iter()
        .any(|death| started.is_some_and(|at| at <= *death) && ended.is_some_and(|at| at >= *death));
    match is_explained {
        true => Ok(()),
        false => Err(format!("nobody killed its node while it ran: {task}; at the node: {own}")),
    }
}

fn text<'a>(task: &'a Value, name: &str) -> &'a str {
    task[name].as_str().unwrap_or_default()
}
