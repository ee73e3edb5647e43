//! Who is let in as a node, and whom a node believes.

use serde_json::json;

use super::{connected, node_site, submit};
use crate::support::{Service, Site, eventually, exchange, request_text};

#[test]
fn a_node_takes_tasks_of_the_api_server_that_it_knows_only() {
    let server = Service::usual();
    let key = "0".repeat(64);
    let node = node_site(&server, &format!("assignment_public_keys = [\"{key}\"]")).start();
    eventually("the node's refusal", || node.said().contains("this node accepts").then_some(()));
    let told = |line: &str| line.contains("server_key_changed") && line.contains("this node accepts");
    eventually("the same at the API server", || server.said().lines().any(told).then_some(()));
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("devops_agent_nodes_refusals_total{code=\"by_node\"} "), "{metrics}");
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
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("devops_agent_nodes_refusals_total{code=\"node_key_changed\"} "), "{metrics}");
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
