//! Nodes that take no new tasks.

use std::fs;

use serde_json::{Value, json};

use super::{connected, node_site, running, submit, task_when};
use crate::support::{Service, eventually};

fn drain(server: &Service, body: &Value) -> Value {
    let reply = server.post("/api/v1/nodes/node/drain", body);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

#[test]
fn a_drained_node_ends_what_it_has_and_takes_no_more_until_that_is_ended_also_after_a_restart() {
    let server = Service::usual();
    let port = server.at.port();
    let node = node_site(&server, "").start();
    connected(&server);
    let (old, gate) = running(&server, &node);
    let drained = drain(&server, &json!({}));
    assert_eq!((&drained["draining"], &drained["running"]), (&json!(true), &json!(1)));
    let new = submit(&server, &json!({ "name": "where.sh" }));
    task_when(&server, &new, "that it waits", |task| task["status"] == "queued");
    fs::write(gate, "").unwrap();
    assert_eq!(server.ended(&old)["status"], "succeeded");

    let site = server.stop();
    let command = site.command_at(port);
    let server = site.start_by(command);
    assert_eq!(connected(&server)["draining"], true);
    let another = submit(&server, &json!({ "name": "where.sh" }));
    task_when(&server, &another, "that it waits", |task| task["status"] == "queued");
    assert_eq!(node.count(), 1);
    assert_eq!(drain(&server, &json!({ "enabled": false }))["draining"], false);
    for id in [new, another] {
        assert_eq!(server.ended(&id)["status"], "succeeded");
    }
    eventually("that nothing is counted there any more", || {
        (connected(&server)["running"] == 0).then_some(())
    });
}

#[test]
fn only_nodes_that_were_ever_here_are_drained_and_only_by_what_is_understood() {
    let server = Service::usual();
    let _node = node_site(&server, "").start();
    connected(&server);
    let refused = |path: &str, body: Value| {
        let reply = server.post(path, &body);
        (reply.status, reply.code())
    };
    assert_eq!(refused("/api/v1/nodes/other/drain", json!({})), (404, "node_not_found".to_owned()));
    for body in [json!({ "enabled": "no" }), json!({ "on": true }), json!([])] {
        assert_eq!(refused("/api/v1/nodes/node/drain", body).0, 422);
    }
    assert_eq!(connected(&server)["draining"], false);
}

#[test]
fn nodes_and_their_tasks_are_measured() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, gate) = running(&server, &node);
    drain(&server, &json!({}));
    let waits = submit(&server, &json!({ "name": "where.sh" }));
    task_when(&server, &waits, "that it waits", |task| task["status"] == "queued");
    let shows = |series: &[&str]| {
        let text = server.get("/metrics").text();
        series.iter().all(|one| text.lines().any(|line| line == *one)).then_some(())
    };
    let now = [
        "devops_agent_nodes{state=\"connected\"} 1",
        "devops_agent_nodes{state=\"away\"} 0",
        "devops_agent_nodes_draining 1",
        "devops_agent_nodes_tasks{state=\"handed\"} 1",
        "devops_agent_nodes_tasks{state=\"waiting\"} 1",
        "devops_agent_nodes_connections_total 1",
        "devops_agent_nodes_assignments_total 1",
        "devops_agent_nodes_tasks_given_up_total 0",
    ];
    eventually("the measurements", || shows(&now));
    let log = server.get(&format!("/api/v1/tasks/{id}/log")).body.len();
    eventually("the bytes of its log", || shows(&[&format!("devops_agent_nodes_log_bytes_total {log}")]));
    fs::write(gate, "").unwrap();
    server.ended(&id);
    drop(node.stop());
    eventually("the node's leaving", || {
        shows(&["devops_agent_nodes{state=\"away\"} 1", "devops_agent_nodes_tasks{state=\"handed\"} 0"])
    });
}
