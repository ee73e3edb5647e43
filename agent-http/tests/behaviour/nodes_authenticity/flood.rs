//! A node that says much and reads nothing: what it would be answered fills no memory, and others are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use agent_fleet::frame::LogFrame;

use super::middle::Way;
use super::{Member, server_of};
use crate::support::{eventually, memory_kib};

/// Frames that are sent at once, and how often: a hundred MiB, and many times that as answers that wait.
const AT_ONCE: usize = 4096;
const TIMES: usize = 800;

#[test]
fn a_node_that_reads_no_answers_is_not_heard_and_then_cut_and_memory_stays_flat() {
    let server = server_of(&["db-1", "db-2"]);
    let (honest, liar) = (Member::start(&server, "db-1"), Member::start(&server, "db-2"));
    // The first answer is held, and with it all behind it.
    let (held, hold) = mpsc::channel::<()>();
    liar.middle.rewrite(move |way, text| {
        if way == Way::ToNode {
            // It is let go at the end.
            let _ = hold.recv();
        }
        vec![text]
    });
    let before = memory_kib(server.pid(), "VmRSS");
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = sent.clone();
    let task: task_service::TaskId = "nobody-s".parse().unwrap();
    let middle = liar.middle.clone();
    let flooding = thread::spawn(move || {
        let frame = LogFrame { task, attempt: 1, offset: 0, bytes: b"x" }.encode();
        for _ in 0..TIMES {
            if !middle.flood(Way::ToServer, &frame, AT_ONCE) {
                return;
            }
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (mut last, mut since) = (0, Instant::now());
    eventually("that nothing more is taken", || {
        let now = sent.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (now > 0 && since.elapsed() > Duration::from_secs(2) || now == TIMES).then_some(())
    });
    assert!(last < TIMES, "all of the flood was taken");
    let grown = memory_kib(server.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    let id = honest.submit(&server, "started.sh");
    assert_eq!(server.ended(&id)["status"], "succeeded");
    eventually("the cut", || server.said().contains("the caller takes its bytes too slowly").then_some(()));
    drop(held);
    flooding.join().unwrap();
}
