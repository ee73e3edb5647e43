//! The log over HTTP is the file, byte for byte: whole, by ranges, and while it is written.

mod events;
mod heavy;
mod lines;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Reply, Service, Site, connect, eventually, exchange, read_reply};

/// More than all buffers between a script and a caller together hold.
const LARGE: usize = 48 << 20;
/// Writes that much, of bytes that are no text.
const FLOOD: &str = "#!/bin/sh\nhead -c 50331648 /dev/zero | tr '\\0' '\\377'\n";

fn get(service: &Service, path: &str, headers: &str) -> Reply {
    exchange(service.at, request(path, headers).as_bytes())
}

fn request(path: &str, headers: &str) -> String {
    let token = Site::token("admin");
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
    )
}

fn log_file(service: &Service, id: &str) -> Vec<u8> {
    std::fs::read(service.site.path(&format!("state/tasks/{id}/stdout.txt"))).unwrap()
}

#[test]
fn the_whole_log_is_the_file_and_without_banners_what_the_script_wrote() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &["x"]);
    service.ended(&id);
    let path = format!("/api/v1/tasks/{id}/log");
    let whole = get(&service, &path, "");
    assert_eq!(whole.body, log_file(&service, &id));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(get(&service, &format!("{path}?banner=false"), "").body, b"hello x\n");
    assert_eq!(get(&service, &format!("{path}?banner=false&follow=true"), "").body, b"hello x\n");
    assert_eq!(get(&service, &format!("{path}?follow=true"), "").body, whole.body);
    let head = exchange(service.at, request(&path, "").replacen("GET", "HEAD", 1).as_bytes());
    assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
}

#[test]
fn every_form_of_one_range_gives_its_bytes() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &["0123456789"]);
    service.ended(&id);
    for banner in ["", "?banner=false"] {
        let path = format!("/api/v1/tasks/{id}/log{banner}");
        let whole = get(&service, &path, "").body;
        let length = whole.len();
        let part = |range: &str| get(&service, &path, &format!("Range: bytes={range}\r\n"));
        for (range, from, to) in [
            ("0-0".to_owned(), 0, 1),
            ("3-8".to_owned(), 3, 9),
            ("5-".to_owned(), 5, length),
            ("-4".to_owned(), length - 4, length),
            ("-100000".to_owned(), 0, length),
            (format!("2-{}", length * 2), 2, length),
        ] {
            let reply = part(&range);
            assert_eq!((reply.status, &reply.body[..]), (206, &whole[from..to]), "{range}");
            let expected = format!("bytes {from}-{}/{length}", to - 1);
            assert_eq!(reply.header("content-range"), Some(expected.as_str()), "{range}");
        }
        for range in [format!("{length}-"), "-0".to_owned(), "99999999999999999999-".to_owned()] {
            let reply = part(&range);
            assert_eq!((reply.status, reply.code().as_str()), (416, "range_not_satisfiable"), "{range}");
            assert_eq!(reply.header("content-range"), Some(format!("bytes */{length}").as_str()));
        }
        for ignored in ["5-2", "0-1,3-4", "x-y", ""] {
            let reply = part(ignored);
            assert_eq!((reply.status, reply.body.len()), (200, length), "{ignored}");
        }
        let conditional = get(&service, &path, "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n");
        assert_eq!(conditional.status, 200);
    }
}

#[test]
fn a_follower_gets_each_line_when_it_is_written_and_the_end_when_it_comes() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let mut stream = connect(service.at);
    stream
        .write_all(request(&format!("/api/v1/tasks/{id}/log?follow=true&banner=false"), "").as_bytes())
        .unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "waiting\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "it ended too early");
    }
    // The script goes on only now: what follows cannot have been there before.
    std::fs::write(&gate, "").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("passed\n") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[test]
fn a_follower_goes_on_from_the_byte_that_its_range_names() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let waiting = service.submit("hello.sh", &[]);
    let path = |id: &str| format!("/api/v1/tasks/{id}/log?follow=true&banner=false");
    eventually("its first line", || {
        let log = get(&service, &format!("/api/v1/tasks/{id}/log?banner=false"), "");
        (log.body == b"waiting\n").then_some(())
    });
    let follow = |id: &str, range: &str| {
        let mut stream = connect(service.at);
        stream.write_all(request(&path(id), &format!("Range: bytes={range}\r\n")).as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let without_end = format!("0-{}", (1_u64 << 53) - 1);
    let ranges = ["4-", "8-", "10-", "1000-", &without_end, "4-6", "-3"];
    let mut followers: Vec<_> = ranges.iter().map(|range| follow(&id, range)).collect();
    let mut of_waiting = follow(&waiting, "3-");
    // All are there before the log ends: a range of what is complete means something else.
    eventually("all followers", || {
        let measured = service.get("/metrics").text();
        measured.contains("devops_agent_log_followers{form=\"bytes\"} 8\n").then_some(())
    });
    // A proxy's or browser's answer to a range tells from where it comes: before the log's end is known as well.
    let mut head = String::new();
    while head.is_empty() || head.lines().last() != Some("") {
        assert_ne!(followers[1].read_line(&mut head).unwrap(), 0);
    }
    let head = head.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 206") && head.contains("content-range: bytes 8-9007199254740991/*"),
        "{head}"
    );
    std::fs::write(&gate, "").unwrap();
    let mut rest = String::new();
    followers[1].read_to_string(&mut rest).unwrap();
    assert!(rest.contains("passed\n") && !rest.contains("waiting"), "{rest}");
    let whole = "waiting\npassed\n";
    for (index, from, status) in
        [(0, 4, 206), (2, 10, 206), (3, 15, 206), (4, 0, 206), (5, 0, 200), (6, 0, 200)]
    {
        let reply = read_reply(&mut followers[index], false).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (status, &whole[from..]), "{}", ranges[index]);
    }
    assert_eq!(read_reply(&mut of_waiting, false).unwrap().body, b"lo\n");
    service.ended(&waiting);
    // What is complete is answered as a range of it is.
    let done = get(&service, &path(&id), "Range: bytes=4-\r\n");
    assert_eq!((done.status, done.header("content-range")), (206, Some("bytes 4-14/15")));
    assert_eq!(get(&service, &path(&id), "Range: bytes=15-\r\n").status, 416);
}

#[test]
fn followers_of_a_task_that_waits_get_its_log_once_it_runs_and_nothing_when_it_never_does() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let running = service.submit("gate.sh", &[&gate]);
    let waiting = service.submit("hello.sh", &[]);
    let cancelled = service.submit("hello.sh", &[]);
    let now = get(&service, &format!("/api/v1/tasks/{waiting}/log"), "");
    assert_eq!((now.status, now.body.len()), (200, 0));
    let path = |id: &str| format!("/api/v1/tasks/{id}/log?follow=true&banner=false");
    let follow = |id: &str| {
        let mut stream = connect(service.at);
        stream.write_all(request(&path(id), "").as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let (mut of_waiting, mut of_cancelled) = (follow(&waiting), follow(&cancelled));
    assert_eq!(service.call("admin", "POST", &format!("/api/v1/tasks/{cancelled}/cancel"), None).status, 202);
    assert_eq!(read_reply(&mut of_cancelled, false).unwrap().body, b"");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(read_reply(&mut of_waiting, false).unwrap().body, b"hello\n");
    service.ended(&running);
    assert_eq!(get(&service, &format!("/api/v1/tasks/{cancelled}/log"), "").body, b"");
}

#[test]
fn a_follower_that_reads_nothing_does_not_hold_the_task_up_and_one_that_reads_gets_all() {
    let site = Site::new("");
    site.write_script("flood.sh", FLOOD);
    let service = site.start();
    let id = service.submit("flood.sh", &[]);
    let path = format!("/api/v1/tasks/{id}/log?follow=true&banner=false");
    let mut stuck = connect(service.at);
    stuck.write_all(request(&path, "").as_bytes()).unwrap();
    let all = get(&service, &path, "");
    assert_eq!(all.body.len(), LARGE);
    assert!(all.body.iter().all(|byte| *byte == 0xff));
    let task = service.ended(&id);
    assert_eq!(task["status"], "succeeded");
    // The twin: written into a pipe that nobody reads, the same script does not end.
    let flood = service.site.path("scripts/flood.sh");
    let mut held_up = Command::new(flood).stdout(Stdio::piped()).spawn().unwrap();
    let output = held_up.stdout.take();
    assert!(held_up.try_wait().unwrap().is_none());
    let again = service.submit("flood.sh", &[]);
    service.ended(&again);
    assert!(held_up.try_wait().unwrap().is_none(), "a script with a stuck reader has ended");
    drop(output);
    held_up.wait().unwrap();
    drop(stuck);
}

#[test]
fn memory_stays_flat_while_large_logs_are_read() {
    let site = Site::new("");
    site.write_script("flood.sh", FLOOD);
    let service = site.start();
    let id = service.submit("flood.sh", &[]);
    service.ended(&id);
    let before = crate::support::memory_kib(service.pid(), "VmHWM");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = connect(service.at);
                stream.write_all(request(&format!("/api/v1/tasks/{id}/log"), "").as_bytes()).unwrap();
                let copied = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                assert!(copied > LARGE as u64);
            });
        }
    });
    let grown = crate::support::memory_kib(service.pid(), "VmHWM") - before;
    assert!(grown < 16 << 10, "{grown} KiB for four readers of {LARGE} bytes");
}

#[test]
fn a_log_that_is_gone_is_said_to_be_gone() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    std::fs::remove_file(service.site.path(&format!("state/tasks/{id}/stdout.txt"))).unwrap();
    let reply = get(&service, &format!("/api/v1/tasks/{id}/log"), "");
    assert_eq!((reply.status, reply.code().as_str()), (404, "log_gone"));
}

#[test]
fn a_log_cut_short_behind_the_agents_back_is_never_given_as_whole() {
    let site = Site::new("");
    site.write_script("flood.sh", FLOOD);
    let service = site.start();
    let id = service.submit("flood.sh", &[]);
    service.ended(&id);
    let mut stream = connect(service.at);
    stream.write_all(request(&format!("/api/v1/tasks/{id}/log"), "").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    // By now the length is promised, and most of the file is not read yet.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(service.site.path(&format!("state/tasks/{id}/stdout.txt")))
        .unwrap();
    file.set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    // The connection may be reset or just closed.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < LARGE, "{} bytes of a file of 1 MiB", rest.len());
    eventually("the agent to say so", || {
        service.said().contains("could not be read to its end").then_some(())
    });
}

#[test]
fn mistakes_in_the_query_are_named_all_at_once() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    let reply =
        get(&service, &format!("/api/v1/tasks/{id}/log?banner=maybe&follow=1&lines=3&follow=true"), "");
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"));
    let errors = reply.json()["errors"].clone();
    let rules: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["field"].clone(), error["rule"].clone()))
        .collect();
    let expected = [("banner", "boolean"), ("follow", "once"), ("lines", "unknown_parameter")]
        .map(|(f, r)| (json!(f), json!(r)));
    assert_eq!(rules, expected);
}
