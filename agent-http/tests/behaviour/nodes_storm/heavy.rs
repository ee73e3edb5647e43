//! A thousand tasks under two hundred faults.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::cluster::{Cluster, Memory};
use super::load::Load;
use super::verdict::{Ends, all_ended, look, starts_of, verdict};
use crate::support::{Random, eventually};

/// Faults between two looks at what callers are told.
const LOOK_EVERY: usize = 20;
/// The promise: a task of a quiet cluster ends by then, the coming back of its node included.
const FRESH_WITHIN: Duration = Duration::from_secs(5);

/// How hard it is.
struct Strength {
    nodes: usize,
    tasks: usize,
    faults: usize,
    memory: Memory,
    /// Whether a proxy damages logs, which no proxy of the real world does.
    is_damaged: bool,
}

/// Rages; what is wrong then, if anything is.
fn storm(strength: &Strength) -> Result<(), String> {
    let mut random = Random::new();
    let mut cluster = Cluster::start(strength.nodes, strength.memory, None);
    let starts = cluster.server().site.path("starts");
    std::fs::write(&starts, "").unwrap();
    let load = Load { at: cluster.at, starts, tasks: strength.tasks, nodes: strength.nodes };
    let mut ends = Ends::new();
    let began = Instant::now();
    if strength.is_damaged {
        cluster.nodes[0].proxy.damage_logs();
    }
    let submitting = thread::spawn({
        let load = load.clone();
        move || load.submit_all()
    });
    for fault in 1..=strength.faults {
        cluster.fault(&mut random);
        thread::sleep(Duration::from_millis(random.below(60)));
        if fault % LOOK_EVERY == 0 {
            look(cluster.server(), &mut ends)?;
        }
    }
    submitting.join().expect("the tasks are submitted");
    let raged = began.elapsed();
    cluster.calm();
    all_ended(cluster.server());
    let calmed = began.elapsed() - raged;
    look(cluster.server(), &mut ends)?;
    let count = verdict(&cluster, &load, &ends)?;
    println!("{raged:?} of faults, {calmed:?} to the last end: {count:?}");
    assert!(strength.faults == 0 || (count.interrupted > 0 && count.cancelled > 0), "{count:?}");
    assert!(count.succeeded > strength.tasks / 2 && count.failed > 0, "{count:?}");
    fresh(&cluster);
    Ok(())
}

/// After one more cut of all lines a task ends soon.
fn fresh(cluster: &Cluster) {
    cluster.all_are_connected();
    for node in &cluster.nodes {
        node.proxy.cut_now();
    }
    let began = Instant::now();
    let submitted = cluster.nodes.iter().map(|node| {
        let target = json!({ "node": node.name });
        let reply = cluster.server().post("/api/v1/tasks", &json!({ "name": "hello.sh", "target": target }));
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.id()
    });
    for id in submitted.collect::<Vec<_>>() {
        assert_eq!(cluster.server().ended(&id)["status"], "succeeded");
    }
    let took = began.elapsed();
    println!("fresh tasks ended after {took:?}");
    assert!(took < FRESH_WITHIN, "fresh tasks took {took:?}");
}

#[test]
fn a_thousand_tasks_under_two_hundred_faults_start_once_end_once_and_have_whole_logs() {
    let strength = Strength { nodes: 2, tasks: 1000, faults: 200, memory: Memory::Kept, is_damaged: false };
    storm(&strength).unwrap();
}

#[test]
fn nodes_without_journal_and_history_are_found_to_start_a_task_twice() {
    let mut random = Random::new();
    let mut cluster = Cluster::start(1, Memory::Lost, None);
    let starts = cluster.server().site.path("starts");
    std::fs::write(&starts, "").unwrap();
    let load = Load { at: cluster.at, starts, tasks: 200, nodes: 1 };
    let submitting = thread::spawn({
        let load = load.clone();
        move || load.submit_all()
    });
    let wrong = eventually("a second start", || {
        thread::sleep(Duration::from_millis(100 + random.below(300)));
        cluster.kill_node(0);
        starts_of(&load).err()
    });
    assert!(wrong.contains("was started twice"), "{wrong}");
    submitting.join().expect("the tasks are submitted");
}

#[test]
fn a_line_that_changes_bytes_is_found_by_the_comparison_of_logs() {
    let strength = Strength { nodes: 1, tasks: 10, faults: 0, memory: Memory::Kept, is_damaged: true };
    let wrong = storm(&strength).unwrap_err();
    assert!(wrong.contains("the logs of"), "{wrong}");
}
