//! Nodes that are forgotten, and the pages by which nodes are listed.

use std::fs;

use serde_json::{Value, json};

use super::{
    back, connected, connected_as, gone, named_site, node_site, running, server_of, submit, task_when,
};
use crate::support::{Reply, Service, eventually};

fn forget(server: &Service) -> Reply {
    server.call("admin", "DELETE", "/api/v1/nodes/node", None)
}

/// It is refused with that code, and the node is known as before.
fn refused(server: &Service, code: &str) {
    let before = server.get("/api/v1/nodes/node").json();
    let reply = forget(server);
    assert_eq!((reply.status, reply.code().as_str()), (409, code), "{}", reply.text());
    let offered = |node: &Value| (node["labels"].clone(), node["scripts"].clone());
    assert_eq!(offered(&before), offered(&server.get("/api/v1/nodes/node").json()));
}

fn cancel(server: &Service, id: &str) {
    assert_eq!(server.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(id)["status"], "cancelled");
}

#[test]
fn a_node_that_is_set_up_anew_is_let_in_once_the_old_one_is_forgotten() {
    let server = Service::usual();
    let node = node_site(&server, "labels = { role = \"db\" }").start();
    connected(&server);
    refused(&server, "node_connected");
    gone(&server, node);
    let anew = node_site(&server, "").start();
    eventually("the refusal of another key", || {
        anew.said().contains("agent-cli node remove node").then_some(())
    });

    let reply = forget(&server);
    assert_eq!((reply.status, reply.body.len()), (204, 0), "{}", reply.text());
    let line = server.audit().into_iter().find(|line| line["method"] == "DELETE" && line["status"] == 204);
    let line = line.expect("a line in the audit log");
    assert_eq!((&line["token"], &line["path"]), (&json!("admin"), &json!("/api/v1/nodes/node")));
    // It comes again by itself, with its own key and labels.
    assert_eq!(connected(&server)["labels"], json!({}));
    let id = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(anew.count(), 1);
}

#[test]
fn a_forgotten_node_is_not_known_also_after_a_restart_and_comes_again_as_a_new_one() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let site = gone(&server, node);
    assert_eq!(forget(&server).status, 204);
    let unknown = |server: &Service| {
        for path in ["/api/v1/nodes/node", "/api/v1/scripts?node=node"] {
            assert_eq!(server.get(path).code(), "node_not_found", "{path}");
        }
        assert_eq!(server.get("/api/v1/nodes").json(), json!({ "nodes": [], "next": null }));
        let reply = forget(server);
        assert_eq!((reply.status, reply.code().as_str()), (404, "node_not_found"));
        let spec = json!({ "name": "where.sh", "target": { "node": "node" } });
        assert_eq!(server.post("/api/v1/tasks", &spec).code(), "node_not_found");
    };
    unknown(&server);
    let port = server.at.port();
    let server = back(server.stop(), port);
    unknown(&server);
    let _node = site.start();
    connected(&server);
    let id = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&id)["status"], "succeeded");
}

#[test]
fn a_node_with_tasks_that_have_not_ended_is_not_forgotten_neither_before_they_are_taken_up_again() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (runs, gate) = running(&server, &node);
    refused(&server, "node_has_tasks");
    let site = node.killed();
    task_when(&server, &runs, "that its node is away", |task| !task["unreachable_since"].is_null());
    let waits = submit(&server, &json!({ "name": "where.sh" }));
    refused(&server, "node_has_tasks");
    let port = server.at.port();
    let server_site = server.killed();
    let server = back(server_site, port);
    refused(&server, "node_has_tasks");

    assert_eq!(server.post(&format!("/api/v1/tasks/{runs}/abandon"), &json!({})).status, 202);
    // One that waits for the node, and which nobody has heard of, counts as well.
    refused(&server, "node_has_tasks");
    cancel(&server, &waits);
    assert_eq!(forget(&server).status, 204, "{}", server.said());
    // Who comes back settles what was given up, and works.
    fs::write(gate, "").unwrap();
    let node = site.start();
    connected(&server);
    assert_eq!(node.ended(&runs)["status"], "interrupted");
    let id = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(server.get(&format!("/api/v1/tasks/{runs}")).json()["status"], "lost");
}

#[test]
fn nodes_are_listed_by_pages() {
    let names = ["n1", "n2", "n3"];
    let server = server_of(&names);
    let _nodes = names.map(|name| named_site(server.at, name, "").start());
    names.iter().for_each(|name| drop(connected_as(&server, name)));
    let page = |query: &str| {
        let reply = server.get(&format!("/api/v1/nodes{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        let page = reply.json();
        let nodes = page["nodes"].as_array().unwrap().iter().map(|node| node["name"].clone());
        (nodes.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(page(""), (names.map(Value::from).to_vec(), Value::Null));
    assert_eq!(page("?limit=2"), (vec![json!("n1"), json!("n2")], json!("n2")));
    assert_eq!(page("?limit=2&cursor=n2"), (vec![json!("n3")], Value::Null));
    assert_eq!(page("?limit=3").1, Value::Null);
    assert_eq!(page("?cursor=n1x&limit=1"), (vec![json!("n2")], json!("n2")));
    assert_eq!(page("?cursor=z"), (vec![], Value::Null));
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=", "cursor=a&cursor=b", "name=n1"] {
        assert_eq!(server.get(&format!("/api/v1/nodes?{query}")).status, 422, "{query}");
    }
    assert_eq!(server.call("admin", "DELETE", "/api/v1/nodes/n1?now=true", None).status, 422);
}
