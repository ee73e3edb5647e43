//! Tasks that run on a node, as whoever asked for them sees them.

use std::fs;

use serde_json::{Value, json};

use super::{connected, connected_as, log, named_site, node_site, running, server_of, submit};
use crate::measuring::value;
use crate::support::{Service, Site, eventually};

#[test]
fn a_task_runs_on_its_node_and_log_and_result_are_those_of_the_node() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    let seen = connected(&server);
    assert_eq!((seen["name"].as_str(), seen["capacity"].is_u64()), (Some("node"), true));

    let id = submit(&server, &json!({ "name": "where.sh" }));
    let task = server.ended(&id);
    assert_eq!((task["status"].as_str(), task["node"].as_str()), (Some("succeeded"), Some("node")), "{task}");
    let there = node.get(&format!("/api/v1/tasks/{id}")).json();
    assert_eq!(task["result"], there["result"]);
    assert_eq!(task["log_bytes"], there["log_bytes"]);
    assert_eq!(there["created_by"], "admin");
    let bytes = log(&server, &id);
    assert_eq!(bytes, log(&node, &id));
    assert!(String::from_utf8(bytes).unwrap().contains(&format!("on node as {id} for admin\n")));
    let plain = server.get(&format!("/api/v1/tasks/{id}/log?banner=false"));
    assert_eq!(plain.text(), format!("on node as {id} for admin\n"));
}

#[test]
fn a_run_on_a_node_is_counted_at_either_end_and_what_was_killed_where_it_was() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    for name in ["where.sh", "where.sh", "fail.sh"] {
        server.ended(&submit(&server, &json!({ "name": name })));
    }
    let (id, _gate) = running(&server, &node);
    server.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({}));
    server.ended(&id);
    let runs = |agent: &Service, runner: &str| {
        let text = agent.get("/metrics").text();
        let number = |series: &str| value(&text, series).unwrap_or_default();
        let of = |name: &str| number(&format!("{name}{{runner=\"{runner}\"}}"));
        let ended = |status: &str| {
            number(&format!("devops_agent_task_runs_total{{runner=\"{runner}\",status=\"{status}\"}}"))
        };
        let kills = ["cgroup", "marker"]
            .map(|scope| number(&format!("devops_agent_task_kills_total{{kill_scope=\"{scope}\"}}")));
        let ends = ["succeeded", "failed", "cancelled", "not_started"].map(ended);
        let logs = of("devops_agent_task_log_bytes_total");
        (ends, of("devops_agent_task_run_duration_seconds_count"), logs, kills.iter().sum::<f64>())
    };
    let expected = ([2.0, 1.0, 1.0, 0.0], 4.0);
    let (ends, count, logs, kills) = eventually("the node's counts", || {
        let runs = runs(&node, "script");
        ((runs.0, runs.1) == expected).then_some(runs)
    });
    assert!((ends, count) == expected && logs > 100.0 && kills == 1.0, "{logs} bytes, {kills} kills");
    let there = eventually("the API server's counts", || {
        let runs = runs(&server, "node");
        ((runs.0, runs.1) == expected).then_some(runs)
    });
    assert_eq!(there, (ends, count, logs, 0.0));
}

#[test]
fn a_long_log_comes_byte_for_byte_and_can_be_searched() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let id = submit(&server, &json!({ "name": "lines.sh" }));
    server.ended(&id);
    let bytes = log(&server, &id);
    assert!(bytes.len() > 1 << 20);
    assert_eq!(bytes, log(&node, &id));
    let found = server.get(&format!("/api/v1/tasks/{id}/log/search?q=123456")).json();
    assert_eq!(found["matches"][0]["text"], "123456");
}

#[test]
fn a_log_is_followed_while_the_script_runs_and_a_cancel_reaches_it() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, _gate) = running(&server, &node);
    let running = server.get(&format!("/api/v1/tasks/{id}")).json();
    assert_eq!(running["status"], "running");
    assert_eq!(server.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(&id)["status"], "cancelled");
    assert_eq!(node.ended(&id)["status"], "cancelled");
}

#[test]
fn what_the_node_would_refuse_is_refused_at_once_in_the_same_words() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let spec = json!({ "name": "choice.sh", "args": ["c"] });
    let there = node.post("/api/v1/tasks", &spec).json();
    let mut remote = spec.clone();
    remote["target"] = json!({ "node": "node" });
    let here = server.post("/api/v1/tasks", &remote);
    assert_eq!((here.status, &here.json()["errors"]), (422, &there["errors"]), "{}", here.text());

    for (target, name, status, code) in
        [("node", "nothing.sh", 404, "not_found"), ("db-9", "where.sh", 404, "node_not_found")]
    {
        let reply = server.post("/api/v1/tasks", &json!({ "name": name, "target": { "node": target } }));
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
    }
    assert_eq!((server.count(), node.count()), (0, 0));
}

#[test]
fn a_secret_reaches_the_script_and_no_disk_of_either_end() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let id = submit(&server, &json!({ "name": "secret.sh", "params": { "key": "c4n4ry-of-16-byte" } }));
    let task = server.ended(&id);
    assert_eq!(task["status"], "succeeded", "{task}");
    let plain = server.get(&format!("/api/v1/tasks/{id}/log?banner=false"));
    assert_eq!(plain.text().trim(), "17");
    for site in [&server.site, &node.site] {
        let found = files_with(site.folder(), b"c4n4ry-of-16-byte");
        assert!(found.is_empty(), "{found:?}");
        // The same search finds what is no secret.
        assert!(!files_with(&site.path("state"), id.as_bytes()).is_empty());
    }
}

/// The files below a folder that hold these bytes.
fn files_with(folder: &std::path::Path, bytes: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), bytes));
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap_or_default();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn what_the_script_of_the_node_lets_callers_set_counts_and_not_what_one_of_the_api_server_does() {
    let script =
        |name: &str| format!("#!/bin/sh\n#TASK effect=\"read\" env=\"{name}\"\necho \"$REMOTE-$LOCAL\"\n");
    let site = Site::new("");
    site.write_script("open.sh", &script("LOCAL"));
    let server = site.start();
    let site = node_site(&server, "");
    site.write_script("open.sh", &script("REMOTE"));
    let _node = site.start();
    connected(&server);
    let submit = |name: &str| {
        let spec = json!({ "name": "open.sh", "env": { name: "set" }, "target": { "node": "node" } });
        server.call("all", "POST", "/api/v1/tasks", Some(&spec))
    };
    let refused = submit("LOCAL");
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{}", refused.text());
    let accepted = submit("REMOTE");
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    server.ended(&accepted.id());
    let said = server.get(&format!("/api/v1/tasks/{}/log?banner=false", accepted.id())).text();
    assert_eq!(said, "set-\n");
}

#[test]
fn what_a_node_does_not_open_is_refused_at_the_submission_an_admin_s_too() {
    let server = server_of(&["db-2"]);
    let _first = node_site(&server, "labels = { role = \"db\" }").start();
    let settings = "labels = { role = \"db\" }\nenv = [\"DEPLOY_*\"]\nwork_dirs = [\"site\"]";
    let _second = named_site(server.at, "db-2", settings).start();
    connected(&server);
    connected_as(&server, "db-2");
    let submit = |target: &Value, name: &str, work_dir: &str| {
        let spec =
            json!({ "name": "where.sh", "env": { name: "x" }, "work_dir": work_dir, "target": target });
        server.post("/api/v1/tasks", &spec)
    };
    let (first, second, pool) =
        (json!({ "node": "node" }), json!({ "node": "db-2" }), json!({ "labels": { "role": "db" } }));
    for (target, name, work_dir, fields) in [
        (&first, "DEPLOY_TO", "any", vec!["env.DEPLOY_TO"]),
        (&second, "KUBECONFIG", "any", vec!["env.KUBECONFIG", "work_dir"]),
        (&pool, "KUBECONFIG", "site", vec!["env.KUBECONFIG"]),
    ] {
        let refused = submit(target, name, work_dir);
        assert_eq!(refused.status, 422, "{}", refused.text());
        let errors = refused.json()["errors"].as_array().unwrap().clone();
        let found: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(found, fields);
    }
    // One of a pool that opens it is enough, and is the one that gets the task.
    for target in [&second, &pool] {
        let accepted = submit(target, "DEPLOY_TO", "site");
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        let ended = server.ended(&accepted.id());
        assert_eq!((&ended["status"], &ended["node"]), (&json!("succeeded"), &json!("db-2")));
    }
}
