//! Either end dies and comes back.

use super::{back, connected, ended_alone, log, node_site, running};
use crate::support::Service;

#[test]
fn an_api_server_that_dies_and_comes_back_has_the_log_whole_and_the_end_once() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let (id, site, port) = ended_alone(server, &node);

    let server = back(site, port);
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
    let site = node.killed();
    let node = site.start();
    let task = server.ended(&id);
    assert_eq!(task["status"], "interrupted", "{task}");
    assert_eq!(log(&server, &id), log(&node, &id));
    assert_eq!(node.count(), 1);
}
