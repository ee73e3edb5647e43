//! Ids that the API server has forgotten and the node has not.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::{back, connected, ended_alone, node_site, running, submit};
use crate::support::{Service, Site, eventually};

/// Changes a database of an agent that is stopped.
fn change(site: &Site, database: &str, sql: &str) {
    Connection::open(site.path(database)).unwrap().execute_batch(sql).unwrap();
}

/// The service has removed this task from its history.
fn forgets(server: Service, id: &str) -> Service {
    for _ in 0..2 {
        server.ended(&server.submit("hello.sh", &[]));
    }
    let port = server.at.port();
    let server = back(server.stop(), port);
    let path = format!("/api/v1/tasks/{id}");
    eventually("the removal", || (server.get(&path).status == 404).then_some(()));
    server
}

/// An API server, its node, and what is submitted again: the node has run it, and the history has forgotten it.
fn forgotten_by_the_api_server() -> (Service, Service, Value) {
    let server = Site::new("[retention]\nmax_tasks = 1").start();
    let node = node_site(&server, "").start();
    connected(&server);
    let spec = json!({ "id": "again", "name": "where.sh" });
    submit(&server, &spec);
    assert_eq!(server.ended("again")["status"], "succeeded");
    (forgets(server, "again"), node, spec)
}

#[test]
fn what_a_node_has_from_before_is_not_told_as_the_end_of_a_task_that_never_ran() {
    let (server, node, spec) = forgotten_by_the_api_server();
    // Some hours later.
    let site = node.stop();
    change(&site, "state/agent.db", "UPDATE task SET created_at = created_at - 3 * 3600000000000");
    change(&site, "state/node/journal.db", "DELETE FROM assignment");
    let node = site.start();
    connected(&server);
    submit(&server, &spec);
    let task = server.ended("again");
    let found = (&task["status"], &task["result"]["error"]["code"]);
    assert_eq!(found, (&json!("failed"), &json!("id_conflict")), "{task}");
    assert_eq!((&task["log_bytes"], node.count()), (&json!(0), 1));
}

#[test]
fn a_node_that_dies_before_it_starts_such_a_task_says_the_same() {
    let (server, node, spec) = forgotten_by_the_api_server();
    let site = node.stop();
    submit(&server, &spec);
    // As it is when the journal is written, and the task service was not asked.
    change(&site, "state/agent.db", "UPDATE task SET created_at = created_at - 3 * 3600000000000");
    change(
        &site,
        "state/node/journal.db",
        "UPDATE assignment SET stage = 'taken', accepted = unixepoch(), since = unixepoch()",
    );
    let node = site.start();
    let task = server.ended("again");
    assert_ne!(task["status"], "succeeded", "{task}");
    assert_eq!((&task["log_bytes"], node.count()), (&json!(0), 1));
}

#[test]
fn the_end_of_a_task_that_its_node_tells_when_another_has_its_id_is_not_taken_for_that_one_s() {
    let (server, node, spec) = forgotten_by_the_api_server();
    // It has not heard that the end is settled, and is away for so long that the id is free again.
    let site = node.stop();
    change(&site, "state/node/journal.db", "UPDATE assignment SET stage = 'taken'");
    submit(&server, &spec);
    let node = site.start();
    let task = server.ended("again");
    let found = (&task["status"], &task["result"]["error"]["code"]);
    assert_eq!(found, (&json!("failed"), &json!("id_conflict")), "{task}");
    assert_eq!((&task["log_bytes"], node.count()), (&json!(0), 1));
    // Neither is asked for any more.
    submit(&server, &json!({ "id": "other", "name": "where.sh" }));
    assert_eq!(server.ended("other")["status"], "succeeded");
    eventually("all of them to be settled", || {
        let db = Connection::open(node.site.path("state/node/journal.db")).unwrap();
        let sql = "SELECT count(*) FROM assignment WHERE stage <> 'settled'";
        (db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 0).then_some(())
    });
}

#[test]
fn what_a_node_that_lost_its_journal_has_of_the_same_task_is_told() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, site, port) = ended_alone(server, &node);
    let there = node.stop();
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        // Some are there only while it is open.
        let _ = fs::remove_file(there.path("state/node").join(name));
    }
    let node = there.start();
    let server = back(site, port);
    let task = server.ended(&id);
    assert_eq!((&task["status"], node.count()), (&json!("succeeded"), 1), "{task}");
    let (other, gate) = running(&server, &node);
    fs::write(gate, "").unwrap();
    server.ended(&other);
}
