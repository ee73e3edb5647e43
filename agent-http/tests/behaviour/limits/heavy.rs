//! Many attackers at once, wave after wave: a thousand who are slow at every point where a caller can be, and two hundred
//! watchers that never read. In plain HTTP and over TLS.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_config::{Settings, Sources};
use agent_http::{Agent, Host};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{is_closed, plain};
use crate::support::{
    Authority, Reply, Service, Site, TlsConnection, connect, eventually, memory_kib, read_reply,
    request_text, tls_connect, tls_site,
};

/// How many of each kind come with a wave: 1,000 slow ones, and watchers.
const HEADERS: usize = 400;
const BODIES: usize = 300;
const SILENT: usize = 200;
const READERS: usize = 100;
const WATCHERS: usize = 200;
/// For how long waves come.
const STORM: Duration = Duration::from_secs(60);
/// The promises.
const CUT_WITHIN: Duration = Duration::from_secs(15);
const HONEST_P99: Duration = Duration::from_millis(250);
const MOST_GROWTH_KIB: u64 = 64 << 10;
/// Open files beside connections that come and go: logs that are read, scripts that run.
const OTHER_FILES: usize = 40;
/// Pause between two drops of those who drip.
const DROP_EVERY: Duration = Duration::from_millis(500);

/// A way to the service.
enum Way<'a> {
    Plain(SocketAddr),
    Tls(SocketAddr, &'a Authority),
}

/// A connection that was made by one of them.
enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsConnection>),
}

/// Who holds on to a connection.
struct Attacker {
    connection: Connection,
    /// What it does from time to time.
    drips: Drips,
}

#[derive(Clone, Copy, PartialEq)]
enum Drips {
    /// It sends a byte.
    Sends,
    /// It takes a few bytes.
    Takes,
    Never,
}

impl Way<'_> {
    fn at(&self) -> SocketAddr {
        match self {
            Self::Plain(at) | Self::Tls(at, _) => *at,
        }
    }

    fn connect(&self) -> Connection {
        match self {
            Self::Plain(at) => Connection::Plain(connect(*at)),
            Self::Tls(at, authority) => Connection::Tls(Box::new(tls_connect(*at, authority, None))),
        }
    }

    fn attacker(&self, text: &str, drips: Drips) -> Attacker {
        let mut connection = self.connect();
        connection.write(text.as_bytes());
        Attacker { connection, drips }
    }

    fn submit(&self, name: &str, prefer: &str) -> Reply {
        let spec = json!({ "name": name });
        let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(&spec));
        let text = text.replacen("\r\n", &format!("\r\nPrefer: {prefer}\r\n"), 1);
        let mut connection = self.connect();
        connection.write(text.as_bytes());
        match connection {
            Connection::Plain(stream) => read_reply(&mut BufReader::new(stream), false),
            Connection::Tls(stream) => read_reply(&mut BufReader::new(stream), false),
        }
        .unwrap()
    }

    /// A wave, all of it connected.
    fn wave(&self, flood: &str) -> Vec<Attacker> {
        let token = Site::token("admin");
        let log = format!("/api/v1/tasks/{flood}/log");
        let slow_header = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
        let slow_body = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{"
        );
        let read = request_text("GET", &log, Some(&token), None);
        let watch = request_text("GET", &format!("{log}?follow=true"), Some(&token), None);
        let mut attackers = Vec::new();
        // Of TLS they have said half of the first message, and of HTTP nothing.
        attackers.extend((0..SILENT).map(|_| {
            let mut stream = connect(self.at());
            if matches!(self, Way::Tls(..)) {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
            }
            Attacker { connection: Connection::Plain(stream), drips: Drips::Never }
        }));
        attackers.extend((0..HEADERS).map(|_| self.attacker(slow_header, Drips::Sends)));
        attackers.extend((0..BODIES).map(|_| self.attacker(&slow_body, Drips::Sends)));
        attackers.extend((0..READERS).map(|_| self.attacker(&read, Drips::Takes)));
        attackers.extend((0..WATCHERS).map(|_| self.attacker(&watch, Drips::Never)));
        attackers
    }
}

impl Connection {
    /// Sends what it can: the other end may have closed.
    fn write(&mut self, bytes: &[u8]) {
        let _ = match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Attacker {
    fn drip(&mut self) {
        match self.drips {
            Drips::Sends => self.connection.write(b" "),
            Drips::Takes => {
                let socket = self.connection.socket();
                socket.set_nonblocking(true).unwrap();
                // Nothing there, or all over: both are as good as a few bytes.
                let _ = socket.read(&mut [0; 512]);
            }
            Drips::Never => {}
        }
    }
}

/// A script that writes more than all buffers hold.
fn with_flood(site: Site) -> Site {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    site.write_script("flood.sh", "#!/bin/sh\nhead -c 50331648 /dev/zero\n");
    site
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What came of a storm.
#[derive(Default)]
struct Storm {
    /// How long the attackers of a wave were there at most, from when the last of them had come.
    longest: Duration,
    /// Of the honest requests, while attackers were there.
    times: Vec<Duration>,
    waves: usize,
}

/// Sets a flag when it is dropped, also by a panic: who waits for it must not wait for ever.
struct SetBehind<'a>(&'a AtomicBool);

impl Drop for SetBehind<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wave after wave, each until its last attacker is gone, and honest requests meanwhile.
fn storm(service: &Service, way: &Way<'_>) -> Storm {
    let flood = way.submit("flood.sh", "wait=60").id();
    way.submit("hello.sh", "wait=60");
    let before = open_files(service.pid());
    let (began, mut storm) = (Instant::now(), Storm::default());
    while began.elapsed() < STORM {
        let mut attackers = way.wave(&flood);
        let is_over = AtomicBool::new(false);
        let all_here = Instant::now();
        thread::scope(|scope| {
            let _over = SetBehind(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    attackers.iter_mut().for_each(Attacker::drip);
                    thread::sleep(DROP_EVERY);
                }
            });
            while open_files(service.pid()) > before + OTHER_FILES {
                assert!(all_here.elapsed() < 2 * CUT_WITHIN, "{} files are open", open_files(service.pid()));
                let asked = Instant::now();
                assert_eq!(way.submit("hello.sh", "x").status, 202);
                storm.times.push(asked.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
        });
        storm.longest = storm.longest.max(all_here.elapsed());
        storm.waves += 1;
    }
    storm
}

fn check(service: &Service, way: &Way<'_>) {
    let hello = way.submit("hello.sh", "wait=60");
    assert_eq!(hello.status, 200);
    let memory = memory_kib(service.pid(), "VmHWM");
    let Storm { longest, mut times, waves } = storm(service, way);
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    let grown = memory_kib(service.pid(), "VmHWM") - memory;
    let (count, median) = (times.len(), times[times.len() / 2]);
    println!(
        "{waves} waves, the last attacker gone after {longest:?}; {count} honest requests, median {median:?}, \
         p99 {p99:?}; {grown} KiB more"
    );
    assert!(longest < CUT_WITHIN, "{longest:?}");
    assert!(p99 < HONEST_P99, "{p99:?}");
    assert!(grown < MOST_GROWTH_KIB, "{grown} KiB");
}

#[test]
fn waves_of_twelve_hundred_attackers_are_cut_off_while_honest_callers_are_served_quickly() {
    let service = with_flood(Site::new("")).start();
    check(&service, &Way::Plain(service.at));
}

#[test]
fn waves_of_twelve_hundred_attackers_over_tls_are_cut_off_likewise() {
    let authority = Authority::new();
    authority.issue("service", 365);
    let service = with_flood(tls_site(&authority, "service", "")).start();
    check(&service, &Way::Tls(service.at, &authority));
}

/// The same routes behind the server that comes with axum.
#[test]
fn the_twin_on_a_plain_server_keeps_them() {
    let site = with_flood(Site::new(""));
    let sources = Sources {
        config_file: Some(site.path("application.toml")),
        ..Sources::new(site.folder().to_owned(), nix::unistd::geteuid().as_raw())
    };
    let settings = Settings::load(sources).unwrap().settings;
    let runtime = Runtime::new().unwrap();
    let agent = runtime.block_on(Agent::open(&settings, Host::default())).unwrap();
    let way = Way::Plain(plain(&runtime, agent.app()));
    let flood = way.submit("flood.sh", "wait=60").id();
    let mut attackers = way.wave(&flood);
    let began = Instant::now();
    eventually("the time in which they should be cut off", || {
        thread::sleep(DROP_EVERY);
        attackers.iter_mut().for_each(Attacker::drip);
        (began.elapsed() > CUT_WITHIN).then_some(())
    });
    // Slow bodies are the routes' own to cut, and were; readers and watchers have bytes waiting, whoever has closed.
    let mut silent_and_slow = attackers.iter_mut().take(SILENT + HEADERS);
    assert!(!silent_and_slow.any(|attacker| is_closed(attacker.connection.socket())));
}
