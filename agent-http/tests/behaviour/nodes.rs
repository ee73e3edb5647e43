//! An API server and a node, each a process of its own: tasks run there, logs and results come back, and neither a crash nor
//! a stranger changes that.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Service, Site, eventually, exchange, request_text};

/// Scripts with a secret that they must not lose, and one with a choice.
const SCRIPTS: &[(&str, &str)] = &[
    ("where.sh", "#!/bin/sh\necho \"on $TASK_NODE as $TASK_ID for $TASK_CREATED_BY\"\n"),
    ("lines.sh", "#!/bin/sh\nseq 1 200000\n"),
    (
        "secret.sh",
        "#!/bin/sh\n#TASK effect=\"read\" secret=\"key\"\n#USAGE flag \"--key <key>\"\nwc -c < \"$usage_key_file\"\n",
    ),
    (
        "keeps.sh",
        "#!/bin/sh\n#TASK effect=\"read\" secret=\"key\"\n#USAGE flag \"--key <key>\"\n#USAGE arg \"<gate>\"\n\
         echo waiting; while [ ! -e \"$1\" ]; do sleep 0.05; done; wc -c < \"$usage_key_file\"\n",
    ),
    (
        "choice.sh",
        "#!/bin/sh\n#TASK effect=\"read\"\n#USAGE arg \"<where>\" { choices \"a\" \"b\" }\necho \"$1\"\n",
    ),
];

/// A site that is a node of an API server. It has the scripts above; the API server has none of them.
pub(crate) fn node_site(server: &Service, settings: &str) -> Site {
    let at = server.at;
    let site = Site::new(&format!(
        "[node]\napi_server = \"ws://{at}\"\nname = \"node\"\ntoken_file = \"node.token\"\n{settings}\n"
    ));
    for (name, text) in SCRIPTS {
        site.write_script(name, text);
    }
    let token = site.path("node.token");
    fs::write(&token, Site::token("node")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// Waits until the node is there and what it offers is known.
pub(crate) fn connected(server: &Service) -> Value {
    eventually("the node's catalogue", || {
        let node = server.get("/api/v1/nodes/node").json();
        let offers = node["scripts"].as_object().is_some_and(|scripts| scripts.contains_key("where.sh"));
        (node["connected"] == true && offers).then_some(node)
    })
}

pub(crate) fn submit(server: &Service, spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["target"] = json!({ "node": "node" });
    let reply = server.post("/api/v1/tasks", &spec);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.id()
}

pub(crate) fn log(server: &Service, id: &str) -> Vec<u8> {
    server.get(&format!("/api/v1/tasks/{id}/log")).body
}

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

/// A task that runs at the node until its gate is there, and whose log has begun to come.
pub(crate) fn running(server: &Service, node: &Service) -> (String, std::path::PathBuf) {
    let gate = node.site.path("gate");
    let id = submit(server, &json!({ "name": "gate.sh", "args": [gate] }));
    eventually("the first line of the log", || {
        String::from_utf8_lossy(&log(server, &id)).contains("waiting\n").then_some(())
    });
    (id, gate)
}

#[test]
fn an_api_server_that_dies_and_comes_back_has_the_log_whole_and_the_end_once() {
    let server = Service::usual();
    let at = server.at;
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, gate) = running(&server, &node);
    server.signal(Signal::SIGKILL);
    let (_, site, _) = server.ended_with();
    fs::write(&gate, "").unwrap();
    assert_eq!(node.ended(&id)["status"], "succeeded");

    let command = site.command_at(at.port());
    let server = site.start_by(command);
    let task = server.ended(&id);
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(log(&server, &id), log(&node, &id));
    assert_eq!(node.count(), 1);
}

#[test]
fn a_node_that_dies_and_comes_back_tells_how_its_task_ended_and_starts_nothing_again() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, _gate) = running(&server, &node);
    node.signal(Signal::SIGKILL);
    let (_, site, _) = node.ended_with();
    let node = site.start();
    let task = server.ended(&id);
    assert_eq!(task["status"], "interrupted", "{task}");
    assert_eq!(log(&server, &id), log(&node, &id));
    assert_eq!(node.count(), 1);
}

#[test]
fn a_task_for_a_node_that_is_away_waits_and_can_be_cancelled() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let site = node.stop();
    eventually("the cut line", || {
        (server.get("/api/v1/nodes/node").json()["connected"] == false).then_some(())
    });
    let waits = submit(&server, &json!({ "name": "where.sh" }));
    let unwanted = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.post(&format!("/api/v1/tasks/{unwanted}/cancel"), &json!({})).status, 202);
    assert_eq!(server.ended(&unwanted)["status"], "cancelled");
    let node = site.start();
    assert_eq!(server.ended(&waits)["status"], "succeeded");
    assert_eq!(node.count(), 1);
}

#[test]
fn a_node_takes_tasks_of_the_api_server_that_it_knows_only() {
    let server = Service::usual();
    let key = "0".repeat(64);
    let node = node_site(&server, &format!("assignment_public_keys = [\"{key}\"]")).start();
    eventually("the node's refusal", || node.said().contains("this node accepts").then_some(()));
    assert_eq!(server.get("/api/v1/nodes").json()["nodes"], json!([]));
}

#[test]
fn another_agent_with_the_token_of_a_node_is_not_that_node() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let thief = node_site(&server, "").start();
    eventually("the thief's refusal", || thief.said().contains("node_key_changed").then_some(()));
    let id = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!((node.count(), thief.count()), (1, 0));
}

#[test]
fn only_a_websocket_of_no_page_is_upgraded() {
    let server = Service::usual();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let ask = |token: &str, headers: &str| {
        let text = request_text("GET", "/api/v1/nodes/connect", Some(&Site::token(token)), None);
        let text = text.replacen("Connection: close\r\n", "", 1).replacen(
            "\r\n\r\n",
            &format!("\r\n{headers}\r\n"),
            1,
        );
        exchange(server.at, text.as_bytes()).status
    };
    assert_eq!(ask("all", upgrade), 403);
    assert_eq!(ask("node", "Connection: close\r\n"), 426);
    assert_eq!(ask("node", &upgrade.replace("13", "8").replace("Upgrade\r\n", "Upgrade, close\r\n")), 426);
    let own = format!("{}Origin: http://localhost\r\nConnection: close\r\n", "");
    assert_eq!(ask("node", &format!("{own}{}", upgrade.replace("Connection: Upgrade\r\n", ""))), 403);
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
