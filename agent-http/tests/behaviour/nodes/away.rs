//! Nodes that are away.

use std::fs;

use serde_json::json;

use super::{connected, gone, named_site, node_site, running, submit, task, task_when};
use crate::support::{Line, Service};

#[test]
fn a_task_for_a_node_that_is_away_waits_and_can_be_cancelled() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let site = gone(&server, node);
    let spec = json!({ "name": "where.sh", "target": { "node": "node" } });
    let answer = server.post("/api/v1/tasks", &spec).json();
    assert_eq!((&answer["status"], &answer["started_at"]), (&json!("queued"), &json!(null)));
    let waits = answer["id"].as_str().unwrap();
    let unwanted = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.post(&format!("/api/v1/tasks/{unwanted}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(&unwanted)["status"], "cancelled");
    let node = site.start();
    assert_eq!(server.ended(waits)["status"], "succeeded");
    assert_eq!(node.count(), 1);
}

#[test]
fn since_when_a_node_is_away_is_told_with_its_tasks_until_it_is_back_also_over_a_restart() {
    let server = Service::usual();
    let port = server.at.port();
    let line = Line::to(server.at);
    let node = named_site(line.at, "node", "").start();
    connected(&server);
    let (id, gate) = running(&server, &node);
    assert!(task(&server, &id)["unreachable_since"].is_null());
    line.cut();
    let away = task_when(&server, &id, "that its node is away", |task| !task["unreachable_since"].is_null());
    assert_eq!(away["status"], "running");
    let listed = server.get("/api/v1/tasks?node=node").json();
    assert_eq!(listed["tasks"][0]["unreachable_since"], away["unreachable_since"]);

    let site = server.killed();
    let command = site.command_at(port);
    let server = site.start_by(command);
    assert_eq!(task(&server, &id)["unreachable_since"], away["unreachable_since"]);
    line.mend();
    task_when(&server, &id, "that its node is back", |task| task["unreachable_since"].is_null());
    fs::write(gate, "").unwrap();
    let task = server.ended(&id);
    assert_eq!((&task["status"], &task["unreachable_since"]), (&json!("succeeded"), &json!(null)), "{task}");
}

#[test]
fn a_task_is_out_of_reach_from_the_start_of_an_api_server_that_finds_its_node_gone() {
    let server = Service::usual();
    let port = server.at.port();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, _gate) = running(&server, &node);
    let site = server.killed();
    let node = node.killed();
    let command = site.command_at(port);
    let server = site.start_by(command);
    task_when(&server, &id, "that its node is away", |task| !task["unreachable_since"].is_null());
    let _node = node.start();
    let task = server.ended(&id);
    assert_eq!(
        (&task["status"], &task["unreachable_since"]),
        (&json!("interrupted"), &json!(null)),
        "{task}"
    );
}
