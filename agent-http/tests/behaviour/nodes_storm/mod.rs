//! An API server and its nodes as processes, lines that do what lines can do, and what is true all the same.

mod cluster;
mod heavy;
mod load;
mod verdict;

use std::thread;
use std::time::Duration;

use cluster::{Cluster, Memory};

/// The idle time after which many proxies close a connection, and one that is shorter than the time between two pings.
const USUAL: Duration = Duration::from_secs(30);
const TOO_SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_proxy_that_closes_idle_connections_after_30_s_never_finds_one() {
    let cluster = Cluster::start(&[USUAL, USUAL], Memory::Kept);
    thread::sleep(USUAL + Duration::from_secs(5));
    for node in &cluster.nodes {
        assert_eq!(node.line.counts(), (1, 0));
    }
}

#[test]
fn a_proxy_with_less_patience_finds_one_and_its_node_comes_back() {
    let cluster = Cluster::start(&[TOO_SHORT], Memory::Kept);
    let counts = crate::support::eventually("a line that is made again", || {
        let (lines, idle_cuts) = cluster.nodes[0].line.counts();
        (lines > 1 && idle_cuts > 0).then_some((lines, idle_cuts))
    });
    assert!(counts.0 > 1);
    cluster.all_are_connected();
}
