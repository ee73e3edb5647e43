//! Many attackers at once: a thousand headers that do not come, two hundred watchers that never read.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use agent_config::{Settings, Sources};
use agent_http::{Agent, Host, Server, ServerLimits};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::send;
use crate::support::{Reply, Site, eventually, exchange, memory_kib, request_text};

const SLOW: usize = 1000;
const WATCHERS: usize = 200;
/// The promises.
const CUT_WITHIN: Duration = Duration::from_secs(15);
const HONEST_P99: Duration = Duration::from_millis(250);
const MOST_GROWTH_KIB: u64 = 64 << 10;
/// Open files beside connections that come and go: logs that are read, scripts that run.
const OTHER_FILES: usize = 40;

/// A site with a script that writes more than all buffers hold.
fn site() -> Site {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let site = Site::new("");
    site.write_script("flood.sh", "#!/bin/sh\nhead -c 50331648 /dev/zero\n");
    site
}

fn submit(at: SocketAddr, name: &str, prefer: &str) -> Reply {
    let spec = json!({ "name": name });
    let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(&spec));
    exchange(at, text.replacen("\r\n", &format!("\r\nPrefer: {prefer}\r\n"), 1).as_bytes())
}

/// The attack on a service in a process, and when it began; it is on when this returns.
fn attack(at: SocketAddr, pid: u32) -> (Instant, Vec<TcpStream>) {
    let flood = submit(at, "flood.sh", "wait=60");
    assert_eq!(flood.status, 200);
    let path = format!("/api/v1/tasks/{}/log?follow=true", flood.id());
    let watch = request_text("GET", &path, Some(&Site::token("admin")), None);
    let (before, began) = (open_files(pid), Instant::now());
    let slow = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let texts = (0..SLOW).map(|_| slow).chain((0..WATCHERS).map(|_| watch.as_str()));
    let attackers = texts.map(|text| send(at, text)).collect();
    eventually("the attack to be on", || (open_files(pid) >= before + SLOW + WATCHERS).then_some(()));
    (began, attackers)
}

#[test]
fn twelve_hundred_attackers_are_cut_off_while_honest_callers_are_served_quickly() {
    let service = site().start();
    submit(service.at, "hello.sh", "wait=60");
    let (files, memory) = (open_files(service.pid()), memory_kib(service.pid(), "VmHWM"));
    let (began, attackers) = attack(service.at, service.pid());
    let mut times = Vec::new();
    while open_files(service.pid()) > files + OTHER_FILES {
        assert!(began.elapsed() < 2 * CUT_WITHIN, "{} files are open", open_files(service.pid()));
        let asked = Instant::now();
        let reply = submit(service.at, "hello.sh", "x");
        times.push(asked.elapsed());
        assert_eq!(reply.status, 202);
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    let grown = memory_kib(service.pid(), "VmHWM") - memory;
    println!("cut after {took:?}; honest p99 {p99:?} of {}; {grown} KiB", times.len());
    assert!(took < CUT_WITHIN, "{took:?}");
    assert!(p99 < HONEST_P99, "{p99:?}");
    assert!(grown < MOST_GROWTH_KIB, "{grown} KiB");
    drop(attackers);
}

#[test]
fn the_twin_whose_limits_are_hours_keeps_every_attacker() {
    let site = site();
    let sources = Sources {
        config_file: Some(site.path("application.toml")),
        ..Sources::new(site.folder().to_owned(), nix::unistd::geteuid().as_raw())
    };
    let settings = Settings::load(sources).unwrap().settings;
    let hours = Duration::from_secs(3600);
    let limits = ServerLimits { header: hours, stall: hours, ..ServerLimits::default() };
    let runtime = Runtime::new().unwrap();
    let agent = runtime.block_on(Agent::open(&settings, Host::default())).unwrap();
    let server = runtime.block_on(Server::listen("127.0.0.1:0".parse().unwrap(), limits)).unwrap();
    let at = server.address().unwrap();
    runtime.spawn(server.serve(agent.app(), CancellationToken::new()));
    let (began, attackers) = attack(at, std::process::id());
    let open = open_files(std::process::id());
    eventually("the time in which they should be cut off", || (began.elapsed() > CUT_WITHIN).then_some(()));
    let left = open_files(std::process::id());
    assert!(left + OTHER_FILES > open, "{left} of {open}");
    drop(attackers);
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
