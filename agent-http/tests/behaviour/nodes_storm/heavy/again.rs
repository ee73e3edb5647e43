//! The promise: whatever the fault was, work goes on within 5 s of its end where tasks are open.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::USUAL;
use super::super::cluster::{Cluster, Memory, NOTICED};
use super::super::load::until_answered;
use crate::support::{Reply, eventually};

const WITHIN: Duration = Duration::from_secs(5);
/// How often each fault happens.
const ROUNDS: usize = 3;

/// A fault; gives when it was over.
type Fault = fn(&mut Cluster) -> Instant;

const FAULTS: &[(&str, Fault)] = &[
    ("the node is killed", |cluster| cluster.kill_node(0)),
    ("the API server is killed", |cluster| cluster.kill_server(Duration::ZERO)),
    ("the API server is away for a while", |cluster| cluster.kill_server(NOTICED)),
    ("the node is stopped", |cluster| {
        cluster.nodes[0].stop_for(NOTICED);
        Instant::now()
    }),
    ("the API server is stopped", |cluster| {
        cluster.stop_server_for(NOTICED);
        Instant::now()
    }),
    ("the line is cut", |cluster| {
        cluster.nodes[0].line.cut_now();
        Instant::now()
    }),
    ("the line is cut for a while", |cluster| {
        cluster.nodes[0].line.cut();
        thread::sleep(NOTICED);
        cluster.nodes[0].line.mend();
        Instant::now()
    }),
    ("the line is held", |cluster| {
        cluster.nodes[0].hold_for(NOTICED);
        Instant::now()
    }),
];

/// What the API server answers, as soon as it does.
fn ask(cluster: &Cluster, method: &str, path: &str, body: Option<&Value>) -> Reply {
    until_answered(cluster.at, method, &format!("/api/v1/tasks{path}"), body)
}

fn submit(cluster: &Cluster, name: &str, args: &[&str]) -> String {
    let spec = json!({ "name": name, "args": args, "target": { "node": "node-1" } });
    let reply = ask(cluster, "POST", "", Some(&spec));
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.id()
}

/// Has a task run to the end of the test, so that somebody waits for the node.
fn open_task(cluster: &Cluster) {
    let id = submit(cluster, "gate.sh", &["nowhere"]);
    eventually("the open task", || {
        let log = ask(cluster, "GET", &format!("/{id}/log"), None).text();
        log.contains("waiting\n").then_some(())
    });
}

/// Has the fault happen, and gives how long it took to work again.
fn measured(fault: Fault) -> Vec<Duration> {
    let mut cluster = Cluster::start(&[USUAL], Memory::Kept);
    let rounds = (0..ROUNDS).map(|_| {
        open_task(&cluster);
        let over = fault(&mut cluster);
        let id = submit(&cluster, "hello.sh", &[]);
        let task = ask(&cluster, "GET", &format!("/{id}?wait=60"), None).json();
        assert_eq!(task["status"], "succeeded", "{task}");
        over.elapsed()
    });
    rounds.collect()
}

#[test]
fn a_fresh_task_ends_within_5_s_of_the_end_of_each_fault_where_another_one_is_open() {
    let took: Vec<(&str, Vec<Duration>)> = thread::scope(|scope| {
        let running: Vec<_> =
            FAULTS.iter().map(|(name, fault)| (*name, scope.spawn(|| measured(*fault)))).collect();
        running.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    took.iter().for_each(|(name, times)| println!("{name}: {times:?}"));
    let late: Vec<_> = took.iter().filter(|(_, times)| times.iter().any(|time| *time > WITHIN)).collect();
    assert!(late.is_empty(), "{late:?}");
}
