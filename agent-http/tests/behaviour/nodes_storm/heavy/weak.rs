//! The storm's twins: each is weakened in one thing, and the storm finds it.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use agent_fleet::frame::LogFrame;
use serde_json::Value;

use super::super::USUAL;
use super::super::cluster::{Cluster, Memory};
use super::super::verdict::starts_of;
use super::Storm;
use crate::support::{BINARY, Frame, Random, TEXT, Way};

/// Kills of the node while tasks come: enough for a second start where anything allows one.
const KILLS: usize = 60;

/// Kills a node again and again whose history is kept short; whether a task was started twice.
fn killed_again_and_again(memory: Memory) -> Result<usize, String> {
    let mut random = Random::new();
    let mut storm = Storm::new(Cluster::start(&[USUAL], memory), 200, KILLS);
    let submitting = storm.submitting();
    let mut starts = Ok(0);
    while storm.load.next_fault().is_some() {
        if starts.is_ok() {
            thread::sleep(Duration::from_millis(100 + random.below(300)));
            storm.cluster.kill_node(0);
            starts = starts_of(&storm.load).map(|starts| starts.len());
        }
    }
    submitting.join().expect("the tasks are submitted");
    starts
}

#[test]
fn nodes_without_a_journal_are_found_to_start_a_task_twice_and_those_with_one_are_not() {
    let wrong = killed_again_and_again(Memory::NoJournal).unwrap_err();
    assert!(wrong.contains("was started twice"), "{wrong}");
    let starts = killed_again_and_again(Memory::Short).unwrap();
    assert!(starts > KILLS, "{starts} starts show nothing");
}

/// As if nobody went on where the other end stands: the node is told that nothing of a log is held, and begins again; and
/// what comes is appended, wherever it belongs.
fn without_resume() -> impl FnMut(Way, Frame) -> Vec<Frame> {
    let mut ends: HashMap<String, u64> = HashMap::new();
    move |way, frame| match (way, frame.kind()) {
        (Way::ToNode, TEXT) => vec![from_the_start(frame, &mut ends)],
        (Way::ToServer, BINARY) => vec![appended(&frame, &mut ends)],
        _ => vec![frame],
    }
}

fn from_the_start(frame: Frame, ends: &mut HashMap<String, u64>) -> Frame {
    let mut message: Value = serde_json::from_str(&frame.text()).unwrap();
    let task = |said: &Value| said["task"].as_str().unwrap_or_default().to_owned();
    if message["again"] == true {
        ends.insert(task(&message), message["bytes"].as_u64().unwrap());
    }
    if message["type"] != "welcome" {
        return frame;
    }
    for standing in message["tasks"].as_array_mut().unwrap() {
        ends.insert(task(standing), standing["held"].as_u64().unwrap());
        standing["held"] = 0.into();
    }
    Frame::new(Way::ToNode, TEXT, message.to_string().as_bytes())
}

fn appended(frame: &Frame, ends: &mut HashMap<String, u64>) -> Frame {
    let payload = frame.payload();
    let mut log = LogFrame::decode(&payload).unwrap();
    let end = ends.entry(log.task.to_string()).or_default();
    log.offset = *end;
    *end += log.bytes.len() as u64;
    Frame::new(Way::ToServer, BINARY, &log.encode())
}

#[test]
fn logs_that_are_not_resumed_are_found_by_their_comparison() {
    let mut storm = Storm::new(Cluster::start(&[USUAL], Memory::Kept), 150, 30);
    storm.cluster.nodes[0].line.change(without_resume());
    let wrong = storm.rage().unwrap_err();
    assert!(wrong.contains("the logs of"), "{wrong}");
}

#[test]
fn a_line_that_changes_bytes_is_found_by_the_comparison_of_logs() {
    let mut storm = Storm::new(Cluster::start(&[USUAL], Memory::Kept), 10, 0);
    storm.cluster.nodes[0].line.change(|way, frame| {
        if frame.kind() != BINARY {
            return vec![frame];
        }
        let mut payload = frame.payload();
        *payload.last_mut().unwrap() ^= 1;
        vec![Frame::new(way, BINARY, &payload)]
    });
    let wrong = storm.rage().unwrap_err();
    assert!(wrong.contains("the logs of"), "{wrong}");
}
