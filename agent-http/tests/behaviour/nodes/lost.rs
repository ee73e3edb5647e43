//! Tasks that were given up, by a person or by their spec, and what comes of them after all.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{connected, log, named_site, submit, task, task_when};
use crate::support::{Line, Reply, Service, eventually};

/// An API server, a node at the end of a line, and a task that waits there for its gate.
struct Scene {
    server: Service,
    line: Line,
    node: Service,
    id: String,
    gate: PathBuf,
}

fn scene(more: &Value) -> Scene {
    let server = Service::usual();
    let line = Line::to(server.at);
    let node = named_site(line.at, "node", "").start();
    connected(&server);
    let gate = node.site.path("gate");
    let mut spec = json!({ "name": "gate.sh", "args": [gate] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let id = submit(&server, &spec);
    eventually("the first line of the log", || {
        String::from_utf8_lossy(&log(&server, &id)).contains("waiting\n").then_some(())
    });
    Scene { server, line, node, id, gate }
}

fn abandon(server: &Service, id: &str) -> Reply {
    server.call("all", "POST", &format!("/api/v1/tasks/{id}/abandon"), None)
}

#[test]
fn a_node_that_is_away_for_longer_than_the_spec_allows_loses_its_task_and_what_comes_of_it_is_kept() {
    let Scene { server, line, node, id, gate } = scene(&json!({ "unreachable_after": "1s" }));
    line.cut();
    let lost = server.ended(&id);
    assert_eq!((&lost["status"], &lost["result"]["error"]["code"]), (&json!("lost"), &json!("unreachable")));
    assert_eq!(lost["result"]["outcome"]["kind"], "interrupted");
    assert!(!lost["unreachable_since"].is_null() && lost["late_result"].is_null(), "{lost}");
    fs::write(gate, "").unwrap();
    let there = node.ended(&id);
    assert_eq!(there["status"], "succeeded");
    line.mend();
    let late = task_when(&server, &id, "the late result", |task| !task["late_result"].is_null());
    assert_eq!((&late["status"], &late["result"]), (&json!("lost"), &lost["result"]));
    assert_eq!(late["late_result"], there["result"]);
    assert_eq!(log(&server, &id), log(&node, &id));
    let plain = server.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text();
    assert_eq!(plain, "waiting\npassed\n");
}

#[test]
fn a_person_gives_a_task_up_and_its_node_ends_it_when_it_is_back_whoever_was_restarted_meanwhile() {
    let Scene { server, line, node, id, gate: _ } = scene(&json!({}));
    let port = server.at.port();
    line.cut();
    task_when(&server, &id, "that its node is away", |task| !task["unreachable_since"].is_null());
    let reply = abandon(&server, &id);
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("lost")), "{}", reply.text());
    let error = reply.json()["result"]["error"].clone();
    assert_eq!(error["code"], "abandoned");
    assert!(error["message"].as_str().unwrap().starts_with("given up by all;"), "{error}");
    let again = abandon(&server, &id);
    assert_eq!((again.status, again.code().as_str()), (409, "already_ended"));
    assert_eq!(server.get("/api/v1/nodes/node").json()["running"], 0);

    let site = server.killed();
    let command = site.command_at(port);
    let server = site.start_by(command);
    assert_eq!(task(&node, &id)["status"], "running");
    line.mend();
    assert_eq!(node.ended(&id)["status"], "cancelled");
    let late = task_when(&server, &id, "the late result", |task| !task["late_result"].is_null());
    assert_eq!(
        (&late["status"], &late["late_result"]["outcome"]["kind"]),
        (&json!("lost"), &json!("cancelled"))
    );
    assert_eq!(log(&server, &id), log(&node, &id));
}

#[test]
fn a_task_on_a_node_that_hangs_can_be_given_up_before_that_is_noticed() {
    let Scene { server, line: _line, node, id, gate: _ } = scene(&json!({}));
    node.signal(Signal::SIGSTOP);
    let reply = abandon(&server, &id);
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("lost")), "{}", reply.text());
    node.signal(Signal::SIGCONT);
    assert_eq!(node.ended(&id)["status"], "cancelled");
    task_when(&server, &id, "the late result", |task| !task["late_result"].is_null());
}

#[test]
fn a_task_that_waits_for_its_node_is_cancelled_and_not_given_up() {
    let Scene { server, line, node: _node, id: _, gate: _ } = scene(&json!({}));
    line.cut();
    eventually("the cut line", || {
        (server.get("/api/v1/nodes/node").json()["connected"] == false).then_some(())
    });
    let waits = submit(&server, &json!({ "name": "where.sh" }));
    task_when(&server, &waits, "that it waits", |task| task["status"] == "queued");
    let reply = abandon(&server, &waits);
    assert_eq!((reply.status, reply.code().as_str()), (409, "not_on_a_node"));
    let local = server.post("/api/v1/tasks", &json!({ "name": "hello.sh", "unreachable_after": "1m" }));
    assert_eq!((local.status, &local.json()["errors"][0]["field"]), (422, &json!("unreachable_after")));
}
