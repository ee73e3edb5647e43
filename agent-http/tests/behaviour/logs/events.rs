//! A log as server-sent events: joined they are the file, whatever its bytes are and wherever they were cut.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ct_codecs::{Base64, Decoder};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{get, log_file, request};
use crate::support::{LONG, Service, Site, eventually, request_text};

/// Those who follow while the service is stopped and started again.
const FOLLOWERS: usize = 20;
/// How often that happens.
const RESTARTS: u32 = 30;
/// Writes text and bytes that are none, in pieces that cut characters, for two seconds.
const MIXED: &str = r#"#!/bin/bash
for ((i = 0; i < 200; i++)); do
    printf 'line %d: \342\202' "$i"
    printf '\254\n'
    ((i % 7)) || printf '\377\000\n'
    sleep 0.01
done
"#;

/// An event as it came.
#[derive(Debug, Default, Clone, PartialEq)]
struct Event {
    id: u64,
    name: String,
    data: Value,
}

impl Event {
    /// The log's bytes in it.
    fn bytes(&self) -> Vec<u8> {
        match (&self.data["text"], &self.data["base64"]) {
            (Value::String(text), Value::Null) => text.clone().into_bytes(),
            (Value::Null, Value::String(text)) => Base64::decode_to_vec(text, None).unwrap(),
            _ => panic!("neither text nor bytes: {}", self.data),
        }
    }
}

/// The events of one connection.
struct Events<R>(R);

impl<R: BufRead> Iterator for Events<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let is_cut =
                !matches!(self.0.read_line(&mut line), Ok(count) if count > 0) || !line.ends_with('\n');
            if is_cut {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                None if event == Event::default() => {}
                None => return Some(event),
                Some(("id", value)) => event.id = value.parse().unwrap(),
                Some(("event", value)) => event.name = value.to_owned(),
                Some(("data", value)) => event.data = serde_json::from_str(value).unwrap(),
                Some(("" | "retry", _)) => {}
                Some(other) => panic!("no field of an event: {other:?}"),
            }
        }
    }
}

/// The events of an answer.
type Stream = Events<BufReader<Unchunked<BufReader<TcpStream>>>>;

/// The bytes of an answer that is sent in chunks.
struct Unchunked<R> {
    stream: R,
    left: u64,
}

impl<R: BufRead> Read for Unchunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let is_size = line.ends_with('\n');
            self.left = u64::from_str_radix(line.trim(), 16).ok().filter(|_| is_size).unwrap_or(0);
            if self.left == 0 {
                return Ok(0);
            }
        }
        let count = self.stream.by_ref().take(self.left).read(buffer)?;
        self.left -= count as u64;
        if self.left == 0 {
            self.stream.read_line(&mut String::new())?;
        }
        Ok(count)
    }
}

/// Follows a log behind an offset; none when nobody answers, or not with events.
fn try_follow(at: SocketAddr, path: &str, behind: Option<u64>) -> Option<Stream> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let behind = behind.map(|offset| format!("Last-Event-ID: {offset}\r\n")).unwrap_or_default();
    let headers = format!("Accept: text/event-stream\r\n{behind}");
    stream.write_all(request(path, &headers).as_bytes()).ok()?;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let is_stream = head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream\r\n");
    is_stream.then(|| Events(BufReader::new(Unchunked { stream, left: 0 })))
}

fn follow(service: &Service, path: &str, behind: Option<u64>) -> Stream {
    try_follow(service.at, path, behind).expect("events")
}

/// Joins what came; each event begins where the one before ended.
fn joined(events: &[Event], behind: u64) -> Vec<u8> {
    let mut joined = Vec::new();
    for event in events.iter().filter(|event| event.name.is_empty()) {
        let bytes = event.bytes();
        assert_eq!(event.data["offset"], behind + joined.len() as u64, "{event:?}");
        assert!(!bytes.is_empty() && bytes.len() <= 24 << 10, "{} bytes", bytes.len());
        joined.extend(bytes);
        assert_eq!(event.id, behind + joined.len() as u64, "{event:?}");
    }
    joined
}

#[test]
fn the_events_of_a_log_joined_are_its_bytes_and_the_last_one_is_the_task() {
    let site = Site::new("");
    site.write_script("mixed.sh", MIXED);
    site.write_script("much.sh", "#!/bin/sh\nhead -c 300000 /dev/urandom\n");
    let service = site.start();
    for script in ["hello.sh", "mixed.sh", "much.sh"] {
        let id = service.submit(script, &[]);
        let live: Vec<Event> = follow(&service, &format!("/api/v1/tasks/{id}/log"), None).collect();
        let task = service.ended(&id);
        for banner in ["true", "false"] {
            let path = format!("/api/v1/tasks/{id}/log?banner={banner}");
            let whole = get(&service, &path, "").body;
            let events: Vec<Event> = follow(&service, &path, None).collect();
            assert!(joined(&events, 0) == whole, "{script}");
            let last = events.last().unwrap();
            assert_eq!((last.name.as_str(), last.id, &last.data), ("end", whole.len() as u64, &task));
            for behind in [1, whole.len() as u64 / 2, whole.len() as u64, u64::MAX] {
                let rest: Vec<Event> = follow(&service, &path, Some(behind)).collect();
                let from = usize::try_from(behind).unwrap().min(whole.len());
                assert!(joined(&rest, behind) == whole[from..], "{script} behind {behind}");
                assert_eq!(rest.last().unwrap().name, "end");
            }
        }
        assert!(joined(&live, 0) == log_file(&service, &id), "{script} while it was written");
    }
}

#[test]
fn events_come_when_the_bytes_are_written_also_to_those_who_came_before_the_start() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gates = ["one", "two"].map(|name| service.site.path(name).display().to_string());
    let ids = [0, 1].map(|n| service.submit("gate.sh", &[&gates[n]]));
    let path = |n: usize| format!("/api/v1/tasks/{}/log?banner=false", ids[n]);
    let mut early = follow(&service, &path(1), None);
    let mut running = follow(&service, &path(0), None);
    for (n, events) in [&mut running, &mut early].into_iter().enumerate() {
        assert_eq!(events.next().unwrap().data, json!({ "offset": 0, "text": "waiting\n" }));
        // The script goes on only now: what follows cannot have been there before.
        fs::write(&gates[n], "").unwrap();
        assert_eq!(events.next().unwrap().data, json!({ "offset": 8, "text": "passed\n" }));
        let end = events.next().unwrap();
        assert_eq!((end.name.as_str(), &end.data["status"]), ("end", &json!("succeeded")));
        assert_eq!(events.next(), None);
    }
}

#[test]
fn a_character_that_is_written_in_two_pieces_comes_whole() {
    let site = Site::new("");
    site.write_script(
        "torn.sh",
        "#!/bin/bash\nprintf '\\342\\202'\nuntil [ -e \"$1\" ]; do sleep 0.02; done\nprintf '\\254\\342'\n",
    );
    let service = site.start();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("torn.sh", &[&gate]);
    let events = follow(&service, &format!("/api/v1/tasks/{id}/log?banner=false"), None);
    let log = format!("/api/v1/tasks/{id}/log");
    eventually("the first piece", || get(&service, &log, "").body.ends_with(&[0o342, 0o202]).then_some(()));
    fs::write(&gate, "").unwrap();
    let data: Vec<Value> = events.map(|event| event.data).collect();
    // What is no character at the end comes all the same.
    assert_eq!(data[..2], [json!({ "offset": 0, "text": "€" }), json!({ "offset": 3, "base64": "4g==" })]);
}

#[test]
fn a_script_that_writes_often_makes_fifty_events_a_second_at_most() {
    let site = Site::new("");
    let script = "#!/bin/bash\nfor ((i = 0; i < 20000; i++)); do echo \"$i\"; done\nsleep 0.5\necho end\n";
    site.write_script("often.sh", script);
    let service = site.start();
    let id = service.submit("often.sh", &[]);
    let began = Instant::now();
    let events: Vec<Event> =
        follow(&service, &format!("/api/v1/tasks/{id}/log?banner=false"), None).collect();
    let most = began.elapsed().as_millis() / 20 + 1;
    let chunks = events.len() as u128 - 1;
    assert!(chunks <= most, "{chunks} events, at most {most}");
    // The twin: the lines were far more, and came one by one.
    assert_eq!(joined(&events, 0).iter().filter(|byte| **byte == b'\n').count(), 20_001);
}

#[test]
fn what_is_no_offset_is_refused_and_curl_follows_a_log() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &["you"]);
    let path = format!("/api/v1/tasks/{id}/log?banner=false");
    for wrong in ["-1", "x", "1.5", "99999999999999999999999"] {
        let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {wrong}\r\n");
        let refused = get(&service, &path, &headers);
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid"), "{wrong}");
        assert_eq!(refused.json()["errors"][0]["field"], "Last-Event-ID");
    }
    let curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "60", "--header", "Accept: text/event-stream"])
        .args(["--header", &format!("Authorization: Bearer {}", Site::token("admin"))])
        .arg(format!("http://{}{path}", service.at))
        .stdout(Stdio::piped())
        .output()
        .expect("this test needs curl");
    let text = String::from_utf8(curl.stdout).unwrap();
    assert!(text.contains("id: 10\ndata: {\"offset\":0,\"text\":\"hello you\\n\"}\n\n"), "{text}");
    assert!(text.contains("id: 10\nevent: end\ndata: {\"id\":"), "{text}");
}

/// What the followers share with the one that stops and starts the service.
struct Shared {
    at: Mutex<Option<SocketAddr>>,
    is_over: AtomicBool,
}

#[test]
fn twenty_followers_get_every_byte_once_while_the_service_is_restarted_thirty_times() {
    let mut site = Site::new("[limits]\nconcurrent = 30\ndrain = \"100ms\"");
    site.write_script("mixed.sh", MIXED);
    let state = site.path("state/tasks");
    let shared = Shared { at: Mutex::new(None), is_over: AtomicBool::new(false) };
    let (mut logs, mut cuts) = (0, 0);
    std::thread::scope(|scope| {
        let follower = |number| {
            scope.spawn({
                let (shared, state) = (&shared, &state);
                move || follower(number, shared, state)
            })
        };
        let followers: Vec<_> = (0..FOLLOWERS).map(follower).collect();
        for restart in 0..RESTARTS {
            let service = site.start();
            *shared.at.lock().unwrap() = Some(service.at);
            // Long enough that logs grow and ends come, and different each time.
            std::thread::sleep(Duration::from_millis(150 + u64::from(restart * 97 % 400)));
            *shared.at.lock().unwrap() = None;
            service.signal(if restart % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM });
            site = service.ended_with().1;
        }
        let service = site.start();
        *shared.at.lock().unwrap() = Some(service.at);
        shared.is_over.store(true, Ordering::Relaxed);
        for follower in followers {
            let (mine, cut) = follower.join().unwrap();
            (logs, cuts) = (logs + mine, cuts + cut);
        }
    });
    println!("{logs} logs were followed to their end through {cuts} cuts");
    assert!(cuts >= FOLLOWERS as u32, "hardly anything was cut: {cuts}");
}

/// Follows one log after the other to its end, and counts them, and how often it was cut off.
fn follower(number: usize, shared: &Shared, state: &Path) -> (u32, u32) {
    let (mut logs, mut cuts) = (0, 0);
    while !shared.is_over.load(Ordering::Relaxed) {
        let id = format!("f{number}-{logs}");
        eventually("that the task is accepted", || submit(address(shared)?, &id));
        let path = format!("/api/v1/tasks/{id}/log");
        let mut seen: Vec<Event> = Vec::new();
        while seen.last().is_none_or(|event| event.name != "end") {
            let behind = seen.last().map(|event| event.id);
            let Some(events) = address(shared).and_then(|at| try_follow(at, &path, behind)) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            seen.extend(events);
            cuts += u32::from(seen.last().is_none_or(|event| event.name != "end"));
        }
        let file = fs::read(state.join(&id).join("stdout.txt")).unwrap_or_default();
        assert!(joined(&seen, 0) == file, "{id}: {} bytes of {}", joined(&seen, 0).len(), file.len());
        logs += 1;
    }
    (logs, cuts)
}

fn address(shared: &Shared) -> Option<SocketAddr> {
    *shared.at.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Submits a task under an id of its own, again where nobody answered.
fn submit(at: SocketAddr, id: &str) -> Option<()> {
    let body = json!({ "name": "mixed.sh", "id": id });
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(&body));
    stream.write_all(text.as_bytes()).ok()?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).ok()?;
    status.starts_with("HTTP/1.1 20").then_some(())
}
