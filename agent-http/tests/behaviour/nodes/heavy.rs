//! A script that says much more than its line carries.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::{connected, named_site, submit};
use crate::support::{Line, Service, eventually, memory_kib};

/// What the script says, and what the line carries in a second.
const MIB: u64 = 200;
const RATE: u32 = 20 << 20;
/// What either end may take more for it: buffers of one connection, and what an allocator keeps.
const MORE_KIB: u64 = 24 << 10;

#[test]
fn a_line_that_is_slower_than_a_script_fills_the_memory_of_neither_end_and_stops_no_script() {
    let server = Service::usual();
    let line = Line::to(server.at);
    let site = named_site(line.at, "node", "");
    site.write_script("endless.sh", &format!("#!/bin/sh\nyes 'a line that says little' | head -c {MIB}M\n"));
    let node = site.start();
    connected(&server);
    // What a first task costs once is no part of it.
    server.ended(&submit(&server, &json!({ "name": "lines.sh" })));
    let before = [&server, &node].map(|end| memory_kib(end.pid(), "VmHWM"));
    line.throttle(RATE);
    let id = submit(&server, &json!({ "name": "endless.sh" }));
    let log = format!("state/tasks/{id}/stdout.txt");
    let [here, there] = [&server, &node].map(|end| end.site.path(&log));
    eventually("the script's end", || {
        let task = node.get(&format!("/api/v1/tasks/{id}")).json();
        (task["status"] == "succeeded").then_some(())
    });
    let carried = fs::metadata(&here).unwrap().len();
    assert!(carried < MIB << 19, "the line carried {carried} bytes, so that nothing waited");
    eventually("the rest", || {
        let task = server.get(&format!("/api/v1/tasks/{id}")).json();
        (task["status"] == "succeeded").then_some(())
    });
    let is_same = Command::new("cmp").arg(&here).arg(&there).status().expect("this test needs cmp");
    assert!(is_same.success() && fs::metadata(&here).unwrap().len() > MIB << 20);
    let after = [&server, &node].map(|end| memory_kib(end.pid(), "VmHWM"));
    println!("KiB at the API server and at the node: {before:?} before, {after:?} at most");
    let is_bounded = before.iter().zip(after).all(|(before, after)| after < before + MORE_KIB);
    assert!(is_bounded, "KiB at the API server and at the node: {before:?} before, {after:?} at most");
}
