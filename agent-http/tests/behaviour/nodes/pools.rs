//! Targets by labels: a pool of nodes shares the work.

use std::fs;

use serde_json::{Value, json};

use super::{connected_as, named_site, server_of, submit_to, task, task_when};
use crate::support::{Service, eventually};

const POOL: &str = "labels = { role = \"db\", zone = \"a\" }\n[limits]\nconcurrent = 2";

fn role(role: &str) -> Value {
    json!({ "labels": { "role": role } })
}

/// An API server with two nodes of a pool, `n1` and `n2`, each of which runs two tasks at once.
fn pool() -> (Service, Service, Service) {
    let server = server_of(&["n1", "n2"]);
    let nodes = ["n1", "n2"].map(|name| named_site(server.at, name, POOL).start());
    connected_as(&server, "n1");
    connected_as(&server, "n2");
    let [one, two] = nodes;
    (server, one, two)
}

fn nodes_of(tasks: &[Value]) -> Vec<&str> {
    let mut nodes: Vec<&str> = tasks.iter().filter_map(|task| task["node"].as_str()).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_pool_shares_work_evenly_and_goes_on_without_a_node_that_died() {
    let (server, one, two) = pool();
    let gate = one.site.path("gate");
    let ids: Vec<String> = (0..8)
        .map(|_| submit_to(&server, &role("db"), &json!({ "name": "gate.sh", "args": [gate] })))
        .collect();
    let tasks = || ids.iter().map(|id| task(&server, id)).collect::<Vec<_>>();
    let running = eventually("four that run, and four that wait", || {
        let (running, waiting): (Vec<_>, Vec<_>) =
            tasks().into_iter().partition(|task| task["status"] == "running" && !task["node"].is_null());
        let is_full = running.len() == 4 && waiting.iter().all(|task| task["status"] == "queued");
        is_full.then_some(running)
    });
    assert_eq!(nodes_of(&running), ["n1", "n1", "n2", "n2"]);
    for name in ["n1", "n2"] {
        assert_eq!(connected_as(&server, name)["running"], 2);
    }
    let there = server.get("/api/v1/tasks?node=n1").json();
    assert_eq!(there["tasks"].as_array().unwrap().len(), 2);
    // Nobody has heard of those that wait.
    let waits = tasks().into_iter().find(|task| task["status"] == "queued").unwrap();
    let unwanted = waits["id"].as_str().unwrap();
    assert_eq!(server.post(&format!("/api/v1/tasks/{unwanted}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(unwanted)["result"]["error"]["code"], "cancelled_in_queue");

    let dead = |task: &Value| task["node"] == "n1";
    let site = one.killed();
    fs::write(&gate, "").unwrap();
    for id in ids.iter().filter(|id| *id != unwanted && !running.iter().any(|t| dead(t) && t["id"] == **id)) {
        let task = server.ended(id);
        assert_eq!(
            (task["status"].as_str(), task["node"].as_str()),
            (Some("succeeded"), Some("n2")),
            "{task}"
        );
    }
    for task in running.iter().filter(|task| dead(task)) {
        let id = task["id"].as_str().unwrap();
        task_when(&server, id, "that its node is away", |task| !task["unreachable_since"].is_null());
    }
    let one = site.start();
    for task in running.iter().filter(|task| dead(task)) {
        let task = server.ended(task["id"].as_str().unwrap());
        assert_eq!((&task["status"], &task["unreachable_since"]), (&json!("interrupted"), &Value::Null));
    }
    assert_eq!((one.count(), two.count()), (2, 5));
}

#[test]
fn what_no_node_of_a_pool_takes_is_refused_and_what_one_takes_goes_there() {
    let (server, _one, two) = pool();
    two.site.write_script(
        "choice.sh",
        "#!/bin/sh\n#TASK effect=\"read\"\n#USAGE arg \"<where>\" { choices \"c\" }\n",
    );
    let choice = |where_to: &str| json!({ "name": "choice.sh", "args": [where_to], "target": role("db") });
    eventually("the changed script", || {
        (server.post("/api/v1/tasks", &choice("c")).status == 202).then_some(())
    });
    for _ in 0..3 {
        let id = server.post("/api/v1/tasks", &choice("c")).id();
        let task = server.ended(&id);
        assert_eq!(
            (task["status"].as_str(), task["node"].as_str()),
            (Some("succeeded"), Some("n2")),
            "{task}"
        );
    }
    let refused = |spec: Value| {
        let reply = server.post("/api/v1/tasks", &spec);
        (reply.status, reply.code())
    };
    assert_eq!(refused(choice("x")), (422, "invalid".to_owned()));
    for (target, code) in [
        (role("web"), "node_not_found"),
        (json!({ "labels": { "role": "db", "zone": "b" } }), "node_not_found"),
    ] {
        assert_eq!(refused(json!({ "name": "where.sh", "target": target })), (404, code.to_owned()));
    }
    assert_eq!(refused(json!({ "name": "no.sh", "target": role("db") })), (404, "not_found".to_owned()));
    for (target, field, rule) in [
        (json!({}), "target", "required"),
        (json!({ "node": "n1", "labels": { "role": "db" } }), "target", "exclusive"),
        (json!({ "node": "connect" }), "target.node", "name"),
        (json!({ "labels": {} }), "target.labels", "required"),
        (json!({ "labels": { "role": 1 } }), "target.labels.role", "string"),
        (json!({ "labels": { "role": "db" }, "nod": "n1" }), "target.nod", "unknown_field"),
    ] {
        let reply = server.post("/api/v1/tasks", &json!({ "name": "where.sh", "target": target }));
        let errors = reply.json()["errors"].clone();
        assert_eq!(
            (reply.status, &errors[0]["field"], &errors[0]["rule"]),
            (422, &json!(field), &json!(rule))
        );
        assert_eq!(errors.as_array().unwrap().len(), 1, "{errors}");
    }
}

#[test]
fn a_pool_is_known_by_its_labels_while_it_is_away_and_its_tasks_start_when_a_node_comes() {
    let (server, one, two) = pool();
    let sites = [one.stop(), two.stop()];
    let port = server.at.port();
    let site = server.stop();
    let command = site.command_at(port);
    let server = site.start_by(command);
    let known = server.get("/api/v1/nodes/n2").json();
    assert_eq!((&known["connected"], &known["labels"]["zone"]), (&json!(false), &json!("a")));
    assert_eq!(known["capacity"], 2);
    let target = json!({ "labels": { "role": "db", "zone": "a" } });
    let ids: Vec<String> =
        (0..5).map(|_| submit_to(&server, &target, &json!({ "name": "where.sh" }))).collect();
    for id in &ids {
        task_when(&server, id, "that it waits", |task| task["status"] == "queued" && task["node"].is_null());
    }
    let [_, two] = sites;
    let _two = two.start();
    for id in &ids {
        let task = server.ended(id);
        assert_eq!(
            (task["status"].as_str(), task["node"].as_str()),
            (Some("succeeded"), Some("n2")),
            "{task}"
        );
    }
}

#[test]
fn a_task_waits_for_a_node_that_has_its_script_as_it_was_checked_and_holds_up_no_other() {
    let (server, one, two) = pool();
    let write = |node: &Service, choice: &str| {
        let text =
            format!("#!/bin/sh\n#TASK effect=\"read\"\n#USAGE arg \"<what>\" {{ choices {choice} }}\n");
        node.site.write_script("choice.sh", &text);
    };
    let digest =
        |name: &str| server.get(&format!("/api/v1/nodes/{name}")).json()["scripts"]["choice.sh"].clone();
    eventually("the same on both", || {
        (digest("n1").is_string() && digest("n1") == digest("n2")).then_some(())
    });
    let first = digest("n1");

    // Both are full, each until its gate opens.
    let fill = |node: &Service, name: &str| -> Vec<String> {
        let spec = json!({ "name": "gate.sh", "args": [node.site.path("gate")] });
        (0..2).map(|_| submit_to(&server, &json!({ "node": name }), &spec)).collect()
    };
    fill(&one, "n1");
    fill(&two, "n2");
    eventually("two full nodes", || {
        let running = |name: &str| server.get(&format!("/api/v1/nodes/{name}")).json()["running"] == 2;
        (running("n1") && running("n2")).then_some(())
    });
    let choose =
        |what: &str| submit_to(&server, &role("db"), &json!({ "name": "choice.sh", "args": [what] }));
    let older = choose("a");
    write(&two, r#""a" "b""#);
    eventually("the changed script", || (digest("n2") != first).then_some(()));
    let younger = choose("b");

    // What only the other node has goes there, past what that node has not.
    fs::write(two.site.path("gate"), "").unwrap();
    assert_eq!(server.ended(&younger)["node"], "n2");
    task_when(&server, &older, "that it waits", |task| task["status"] == "queued" && task["node"].is_null());
    let more = choose("b");
    assert_eq!(server.ended(&more)["node"], "n2");
    task_when(&server, &older, "that it waits", |task| task["status"] == "queued");
    fs::write(one.site.path("gate"), "").unwrap();
    let task = server.ended(&older);
    assert_eq!((&task["status"], &task["node"]), (&json!("succeeded"), &json!("n1")), "{task}");

    // Where nobody takes it any more there is nothing to wait for.
    let sites = [one.stop(), two.stop()];
    eventually("that both are away", || {
        let connected = |name: &str| server.get(&format!("/api/v1/nodes/{name}")).json()["connected"] == true;
        (!connected("n1") && !connected("n2")).then_some(())
    });
    let unwanted = choose("a");
    let _nodes = sites.map(|site| {
        let text = "#!/bin/sh\n#TASK effect=\"read\"\n#USAGE arg \"<what>\" { choices \"c\" }\n";
        site.write_script("choice.sh", text);
        site.start()
    });
    let task = server.ended(&unwanted);
    assert_eq!(
        (&task["status"], &task["result"]["error"]["code"]),
        (&json!("rejected"), &json!("invalid")),
        "{task}"
    );
}
