//! A node that says more than is worked on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agent_fleet::frame::LogFrame;
use agent_fleet::link::Frame;
use rusqlite::Connection;

use super::{Place, id, keys, named, order};

/// Bytes of a part of a log, and how many of them the node says.
const LONG_BYTES: usize = 3 << 20;
const MESSAGES: usize = 30;
/// What of it may wait in the API server's memory.
const ROOM_BYTES: usize = 32 << 20;

#[test]
fn what_a_node_says_waits_with_the_node_while_a_disk_is_held_up() {
    let place = Place::new();
    let agent = place.agent();
    let mut a = agent.node("a", &keys(&place, "a"));
    // Nobody can write to the database of nodes now, as while a disk hangs.
    let other = Connection::open(place.path("fleet/fleet.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    agent.start(order("held-up", 1, &named("a")));
    let before = a.heard.load(Ordering::Relaxed);
    let frame = LogFrame { task: id("held-up"), attempt: 1, offset: 1 << 30, bytes: &vec![b'x'; LONG_BYTES] };
    for _ in 0..MESSAGES {
        a.says.send(Frame::Log(frame.encode())).unwrap();
    }
    let heard = || a.heard.load(Ordering::Relaxed) - before;
    agent.eventually("as much as there is room for", || (heard() > ROOM_BYTES - LONG_BYTES).then_some(()));
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(heard() <= ROOM_BYTES + 2 * LONG_BYTES, "{} bytes wait in memory", heard());
        std::thread::sleep(Duration::from_millis(5));
    }
    other.execute_batch("ROLLBACK").unwrap();
    agent.eventually("all of it", || (heard() > MESSAGES * LONG_BYTES).then_some(()));
    agent.wait(a.takes("held-up"));
}
