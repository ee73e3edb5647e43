//! Bodies: too large, too deep, too slow, never ending.

use std::io::{BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Reply, Service, Site, connect, exchange, memory_kib, read_reply};

fn head(about: &str) -> String {
    let token = Site::token("admin");
    format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{about}\r\n"
    )
}

fn answer(stream: TcpStream) -> Option<Reply> {
    read_reply(&mut BufReader::new(stream), false)
}

/// A spec of a certain length.
fn spec_of(length: usize) -> String {
    let frame = r#"{"name":"hello.sh","stdin":""}"#;
    frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())))
}

fn with_length(body: &str) -> Vec<u8> {
    (head(&format!("Content-Length: {}\r\nConnection: close\r\n", body.len())) + body).into_bytes()
}

#[test]
fn a_body_at_the_limit_is_taken_and_one_byte_more_is_413() {
    let service = Site::new("[limits]\nbody = \"64KiB\"").start();
    assert_eq!(exchange(service.at, &with_length(&spec_of(64 << 10))).status, 202);
    let reply = exchange(service.at, &with_length(&spec_of((64 << 10) + 1)));
    assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    // The twin: with another limit the same is taken.
    let service = Site::new("[limits]\nbody = \"65KiB\"").start();
    assert_eq!(exchange(service.at, &with_length(&spec_of((64 << 10) + 1))).status, 202);
}

#[test]
fn a_caller_who_sends_too_much_gets_to_read_why() {
    let service = Service::usual();
    // Less than what is dropped: the connection can even go on.
    let mut stream = connect(service.at);
    stream.write_all(head("Content-Length: 4000000\r\n").as_bytes()).unwrap();
    stream.write_all(&vec![b' '; 4_000_000]).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(read_reply(&mut stream, false).unwrap().code(), "body_too_large");
    stream.get_mut().write_all(&with_length(r#"{"name":"hello.sh"}"#)).unwrap();
    assert_eq!(read_reply(&mut stream, false).unwrap().status, 202);
}

#[test]
fn a_body_of_two_gibibytes_costs_neither_memory_nor_time() {
    let service = Service::usual();
    let before = memory_kib(service.pid(), "VmHWM");
    let began = Instant::now();
    for about in ["Content-Length: 2147483648\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = connect(service.at);
        stream.write_all(head(about).as_bytes()).unwrap();
        let block = vec![b'x'; 64 << 10];
        let mut sent = 0_u64;
        // Until the service closes its ear.
        while sent < 2 << 30 {
            let chunk = if about.starts_with('T') { format!("{:x}\r\n", block.len()) } else { String::new() };
            let end = if about.starts_with('T') { "\r\n" } else { "" };
            if [chunk.as_bytes(), &block, end.as_bytes()].iter().any(|part| stream.write_all(part).is_err()) {
                break;
            }
            sent += block.len() as u64;
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let grown = memory_kib(service.pid(), "VmHWM") - before;
    assert!(grown < 16 << 10, "{grown} KiB");
    assert_eq!(service.count(), 0);
}

#[test]
fn whoever_waits_for_permission_is_refused_without_sending_the_body() {
    let service = Service::usual();
    let mut stream = connect(service.at);
    stream.write_all(head("Content-Length: 2147483648\r\nExpect: 100-continue\r\n").as_bytes()).unwrap();
    let reply = answer(stream).unwrap();
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    // The twin: a body that is wanted is asked for.
    let body = r#"{"name":"hello.sh"}"#;
    let mut stream = connect(service.at);
    let about = format!("Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n", body.len());
    stream.write_all(head(&about).as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(answer(stream).unwrap().status, 202);
}

#[test]
fn deeply_nested_json_is_refused_and_the_service_lives_on() {
    let service = Service::usual();
    for (open, close) in [("[", "]"), ("{\"params\":", "}")] {
        let depth = 60_000;
        let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let reply = exchange(service.at, &with_length(&body));
        assert_eq!((reply.status, reply.code().as_str()), (400, "not_json"));
    }
    let shallow = format!("{}1{}", "[".repeat(50), "]".repeat(50));
    let reply = exchange(service.at, &with_length(&shallow));
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"));
    assert_eq!(service.get("/healthz").status, 200);
}

#[test]
fn of_a_body_made_of_mistakes_a_hundred_are_told_and_the_rest_is_counted() {
    let service = Service::usual();
    let names = |from: char| -> String {
        let names: Vec<String> = (0..90_000).map(|n| format!("\"{from}{n}\":1")).collect();
        names.join(",")
    };
    let long = format!("{{\"name\":\"hello.sh\",\"{}\":1}}", "x".repeat(1 << 19));
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    let call = |token: &str, path: &str, body: &str| {
        let length = format!("Content-Length: {}\r\nConnection: close\r\n", body.len());
        let head = head(&length).replace("/api/v1/tasks", path);
        exchange(service.at, (head.replace(&Site::token("admin"), &Site::token(token)) + body).as_bytes())
    };
    let env = format!("{{\"name\":\"deploy/web.sh\",\"env\":{{{}}}}}", names('E'));
    let fields = format!("{{{}}}", names('f'));
    for (reply, status, more) in [
        (call("all", "/api/v1/tasks", &fields), 422, 89_901),
        (call("all", &format!("/api/v1/tasks/{id}/cancel"), &fields), 422, 89_900),
        (call("deployer", "/api/v1/tasks", &env), 403, 89_900),
    ] {
        assert_eq!(reply.status, status);
        let errors = reply.json()["errors"].as_array().unwrap().clone();
        assert_eq!((errors.len(), &errors[100]["rule"]), (101, &serde_json::json!("more")));
        let text = errors[100]["expected"].as_str().unwrap();
        assert!(text.contains(&format!("{more} more")), "{text}");
        assert!(reply.body.len() < 64 << 10, "{}", reply.body.len());
    }
    let reply = call("all", "/api/v1/tasks", &long);
    assert!(reply.status == 422 && reply.body.len() < 4 << 10, "{}", reply.body.len());
}

#[test]
fn a_body_that_drips_is_given_up_within_fifteen_seconds() {
    let service = Service::usual();
    let mut stream = connect(service.at);
    stream.write_all(head("Content-Length: 1000\r\n").as_bytes()).unwrap();
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let reply = loop {
        // Dripping until the answer is there; what cannot be written any more is no matter.
        let _ = stream.write_all(b" ");
        let mut peeked = [0];
        match stream.peek(&mut peeked) {
            Ok(_) => break read_reply(&mut reader, false).unwrap(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(15), "it still listens");
    };
    assert_eq!((reply.status, reply.code().as_str()), (408, "body_timeout"));
}
