//! An API server that is itself a node of another one: it runs what it is handed, and hands out what it is asked for.

use std::fs;

use serde_json::{Value, json};

use super::{back, connected_as, log, named_site, server_of, submit_to, task, task_when};
use crate::support::{Service, Site, eventually};

/// The API server at the top, the one in the middle that is its node, and the node of that.
struct Chain {
    top: Service,
    middle: Service,
    low: Service,
}

impl Chain {
    fn new() -> Self {
        let top = server_of(&["middle"]);
        let digest = Site::digest("low");
        let token = format!("[[auth.token]]\nname = \"low\"\nsha256 = \"{digest}\"\nscopes = [\"node\"]");
        let middle = named_site(top.at, "middle", &token).start();
        let low = named_site(middle.at, "low", "").start();
        let chain = Self { top, middle, low };
        chain.connected();
        chain
    }

    fn connected(&self) {
        connected_as(&self.top, "middle");
        connected_as(&self.middle, "low");
    }

    /// A task that runs in the middle and one that runs below, each until this gate is there.
    fn running(&self, gate: &str) -> (String, String) {
        let begun = |server: &Service, node: &str| {
            let gate = self.low.site.path(gate);
            let id =
                submit_to(server, &json!({ "node": node }), &json!({ "name": "gate.sh", "args": [gate] }));
            eventually("the first line of the log", || {
                String::from_utf8_lossy(&log(server, &id)).contains("waiting\n").then_some(())
            });
            id
        };
        (begun(&self.top, "middle"), begun(&self.middle, "low"))
    }
}

fn cancel(server: &Service, id: &str) {
    assert_eq!(server.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(id)["status"], "cancelled");
}

#[test]
fn tasks_logs_and_cancels_go_both_ways_at_once_through_an_api_server_that_is_a_node() {
    let chain = Chain::new();
    for (server, node, name) in [(&chain.top, &chain.middle, "middle"), (&chain.middle, &chain.low, "low")] {
        let id = submit_to(server, &json!({ "node": name }), &json!({ "name": "where.sh" }));
        let task = server.ended(&id);
        assert_eq!((&task["status"], &task["node"]), (&json!("succeeded"), &json!(name)), "{task}");
        assert_eq!((log(server, &id), &node.ended(&id)["result"]), (log(node, &id), &task["result"]));
        let said = server.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text();
        assert_eq!(said, format!("on {name} as {id} for admin\n"));
    }
    // A node of a node is nobody's but its own API server's.
    let spec = json!({ "name": "where.sh", "target": { "node": "low" } });
    assert_eq!(chain.top.post("/api/v1/tasks", &spec).code(), "node_not_found");

    let (above, below) = chain.running("first");
    cancel(&chain.top, &above);
    assert_eq!(chain.middle.ended(&above)["status"], "cancelled");
    assert_eq!(task(&chain.middle, &below)["status"], "running");
    let (above, again) = chain.running("second");
    cancel(&chain.middle, &below);
    cancel(&chain.middle, &again);
    for id in [&below, &again] {
        assert_eq!(chain.low.ended(id)["status"], "cancelled");
    }
    assert_eq!(task(&chain.top, &above)["status"], "running");
    fs::write(chain.low.site.path("second"), "").unwrap();
    assert_eq!(chain.top.ended(&above)["status"], "succeeded");
    assert_eq!((chain.top.count(), chain.middle.count(), chain.low.count()), (3, 6, 3));
}

#[test]
fn when_the_one_in_the_middle_dies_its_own_task_is_interrupted_and_that_below_goes_on() {
    let chain = Chain::new();
    let port = chain.middle.at.port();
    let (above, below) = chain.running("gate");
    let Chain { top, middle, low } = chain;
    let site = middle.killed();
    task_when(&top, &above, "that its node is away", |task| !task["unreachable_since"].is_null());
    let chain = Chain { top, middle: back(site, port), low };
    let ended = chain.top.ended(&above);
    assert_eq!((&ended["status"], &ended["unreachable_since"]), (&json!("interrupted"), &Value::Null));
    assert_eq!(log(&chain.top, &above), log(&chain.middle, &above));
    chain.connected();
    assert_eq!(task(&chain.low, &below)["status"], "running");
    fs::write(chain.low.site.path("gate"), "").unwrap();
    assert_eq!(chain.middle.ended(&below)["status"], "succeeded");
    assert_eq!(log(&chain.middle, &below), log(&chain.low, &below));
}
