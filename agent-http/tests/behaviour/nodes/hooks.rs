//! A hook whose script runs on a node.

use serde_json::json;

use super::{connected, log, node_site};
use crate::hooks::{Delivery, GITHUB, push};
use crate::support::Site;

#[test]
fn a_hook_starts_a_script_of_a_node_under_its_own_name() {
    let hook = |name: &str, target: &str| {
        format!(
            "[[hook]]\nname = \"{name}\"\nscript = \"where.sh\"\nscheme = \"github\"\nsecret_file = \"s\"\ntarget = {target}\n"
        )
    };
    let by_name = hook("named", "{ node = \"node\" }");
    let by_labels = hook("labelled", "{ labels = { role = \"db\" } }");
    let elsewhere = hook("elsewhere", "{ labels = { role = \"web\" } }");
    let site = Site::new(&[by_name, by_labels, elsewhere].concat());
    site.write_secret("s", GITHUB);
    let server = site.start();
    let _node = node_site(&server, "labels = { role = \"db\" }").start();
    connected(&server);
    for name in ["named", "labelled"] {
        let reply = Delivery::github(name, GITHUB, &push()).send(&server);
        assert_eq!(reply.status, 202, "{name}: {}", reply.text());
        let task = server.ended(&reply.id());
        assert_eq!((&task["status"], &task["node"]), (&json!("succeeded"), &json!("node")), "{task}");
        let printed = String::from_utf8(log(&server, &reply.id())).unwrap();
        assert!(printed.contains(&format!(" for hook:{name}\n")), "{printed}");
    }
    // The twin: no node is meant by these labels.
    let reply = Delivery::github("elsewhere", GITHUB, &push()).send(&server);
    assert_eq!((reply.status, reply.code().as_str()), (503, "hook_unusable"), "{}", reply.text());
}
