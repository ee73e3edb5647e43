//! A canary on its way to a node: it is looked for on the line, and at both ends wherever anybody but its script could look.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ct_codecs::{Base64, Encoder};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::canary::{
    NOWHERE, SCRIPT, canary, holds, in_answers, in_files, in_memory, in_processes, open_gate, secret_file,
};
use crate::support::{Line, Service, Site, eventually};

/// An API server and its node, whose logs say all that they can say, and somebody who keeps what passes between them.
struct Stage {
    server: Service,
    node: Service,
    line: Line,
    passed: Arc<Mutex<Vec<u8>>>,
    gate: PathBuf,
}

fn talkative(site: Site) -> Service {
    let mut command = site.command();
    command.env("RUST_LOG", "trace");
    site.start_by(command)
}

impl Stage {
    fn new() -> Self {
        let server = talkative(Site::new(""));
        let line = Line::to(server.at);
        let passed = Arc::<Mutex<Vec<u8>>>::default();
        let keeping = passed.clone();
        line.change(move |_, frame| {
            keeping.lock().unwrap().extend(frame.payload());
            vec![frame]
        });
        let site = Site::new(&format!(
            "[limits]\nconcurrent = 1\n\
             [node]\napi_server = \"ws://{}\"\nname = \"node\"\ntoken_file = \"node.token\"\n",
            line.at
        ));
        site.write_secret("node.token", &Site::token("node"));
        site.write_script("waits.sh", SCRIPT);
        let gate = site.path("gate");
        mkfifo(&gate, Mode::S_IRWXU).unwrap();
        let stage = Self { server, node: talkative(site), line, passed, gate };
        stage.connected();
        stage
    }

    fn connected(&self) {
        eventually("the node", || {
            let node = self.server.get("/api/v1/nodes/node").json();
            (node["connected"] == true && node["scripts"]["waits.sh"].is_string()).then_some(())
        });
    }

    /// Submits the script that waits at its gate.
    fn submit(&self, id: &str, params: &Value) {
        let mut params = params.clone();
        params["gate"] = self.gate.to_str().unwrap().into();
        let target = json!({ "node": "node" });
        let spec =
            json!({ "name": "waits.sh", "id": id, "params": params, "target": target, "debug_script": true });
        let reply = self.server.post("/api/v1/tasks", &spec);
        assert_eq!(reply.status, 202, "{}", reply.text());
    }

    /// Every place that holds the canary and that others than the script can see.
    fn places_with(&self, canary: &str) -> Vec<String> {
        let mut found = in_processes(canary);
        for (name, end) in [("API server", &self.server), ("node", &self.node)] {
            let there = in_files(end.site.folder(), canary).into_iter().chain(in_answers(end, canary));
            found.extend(there.map(|place| format!("{name}: {place}")));
            if end.said().contains(canary) {
                found.push(format!("{name}: what it says"));
            }
        }
        let passed = self.passed.lock().unwrap();
        let forms = forms(canary).into_iter().filter(|(_, form)| holds(&passed, form));
        found.extend(forms.map(|(name, _)| format!("line: {name}")));
        found
    }
}

/// How it could be written: as it is, in hexadecimal digits, and in Base64 wherever in a text it begins.
fn forms(canary: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![("plain", canary.to_owned()), ("hexadecimal", hex::encode(canary))];
    for before in ["", "x", "xx"] {
        let encoded = Base64::encode_to_string(format!("{before}{canary}")).unwrap();
        // What its neighbours have a part in differs.
        forms.push(("Base64", encoded[4..encoded.len() - 4].to_owned()));
    }
    forms
}

#[test]
fn a_secret_for_a_node_is_in_its_scripts_own_file_and_neither_on_the_line_nor_anywhere_at_either_end() {
    let (mut stage, canary) = (Stage::new(), canary());
    let secret = json!({ "token": canary });
    stage.submit("one", &secret);
    let file = secret_file(&stage.server, "one");
    // One waits at the node, and one at the API server, for a line.
    stage.submit("two", &secret);
    eventually("the second one at the node", || {
        (stage.node.get("/api/v1/tasks/two").status == 200).then_some(())
    });
    stage.line.cut();
    stage.submit("three", &secret);
    assert_eq!(stage.places_with(&canary), NOWHERE);
    assert_eq!(in_memory(&canary), [file.as_path()]);

    stage.line.mend();
    stage.connected();
    open_gate(&stage.gate);
    let ended = stage.server.ended("one");
    assert_eq!(ended["result"]["output_params"]["LENGTH"], canary.len().to_string(), "{ended}");
    secret_file(&stage.server, "two");
    eventually("the third one at the node", || {
        (stage.node.get("/api/v1/tasks/three").status == 200).then_some(())
    });
    assert_eq!(stage.places_with(&canary), NOWHERE);

    // The node dies while one runs and one waits.
    stage.node.signal(Signal::SIGKILL);
    let (_, site, said) = stage.node.ended_with();
    assert!(!said.contains(&canary));
    assert_eq!(in_files(site.folder(), &canary), NOWHERE);
    stage.node = talkative(site);
    stage.connected();
    for id in ["two", "three"] {
        let task = stage.server.ended(id);
        assert_eq!(task["status"], "interrupted", "{task}");
    }
    assert_eq!(stage.places_with(&canary), NOWHERE);
    assert_eq!(in_memory(&canary), Vec::<PathBuf>::new());
    // And when both databases were closed in order.
    for end in [stage.node, stage.server] {
        assert_eq!(in_files(end.stop().folder(), &canary), NOWHERE);
    }
}

/// The twin: the same search finds what is no secret, on the line and at both ends.
#[test]
fn what_is_no_secret_is_found_on_the_line_and_at_both_ends() {
    let (stage, canary) = (Stage::new(), canary());
    stage.submit("one", &json!({ "token": "x", "plain": canary }));
    secret_file(&stage.server, "one");
    let found = stage.places_with(&canary);
    for place in [
        "cmdline",
        "line: plain",
        "API server: agent.db-wal",
        "API server: /api/v1/tasks/one",
        "node: agent.db-wal",
        "node: task.json",
        "node: /api/v1/tasks/one",
    ] {
        assert!(found.iter().any(|found| found == place), "{place}: {found:?}");
    }
    open_gate(&stage.gate);
    stage.server.ended("one");
    let mut passed = stage.passed.lock().unwrap();
    for (form, text) in forms(&canary) {
        assert!(form == "plain" || !holds(&passed, &text));
    }
    // Each form is found where it is.
    let whole = Base64::encode_to_string(format!("another {canary} word")).unwrap();
    passed.extend(whole.bytes().chain(hex::encode(&canary).into_bytes()));
    let found = forms(&canary).into_iter().filter(|(_, form)| holds(&passed, form)).map(|(name, _)| name);
    assert_eq!(found.collect::<Vec<_>>(), ["plain", "hexadecimal", "Base64"]);
}
