//! Assignments that the API server never made, or made for another time. They are signed in the test, by its own code.

use agent_fleet::assignment::{Order, sign};
use agent_fleet::keys::{NodeKeys, Nonce, SigningKey};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use task_runners::TaskSpec;

use super::middle::Way;
use super::{Member, server_of};
use crate::support::eventually;

/// An assignment of `started.sh` for a node, as somebody with this key would make it at that time.
fn made(node: &Member, name: &str, keys: &NodeKeys, key: &SigningKey, task: &str, at: Timestamp) -> String {
    let mut spec = TaskSpec::new("started.sh");
    spec.args = vec![node.notes().display().to_string()];
    signed(&spec, name, keys, key, task, at)
}

/// An assignment for a node, as somebody with this key would make it at that time.
pub(super) fn signed(
    spec: &TaskSpec,
    name: &str,
    keys: &NodeKeys,
    key: &SigningKey,
    task: &str,
    at: Timestamp,
) -> String {
    let order = Order {
        node: name,
        node_key: keys.public(),
        sealing: keys.sealing_key(),
        task: &task.parse().unwrap(),
        nonce: Nonce::random().unwrap(),
        script_sha256: None,
        spec,
        created_by: "a test",
        accepted: at,
    };
    let signed = sign(key, &order, at).unwrap();
    json!({ "v": 1, "type": "assign", "payload": signed.payload, "signature": signed.signature }).to_string()
}

#[test]
fn an_assignment_by_another_key_for_another_node_or_out_of_its_time_starts_nothing() {
    let server = server_of(&["db-1"]);
    let node = Member::start(&server, "db-1");
    let folder = tempfile::tempdir().unwrap();
    let real = SigningKey::open(&server.site.path("state/fleet/server.key")).unwrap();
    let forger = SigningKey::open(&folder.path().join("server.key")).unwrap();
    let keys = NodeKeys::open(&node.service.site.path("state/node/node.key")).unwrap();
    let others = NodeKeys::open(&folder.path().join("node.key")).unwrap();
    let now = Timestamp::now();
    let minutes = |minutes| now + SignedDuration::from_mins(minutes);
    // It is valid for ten minutes; clocks may differ by five.
    for (task, key, name, keys, at, code) in [
        ("forged", &forger, "db-1", &keys, now, "assignment_signature"),
        ("of-another-name", &real, "db-2", &keys, now, "assignment_other_node"),
        ("of-one-set-up-anew", &real, "db-1", &others, now, "assignment_other_node"),
        ("late", &real, "db-1", &keys, minutes(-11), "assignment_time"),
        ("early", &real, "db-1", &keys, minutes(7), "assignment_time"),
    ] {
        let before = node.refused(code);
        node.middle.say(Way::ToNode, &made(&node, name, keys, key, task, at));
        eventually(task, || (node.refused(code) == before + 1).then_some(()));
    }
    for (number, code) in [(1, "assignment_signature"), (2, "assignment_other_node"), (2, "assignment_time")]
    {
        node.has_refused(&server, number, code);
    }
    assert!(node.starts().is_empty() && node.service.count() == 0);

    // The twins: by the right key, for this node, in their time they start.
    for (task, at) in [("now", now), ("a-little-late", minutes(-9)), ("a-little-early", minutes(4))] {
        node.middle.say(Way::ToNode, &made(&node, "db-1", &keys, &real, task, at));
        eventually(task, || node.starts().iter().any(|started| started == task).then_some(()));
    }
    assert_eq!(node.starts().len(), 3);
}

#[test]
fn an_api_server_s_key_that_a_node_does_not_know_signs_nothing_for_it() {
    let server = server_of(&["db-1"]);
    let node = Member::start(&server, "db-1");
    let at = server.at;
    let (node_site, site) = (node.service.stop(), server.stop());
    std::fs::remove_file(site.path("state/fleet/server.key")).unwrap();
    let command = site.command_at(at.port());
    let server = site.start_by(command);
    let service = node_site.start();
    eventually("the refusal", || {
        let said = service.said();
        let is_told = said.contains("and this node accepts") && said.contains("remove the pinned key");
        is_told.then_some(())
    });
    let told = |line: &str| line.contains("it does not take this API server, server_key_changed");
    eventually("the same at the API server", || {
        let said = server.said();
        said.lines()
            .any(|line| told(line) && line.contains("db-1") && line.contains("remove the pinned key"))
            .then_some(())
    });
    assert_eq!(server.get("/api/v1/nodes/db-1").json()["connected"], false);
    // The twin: what was pinned is removed, and the node started again.
    let site = service.stop();
    std::fs::remove_file(site.path("state/node/server.pub")).unwrap();
    let node = Member { service: site.start(), ..node };
    node.connected(&server);
}
