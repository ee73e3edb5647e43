//! A node runs what was vouched for there, whatever its API server sends and whoever rewrites its scripts folder.

use std::fs;

use serde_json::json;

use super::{connected, gone, log, node_site, submit};
use crate::support::{Service, Site, eventually};
use crate::tampering::signed;
use crate::tampering_cases::CASES;
use crate::verifying::vouch;

/// What an API server holds to be offered was offered before the folder was changed.
const TAMPERED: [&str; 5] =
    ["a bit flips", "signed by another key", "an older version", "a link", "several at once"];

#[test]
fn a_node_runs_nothing_of_a_folder_that_was_tampered_with_neither_what_waited_nor_what_is_new() {
    let spec = json!({ "name": "marks.sh" });
    let cases: Vec<_> = CASES.iter().filter(|(what, ..)| TAMPERED.contains(what)).collect();
    assert_eq!(cases.len(), TAMPERED.len());
    for (what, tamper, _) in cases {
        let server = Service::usual();
        let (site, vouched) = signed(node_site(&server, ""));
        let mark = vouched.mark();
        let node = site.start();
        connected(&server);
        let task = server.ended(&submit(&server, &spec));
        assert!(task["status"] == "succeeded" && mark.exists(), "before {what}: {task}");
        fs::remove_file(&mark).unwrap();
        let site = gone(&server, node);
        let waits = submit(&server, &spec);

        tamper(&vouched);

        let node = site.start();
        let task = server.ended(&waits);
        let result = &task["result"];
        assert_eq!(
            (&result["outcome"]["kind"], &result["error"]["code"]),
            (&json!("not_started"), &json!("scripts_unverified")),
            "{what}: {task}"
        );
        eventually("that it offers nothing", || {
            let shown = server.get("/api/v1/nodes/node").json();
            (shown["connected"] == true && shown["scripts"] == json!({})).then_some(())
        });
        let mut new = spec.clone();
        new["target"] = json!({ "node": "node" });
        assert_eq!(server.post("/api/v1/tasks", &new).code(), "not_found", "{what}");
        assert!(!mark.exists(), "{what}: it was executed");
        assert_eq!(node.count(), 1, "{what}");
    }
}

/// A node with or without verification, whose `where.sh` somebody rewrites while it is in use; gives what runs then.
fn said_after_rewriting(verify: bool) -> String {
    let server = Service::usual();
    let site: Site = node_site(&server, &format!("[script_executor]\nis_verify_script_integrity = {verify}"));
    site.write_script("where.sh", "#!/bin/sh\necho vouched for\n");
    vouch(&site, 1);
    let node = site.start();
    let seen = connected(&server)["scripts"]["where.sh"].clone();
    node.site.write_script("where.sh", "#!/bin/sh\necho injected\n");
    if verify {
        eventually("that it has noticed", || {
            let status = node.get("/api/v1/scripts").json()["verification"].clone();
            (status["problems"] != json!([])).then_some(())
        });
        assert_eq!(connected(&server)["scripts"]["where.sh"], seen);
    } else {
        eventually("the changed script", || {
            (connected(&server)["scripts"]["where.sh"] != seen).then_some(())
        });
    }
    let id = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(log(&server, &id), log(&node, &id));
    server.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text()
}

#[test]
fn a_node_goes_on_with_what_was_vouched_for_while_its_folder_is_rewritten() {
    assert_eq!(said_after_rewriting(true), "vouched for\n");
}

#[test]
fn the_twin_a_node_that_verifies_nothing_runs_what_was_put_there() {
    assert_eq!(said_after_rewriting(false), "injected\n");
}
