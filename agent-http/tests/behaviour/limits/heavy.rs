//! Many attackers at once against the real program.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::send;
use crate::support::{Site, eventually, memory_kib, request_text};

#[test]
fn four_hundred_attackers_are_cut_off_while_honest_callers_are_served_quickly() {
    let site = Site::new("");
    site.write_script("flood.sh", "#!/bin/sh\nhead -c 50331648 /dev/zero\n");
    let service = site.start();
    let flood = service.submit("flood.sh", &[]);
    service.ended(&flood);
    let files_before = open_files(service.pid());
    let memory_before = memory_kib(service.pid(), "VmHWM");

    let watch = request_text(
        "GET",
        &format!("/api/v1/tasks/{flood}/log?follow=true"),
        Some(&Site::token("admin")),
        None,
    );
    let began = Instant::now();
    let attackers: Vec<TcpStream> = (0..200)
        .flat_map(|_| {
            [send(service.at, &watch), send(service.at, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")]
        })
        .collect();
    eventually("the attack to be on", || (open_files(service.pid()) >= files_before + 400).then_some(()));
    let mut times = Vec::new();
    while open_files(service.pid()) > files_before + 20 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} are left", open_files(service.pid()));
        let asked = Instant::now();
        let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh" }));
        times.push(asked.elapsed());
        assert_eq!(reply.status, 202);
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    let grown = memory_kib(service.pid(), "VmHWM") - memory_before;
    println!("cut after {took:?}; honest p99 {p99:?} of {}; {grown} KiB", times.len());
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert!(grown < 64 << 10, "{grown} KiB");
    drop(attackers);
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
