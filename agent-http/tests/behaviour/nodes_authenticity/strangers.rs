//! Who is not let in: a wrong token, another's name, another version of the protocol. Both ends say why.

use agent_fleet::greeting::sign_hello;
use agent_fleet::keys::NodeKeys;
use agent_fleet::message::{Hello, ToServer, decode, encode};
use serde_json::{Value, json};

use super::middle::{Middle, Way};
use super::{Member, kind, server_of, site};
use crate::support::eventually;

#[test]
fn a_wrong_token_and_the_name_of_another_node_are_refused_and_both_ends_say_so() {
    let server = server_of(&["db-1", "db-2"]);
    let unknown = site("db-1", "nobody", server.at).start();
    let thief = site("db-1", "db-2", server.at).start();
    let caller = site("db-1", "all", server.at).start();
    eventually("401", || unknown.said().contains("the API server answered 401 Unauthorized: ").then_some(()));
    eventually("403", || caller.said().contains("the API server answered 403 Forbidden: ").then_some(()));
    let words = "refused, node_name: the node says that it is 'db-1', and its token is of 'db-2'";
    eventually("the name", || thief.said().contains(words).then_some(()));
    assert!(server.said().contains("a node was not let in"), "{}", server.said());
    let audited = |status: u64| server.audit().iter().any(|line| line["status"] == status);
    eventually("the audit log", || (audited(401) && audited(403)).then_some(()));
    assert_eq!(server.get("/api/v1/nodes").json()["nodes"], json!([]));
    // The twin.
    Member::start(&server, "db-1");
}

#[test]
fn another_version_of_the_protocol_is_refused_by_either_end_with_both_numbers() {
    let server = server_of(&["db-1"]);
    let middle = Middle::start(server.at);
    middle.rewrite(|_, text| {
        let mut message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "challenge" {
            message["version"] = json!(2);
        }
        vec![message.to_string()]
    });
    let node = site("db-1", "db-1", middle.at).start();
    let words = "the other end speaks version 2 of the protocol, and this one speaks 1";
    eventually("the node's refusal", || node.said().contains(words).then_some(()));
    let told = format!("it does not take this API server, version: {words}");
    eventually("the same at the API server", || server.said().contains(&told).then_some(()));

    // A node of a later version, which signs what it says.
    let keys = NodeKeys::open(&node.site.path("state/node/node.key")).unwrap();
    middle.rewrite(move |way, text| {
        if way == Way::ToNode || kind(&text) != "hello" {
            return vec![text];
        }
        let Ok(ToServer::Hello(signed)) = decode(&text) else { panic!("{text}") };
        let hello: Hello = serde_json::from_str(&signed.hello).unwrap();
        let later = sign_hello(&keys, &Hello { version: 2, ..hello }).unwrap();
        vec![encode(&ToServer::Hello(later)).unwrap()]
    });
    eventually("the refusal", || node.said().contains(&format!("refused, version: {words}")).then_some(()));
    // It tells the node first.
    eventually("the words of the API server", || {
        let said = server.said();
        (said.contains("a node was not let in") && said.contains(words)).then_some(())
    });
    middle.rewrite(|_, text| vec![text]);
    eventually("the node", || (server.get("/api/v1/nodes/db-1").json()["connected"] == true).then_some(()));
}

#[test]
fn what_a_node_says_against_its_api_server_steers_no_log_and_fills_none() {
    let server = server_of(&["db-1"]);
    let middle = Middle::start(server.at);
    let words = format!("\u{1b}[2J\n2030-01-01 ERROR made up \u{202e}{}", "x".repeat(100_000));
    middle.rewrite(move |way, text| match way {
        Way::ToNode => vec![text],
        Way::ToServer => {
            vec![json!({ "v": 1, "type": "complaint", "code": "a\nb", "message": words }).to_string()]
        }
    });
    let _node = site("db-1", "db-1", middle.at).start();
    let line = eventually("the complaint", || {
        let said = server.said();
        said.lines().find(|line| line.contains("it does not take this API server")).map(str::to_owned)
    });
    assert!(line.contains("made up") && line.contains("xxx") && line.len() < 1500, "{line}");
    assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line}");
    assert!(!server.said().lines().any(|line| line.starts_with("2030-01-01")), "{}", server.said());
}
