//! Somebody stands between nodes and their API server, and reads, changes, keeps back, repeats and makes up messages: what
//! starts at a node is what its API server signed for it, once, in its time. Each script that starts writes a line.

mod flood;
mod forged;
mod lies;
mod middle;
mod opened;
mod strangers;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Service, Site, eventually};
use middle::{Middle, Way};

/// Notes its start.
const STARTED: &str = "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\n";
/// Notes its start, and ends when its gate is there.
const GATED: &str =
    "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\necho begun\nuntil [ -e \"$2\" ]; do sleep 0.02; done\n";

/// A node, and who stands in front of it.
struct Member {
    name: String,
    middle: Middle,
    service: Service,
}

/// An API server that knows these nodes.
fn server_of(names: &[&str]) -> Service {
    server_with(names, "")
}

/// The same with further settings.
fn server_with(names: &[&str], settings: &str) -> Service {
    let sections = names.iter().map(|name| {
        let digest = Site::digest(name);
        format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"node\"]\n")
    });
    Site::new(&format!("{settings}{}", sections.collect::<String>())).start()
}

/// The site of a node of that name, with that token, that calls there.
fn site(name: &str, token: &str, at: std::net::SocketAddr) -> Site {
    site_with(name, token, at, "")
}

/// The same with further settings of `[node]`.
fn site_with(name: &str, token: &str, at: std::net::SocketAddr, settings: &str) -> Site {
    let site = Site::new(&format!(
        "[node]\napi_server = \"ws://{at}\"\nname = \"{name}\"\ntoken_file = \"node.token\"\n{settings}"
    ));
    site.write_secret("node.token", &Site::token(token));
    site.write_script("started.sh", STARTED);
    site.write_script("gated.sh", GATED);
    site
}

impl Member {
    /// A node of that name, connected.
    fn start(server: &Service, name: &str) -> Self {
        Self::start_at(server, name, |at| site(name, name, at))
    }

    /// The same with a site of its own, which calls where it is told to.
    fn start_at(server: &Service, name: &str, site: impl FnOnce(std::net::SocketAddr) -> Site) -> Self {
        let middle = Middle::start(server.at);
        let service = site(middle.at).start();
        let member = Self { name: name.to_owned(), middle, service };
        member.connected(server);
        member
    }

    fn connected(&self, server: &Service) {
        eventually("the node", || {
            let node = server.get(&format!("/api/v1/nodes/{}", self.name)).json();
            let offers = node["scripts"].as_object().is_some_and(|found| found.contains_key("gated.sh"));
            (node["connected"] == true && offers).then_some(())
        });
    }

    /// The file that scripts write into.
    fn notes(&self) -> PathBuf {
        self.service.site.path("notes")
    }

    /// The starts.
    fn starts(&self) -> Vec<String> {
        let notes = fs::read_to_string(self.notes()).unwrap_or_default();
        notes.lines().map(ToOwned::to_owned).collect()
    }

    /// Has a script run here, as its API server wants it.
    fn submit(&self, server: &Service, name: &str) -> String {
        let args = [self.notes(), self.service.site.path("gate")];
        let spec = json!({ "name": name, "args": args, "target": { "node": self.name } });
        let reply = server.post("/api/v1/tasks", &spec);
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.id()
    }

    /// How many assignments the node has refused for that reason.
    fn refused(&self, code: &str) -> usize {
        self.counted(&format!("assignments_refused_total{{code=\"{code}\"}}"))
    }

    /// What the node counts under that name.
    fn counted(&self, name: &str) -> usize {
        let series = format!("devops_agent_node_{name} ");
        let text = self.service.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
        line.parse().unwrap()
    }

    /// Waits until it has refused so many, and both ends have said why.
    fn has_refused(&self, server: &Service, number: usize, code: &str) {
        eventually(code, || (self.refused(code) == number).then_some(()));
        assert_eq!(self.service.said().matches(&format!("code=\"{code}\"")).count(), number);
        eventually("the complaints", || {
            let said = server.said();
            let complaints = said.lines().filter(|line| line.contains("a node complains"));
            let of_it = complaints.filter(|line| line.contains(code) && line.contains(&self.name));
            (of_it.count() == number).then_some(())
        });
    }

    /// Keeps every assignment back from now on; gives where they are put.
    fn keep_back(&self) -> Arc<Mutex<Vec<String>>> {
        let kept = Arc::<Mutex<Vec<String>>>::default();
        let keeping = kept.clone();
        self.middle.rewrite(move |way, text| {
            if way == Way::ToNode && kind(&text) == "assign" {
                keeping.lock().unwrap().push(text);
                return Vec::new();
            }
            vec![text]
        });
        kept
    }

    /// The assignment of a task, which the node does not get.
    fn kept_back(&self, server: &Service, script: &str) -> (String, String) {
        let kept = self.keep_back();
        let id = self.submit(server, script);
        let text = eventually("the assignment", || kept.lock().unwrap().first().cloned());
        (id, text)
    }
}

fn kind(text: &str) -> String {
    let message: Value = serde_json::from_str(text).unwrap();
    message["type"].as_str().unwrap_or_default().to_owned()
}

/// The other character that differs in one bit.
fn turned(text: &str, at: usize) -> String {
    let turn = |(place, character)| match (place == at, character) {
        (true, character) => char::from_u32(u32::from(character) ^ 1).unwrap(),
        (false, character) => character,
    };
    text.chars().enumerate().map(turn).collect()
}

#[test]
fn an_assignment_that_was_changed_anywhere_starts_nothing_and_the_authentic_one_starts_once() {
    let server = server_of(&["db-1"]);
    let node = Member::start(&server, "db-1");
    let (id, authentic) = node.kept_back(&server, "started.sh");
    let message: Value = serde_json::from_str(&authentic).unwrap();
    let payload = message["payload"].as_str().unwrap();
    let signature = message["signature"].as_str().unwrap();
    let mut payloads = Vec::new();
    let fields: Value = serde_json::from_str(payload).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        let mut other = fields.clone();
        other[field] = match (field.as_str(), value) {
            ("task", _) => json!("another"),
            ("spec", spec) => {
                let mut spec = spec.clone();
                spec["args"][0] = json!(node.service.site.path("elsewhere"));
                spec
            }
            ("expires", _) => json!("2100-01-01T00:00:00Z"),
            (_, Value::String(text)) => json!(turned(text, 0)),
            (_, _) => json!({ "more": "00" }),
        };
        assert_ne!(other, fields, "{field}");
        payloads.push(other.to_string());
    }
    assert!(payloads.len() >= 9, "{fields}");
    payloads.extend((0..payload.len()).step_by(7).map(|at| turned(payload, at)));
    payloads.extend([format!("{payload} "), payload[..payload.len() - 1].to_owned(), String::new()]);
    let mut wrong: Vec<Value> = Vec::new();
    wrong.extend(payloads.iter().map(|payload| json!({ "payload": payload, "signature": signature })));
    let signatures = (0..signature.len()).step_by(5).map(|at| {
        let digit = if signature.as_bytes()[at] == b'0' { "1" } else { "0" };
        format!("{}{digit}{}", &signature[..at], &signature[at + 1..])
    });
    wrong.extend(signatures.map(|signature| json!({ "payload": payload, "signature": signature })));
    for wrong in &mut wrong {
        (wrong["v"], wrong["type"]) = (json!(1), json!("assign"));
        node.middle.say(Way::ToNode, &wrong.to_string());
    }
    node.has_refused(&server, wrong.len(), "assignment_signature");
    assert!(node.starts().is_empty() && node.service.count() == 0, "{:?}", node.starts());
    assert_eq!(server.get(&format!("/api/v1/tasks/{id}")).json()["status"], "running");

    // The twin: as it was signed it starts.
    node.middle.say(Way::ToNode, &authentic);
    node.middle.rewrite(|_, text| vec![text]);
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(node.starts(), [id]);
}

#[test]
fn an_assignment_that_is_repeated_starts_once_on_whatever_connection_and_after_whatever_end() {
    let server = server_of(&["db-1"]);
    let mut node = Member::start(&server, "db-1");
    let id = node.submit(&server, "gated.sh");
    eventually("the start", || (!node.starts().is_empty()).then_some(()));
    let assign = node.middle.seen(Way::ToNode).into_iter().find(|text| kind(text) == "assign").unwrap();
    let repeat = |node: &Member| (0..20).for_each(|_| node.middle.say(Way::ToNode, &assign));

    // While it runs: on this connection, and on the next one.
    repeat(&node);
    node.middle.cut();
    eventually("the cut line", || server.said().contains("the line to a node is cut").then_some(()));
    node.connected(&server);
    repeat(&node);
    let numbers =
        |node: &Member| ["connected", "connections_total", "tasks_unsettled"].map(|name| node.counted(name));
    eventually("the numbers", || (numbers(&node) == [1, 2, 1]).then_some(()));
    fs::write(node.service.site.path("gate"), "").unwrap();
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(node.starts(), std::slice::from_ref(&id));

    // When it is settled; and when the node has been started again.
    let settled = || node.middle.seen(Way::ToNode).iter().any(|text| kind(text) == "settled");
    eventually("settled", || settled().then_some(()));
    eventually("nothing unsettled", || (numbers(&node) == [1, 2, 0]).then_some(()));
    let log = server.get(&format!("/api/v1/tasks/{id}/log")).body;
    assert!(node.counted("log_bytes_sent_total") >= log.len());
    repeat(&node);
    node.has_refused(&server, 20, "settled_before");
    let command_site = node.service.stop();
    node.service = command_site.start();
    eventually("the node again", || {
        node.service.said().contains("connected to the API server").then_some(())
    });
    node.connected(&server);
    repeat(&node);
    eventually("the refusals", || (node.refused("settled_before") == 20).then_some(()));
    assert_eq!(node.starts(), [id]);
    assert_eq!(node.service.count(), 1);
}

#[test]
fn an_assignment_of_another_node_starts_nothing_here_and_once_there() {
    let server = server_of(&["db-1", "db-2"]);
    let (first, second) = (Member::start(&server, "db-1"), Member::start(&server, "db-2"));
    let (id, assign) = first.kept_back(&server, "started.sh");
    second.middle.say(Way::ToNode, &assign);
    second.has_refused(&server, 1, "assignment_other_node");
    assert_eq!(second.service.count(), 0);
    first.middle.say(Way::ToNode, &assign);
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!((first.starts().len(), second.starts().len()), (1, 0));
    assert!(!second.service.said().contains(&id), "what is not believed is not repeated");
}
