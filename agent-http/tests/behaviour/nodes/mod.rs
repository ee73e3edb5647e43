//! An API server and a node, each a process of its own: tasks run there, logs and results come back, and neither a crash nor
//! a stranger changes that.

mod away;
mod chain;
mod crashes;
mod draining;
mod faults;
mod forgetting;
mod heavy;
mod hooks;
mod ids;
mod link;
mod lost;
mod offering;
mod pools;
mod reading;
mod running;
mod trust;
mod vouched;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Service, Site, eventually};

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

/// An API server that lets nodes of these names in, besides the usual one.
fn server_of(names: &[&str]) -> Service {
    let section = |name: &&str| {
        let digest = Site::digest(name);
        format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"node\"]\n")
    };
    Site::new(&names.iter().map(section).collect::<String>()).start()
}

/// A site that is a node of an API server. It has the scripts above; the API server has none of them.
fn node_site(server: &Service, settings: &str) -> Site {
    named_site(server.at, "node", settings)
}

/// The same under a name.
fn named_site(at: SocketAddr, name: &str, settings: &str) -> Site {
    let site = Site::new(&format!(
        "[node]\napi_server = \"ws://{at}\"\nname = \"{name}\"\ntoken_file = \"node.token\"\n{settings}\n"
    ));
    for (name, text) in SCRIPTS {
        site.write_script(name, text);
    }
    let token = site.path("node.token");
    fs::write(&token, Site::token(name)).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    site
}

/// Waits until the node is there and what it offers is known.
fn connected(server: &Service) -> Value {
    connected_as(server, "node")
}

fn connected_as(server: &Service, name: &str) -> Value {
    eventually("the node's catalogue", || {
        let node = server.get(&format!("/api/v1/nodes/{name}")).json();
        let offers = node["scripts"].as_object().is_some_and(|scripts| scripts.contains_key("where.sh"));
        (node["connected"] == true && offers).then_some(node)
    })
}

fn submit(server: &Service, spec: &Value) -> String {
    submit_to(server, &json!({ "node": "node" }), spec)
}

fn submit_to(server: &Service, target: &Value, spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["target"] = target.clone();
    let reply = server.post("/api/v1/tasks", &spec);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.id()
}

fn task(server: &Service, id: &str) -> Value {
    server.get(&format!("/api/v1/tasks/{id}")).json()
}

/// The task once it is as it is wanted.
fn task_when(server: &Service, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(task(server, id)).filter(&is_so))
}

fn log(server: &Service, id: &str) -> Vec<u8> {
    server.get(&format!("/api/v1/tasks/{id}/log")).body
}

/// A task that runs at the node until its gate is there, and whose log has begun to come.
fn running(server: &Service, node: &Service) -> (String, std::path::PathBuf) {
    let gate = node.site.path("gate");
    let id = submit(server, &json!({ "name": "gate.sh", "args": [gate] }));
    eventually("the first line of the log", || {
        String::from_utf8_lossy(&log(server, &id)).contains("waiting\n").then_some(())
    });
    (id, gate)
}

/// The API server dies while a task runs at its node, which ends the task meanwhile; gives the task, the site of the API
/// server and its port.
fn ended_alone(server: Service, node: &Service) -> (String, Site, u16) {
    let (id, gate) = running(&server, node);
    let port = server.at.port();
    let site = server.killed();
    fs::write(&gate, "").unwrap();
    assert_eq!(node.ended(&id)["status"], "succeeded");
    (id, site, port)
}

/// An API server starts where one was before.
fn back(site: Site, port: u16) -> Service {
    let command = site.command_at(port);
    site.start_by(command)
}

/// Stops a node, and waits until its API server knows; gives its site.
fn gone(server: &Service, node: Service) -> Site {
    let site = node.stop();
    eventually("the cut line", || {
        (server.get("/api/v1/nodes/node").json()["connected"] == false).then_some(())
    });
    site
}
