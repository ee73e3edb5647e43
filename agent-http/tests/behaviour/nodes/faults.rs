//! What an API server and its node make of faults of their own: a value that is gone, a log that is gone, a history that is kept
//! short.

use std::fs;

use serde_json::json;

use super::{back, connected, ended_alone, gone, log, node_site, submit};
use crate::support::{Service, eventually};

#[test]
fn an_api_server_that_lost_the_secret_of_a_task_leaves_it_to_the_node_that_has_it() {
    let server = Service::usual();
    let at = server.at;
    let node = node_site(&server, "").start();
    connected(&server);
    let gate = node.site.path("gate");
    let spec = json!({ "name": "keeps.sh", "params": { "key": "c4n4ry-of-16-byte", "gate": gate } });
    let id = submit(&server, &spec);
    eventually("the first line of the log", || {
        String::from_utf8_lossy(&log(&server, &id)).contains("waiting\n").then_some(())
    });
    let site = server.killed();
    let server = back(site, at.port());
    connected(&server);
    let other = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&other)["status"], "succeeded");
    fs::write(&gate, "").unwrap();
    let task = server.ended(&id);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(log(&server, &id), log(&node, &id));
}

#[test]
fn a_log_that_is_gone_at_the_node_ends_its_task_all_the_same_and_is_said_to_be_short() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, site, port) = ended_alone(server, &node);
    let held = fs::metadata(site.path(&format!("state/tasks/{id}/stdout.txt"))).unwrap().len();
    fs::File::options()
        .write(true)
        .open(node.site.path(&format!("state/tasks/{id}/stdout.txt")))
        .unwrap()
        .set_len(held)
        .unwrap();
    let server = back(site, port);
    let task = eventually("the task's end", || {
        let task = server.get(&format!("/api/v1/tasks/{id}")).json();
        (!task["ended_at"].is_null()).then_some(task)
    });
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(task["log_bytes"], held);
    assert!(task["result"]["log"]["incomplete"].is_string(), "{task}");
}

#[test]
fn a_node_keeps_what_its_api_server_has_not_got_however_short_its_history_is() {
    let server = Service::usual();
    let node = node_site(&server, "[retention]\nmax_tasks = 1").start();
    connected(&server);
    let (id, site, port) = ended_alone(server, &node);
    let mut later = Vec::new();
    for _ in 0..3 {
        let own = node.submit("where.sh", &[]);
        node.ended(&own);
        later.push(own);
    }
    // A node that starts cleans up first.
    let node = node.stop().start();
    let is_gone = |id: &String| node.get(&format!("/api/v1/tasks/{id}")).status == 404;
    eventually("the end of its own tasks' time", || {
        (later.iter().filter(|id| is_gone(id)).count() > 1).then_some(())
    });
    let server = back(site, port);
    let task = server.ended(&id);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(log(&server, &id), log(&node, &id));
}

#[test]
fn a_task_that_does_not_want_to_wait_for_a_workspace_of_the_node_is_refused_there() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let gate = node.site.path("gate");
    let first = submit(&server, &json!({ "name": "gate.sh", "args": [gate], "work_dir": "w" }));
    eventually("the first line of the log", || {
        String::from_utf8_lossy(&log(&server, &first)).contains("waiting\n").then_some(())
    });
    let second = json!({ "name": "where.sh", "work_dir": "w", "on_busy": "refuse" });
    let task = server.ended(&submit(&server, &second));
    assert_eq!(
        (&task["status"], &task["result"]["error"]["code"]),
        (&json!("rejected"), &json!("work_dir_busy"))
    );
    fs::write(&gate, "").unwrap();
    assert_eq!(server.ended(&first)["status"], "succeeded");
}

#[test]
fn what_was_checked_when_a_task_was_accepted_is_what_runs_or_nothing_does() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let site = gone(&server, node);
    let id = submit(&server, &json!({ "name": "where.sh" }));
    let unchanged = submit(&server, &json!({ "name": "choice.sh", "args": ["a"] }));
    site.write_script("where.sh", "#!/bin/sh\necho another one\n");
    let node = site.start();
    let task = server.ended(&id);
    let found = (&task["status"], &task["result"]["error"]["code"]);
    assert_eq!(found, (&json!("failed"), &json!("script_changed")), "{task}");
    assert_eq!(server.ended(&unchanged)["status"], "succeeded");
    assert_eq!(node.count(), 1);
}
