//! What becomes of a connection whose other end is there and does not do its part.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{connected, log, named_site, running, submit, task_when};
use crate::support::{Frame, Line, PING, Service, Way, eventually};

/// Tasks whose logs, or whose arguments, are more than the kernels of both ends keep for a connection that nobody reads.
const MANY_LOGS: usize = 40;
const MANY_SPECS: usize = 16;

/// An API server, and a node that is connected by a line.
fn scene() -> (Service, Line, Service) {
    let server = Service::usual();
    let line = Line::to(server.at);
    let site = named_site(line.at, "node", "");
    site.write_script("much.sh", "#!/bin/sh\nseq 1 60000\n");
    let node = site.start();
    connected(&server);
    (server, line, node)
}

/// Does something while the API server seems to be alive to its node.
fn while_alive(line: &Line, act: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                // There may be no line just now.
                let _ = line.send(Way::ToNode, &Frame::new(Way::ToNode, PING, b""));
                thread::sleep(Duration::from_millis(500));
            }
        });
        act();
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_second_connection_of_a_node_takes_the_place_of_one_that_only_the_api_server_believes_in() {
    let (server, line, node) = scene();
    let (id, gate) = running(&server, &node);
    line.leave_behind();
    eventually("another connection", || {
        server.said().contains("another connection of this node has replaced it").then_some(())
    });
    let other = submit(&server, &json!({ "name": "where.sh" }));
    assert_eq!(server.ended(&other)["status"], "succeeded");
    fs::write(gate, "").unwrap();
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(log(&server, &id), log(&node, &id));
    assert_eq!((node.count(), line.counts().0), (2, 2));
}

#[test]
fn a_node_whose_messages_nobody_reads_notices_though_the_other_end_lives_and_sends_them_again() {
    let (server, line, node) = scene();
    line.deafen(Way::ToServer);
    let ids: Vec<String> = (0..MANY_LOGS).map(|_| submit(&server, &json!({ "name": "much.sh" }))).collect();
    while_alive(&line, || {
        eventually("that nothing is read", || {
            node.said().contains("a message could not be sent within").then_some(())
        });
    });
    line.calm();
    for id in ids {
        let task = server.ended(&id);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(log(&server, &id), log(&node, &id));
    }
    assert_eq!(node.count(), MANY_LOGS);
}

#[test]
fn an_api_server_whose_messages_nobody_reads_notices_and_sends_them_again() {
    let (server, line, node) = scene();
    line.deafen(Way::ToNode);
    let args = vec!["x".repeat(100_000); 8];
    let spec = json!({ "name": "hello.sh", "args": args });
    let ids: Vec<String> = (0..MANY_SPECS).map(|_| submit(&server, &spec)).collect();
    eventually("that nothing is read", || {
        server.said().contains("the caller takes its bytes too slowly").then_some(())
    });
    line.calm();
    for id in ids {
        let task = server.ended(&id);
        assert_eq!(task["status"], "succeeded", "{task}");
        assert_eq!(log(&server, &id), log(&node, &id));
    }
}

#[test]
fn a_connection_that_leads_nowhere_is_given_up_soon_where_tasks_are_open() {
    let (server, line, node) = scene();
    let (id, gate) = running(&server, &node);
    line.swallow(true);
    line.cut_now();
    eventually("that it was in vain", || {
        node.said().contains("did not let this node in within 7 s").then_some(())
    });
    line.swallow(false);
    task_when(&server, &id, "that its node is back", |task| task["unreachable_since"].is_null());
    fs::write(gate, "").unwrap();
    assert_eq!(server.ended(&id)["status"], "succeeded");
    assert_eq!(log(&server, &id), log(&node, &id));
}
