//! A large log, written, followed and read with the program that people use; and looked into while it is written.

use std::fs;
use std::process::Command;

use super::get;
use crate::support::{Reply, Service, Site, eventually, memory_kib};

/// Bytes that tell their places, a gibibyte of them.
const GIBIBYTE: &str = "seq 1 200000000 | head -c 1073741824";
/// The promise, KiB.
const MOST_GROWTH: u64 = 16 << 10;

/// What a shell prints for a command.
fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What `sha256sum` says of a log that curl reads.
fn digest_by_curl(service: &Service, path: &str) -> String {
    let header = service.site.path("header");
    fs::write(&header, format!("Authorization: Bearer {}\n", Site::token("admin"))).unwrap();
    let (header, at) = (header.display(), service.at);
    shell(&format!("curl -sS --fail --no-buffer -H '@{header}' 'http://{at}{path}' | sha256sum"))
}

#[test]
fn a_log_of_a_gibibyte_is_the_bytes_that_were_written_and_costs_the_agent_no_memory() {
    let site = Site::new("[script_executor]\nmax_log_bytes = \"2GiB\"");
    site.write_script("much.sh", &format!("#!/bin/sh\n{GIBIBYTE}\n"));
    let service = site.start();
    let warm_up = service.submit("hello.sh", &[]);
    service.ended(&warm_up);
    digest_by_curl(&service, &format!("/api/v1/tasks/{warm_up}/log"));
    let before = memory_kib(service.pid(), "VmHWM");

    let id = service.submit("much.sh", &[]);
    let path = format!("/api/v1/tasks/{id}/log?banner=false");
    let followed = digest_by_curl(&service, &format!("{path}&follow=true"));
    let task = service.ended(&id);
    assert_eq!(task["status"], "succeeded", "{task}");
    let read = digest_by_curl(&service, &path);

    let expected = shell(&format!("{GIBIBYTE} | sha256sum"));
    assert!(expected.len() > 64, "{expected}");
    assert_eq!((followed, read), (expected.clone(), expected.clone()));
    let grown = memory_kib(service.pid(), "VmHWM") - before;
    println!("{grown} KiB for a gibibyte written, followed and read");
    assert!(grown < MOST_GROWTH, "{grown} KiB");

    // The twin: one byte less has another digest.
    assert_ne!(shell(&format!("{GIBIBYTE} | head -c 1073741823 | sha256sum")), expected);
}

/// Five million lines with their own numbers, 37 MiB; then one that stands there once, and one again and again until a file
/// is there.
const DEEP: &str = "#!/bin/sh\nseq 1 5000000\necho 'here it ends'\n\
    until [ -e \"$1\" ]; do echo 'and goes on'; sleep 0.02; done\n";
const LINES: u64 = 5_000_000;

/// Bytes of the lines before one.
fn bytes_before(line: u64) -> u64 {
    let digits = |number: u64| u64::from(number.ilog10()) + 1;
    (1..=digits(LINES))
        .map(|count| {
            let (first, behind) = (10_u64.pow(count as u32 - 1), 10_u64.pow(count as u32));
            (line.min(behind) - line.min(first)) * (count + 1)
        })
        .sum()
}

/// What there is of a log from a line on.
fn from_line(service: &Service, id: &str, line: u64) -> Reply {
    get(service, &format!("/api/v1/tasks/{id}/log?banner=false&line={line}"), "")
}

/// All places at which a text stands, page by page: line and offset.
fn found(service: &Service, id: &str, text: &str) -> Vec<(u64, u64)> {
    let search = format!("/api/v1/tasks/{id}/log/search?banner=false&limit=3&q={text}");
    let (mut found, mut path) = (Vec::new(), search.clone());
    loop {
        let page = get(service, &path, "");
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        let place =
            |found: &serde_json::Value| (found["line"].as_u64().unwrap(), found["offset"].as_u64().unwrap());
        found.extend(page["matches"].as_array().unwrap().iter().map(place));
        let Some(next) = page["next"].as_str() else { return found };
        path = format!("{search}&cursor={next}");
    }
}

#[test]
fn a_large_log_is_searched_and_read_from_a_line_deep_in_it_while_it_is_written() {
    let site = Site::new("");
    site.write_script("deep.sh", DEEP);
    let service = site.start();
    let gate = service.site.path("gate");
    let id = service.submit("deep.sh", &[&gate.display().to_string()]);
    let line = "here+it+ends";
    let ends = eventually("the last number", || Some(found(&service, &id, line)).filter(|at| !at.is_empty()));
    for is_ended in [false, true] {
        if is_ended {
            fs::write(&gate, "").unwrap();
            assert_eq!(service.ended(&id)["status"], "succeeded");
        } else {
            assert_eq!(service.get(&format!("/api/v1/tasks/{id}")).json()["status"], "running");
        }
        assert_eq!(ends, [(LINES + 1, bytes_before(LINES + 1))]);
        assert_eq!(found(&service, &id, line), ends);
        let behind = (1_234_560..1_234_570).map(|line| (line, bytes_before(line)));
        let others = [2_123_456, 3_123_456, 4_123_456].map(|line| (line, bytes_before(line) + 1));
        let first = [(123_456, bytes_before(123_456)), (1_123_456, bytes_before(1_123_456) + 1)];
        let expected: Vec<_> = first.into_iter().chain(behind).chain(others).collect();
        assert_eq!(found(&service, &id, "123456"), expected);
        for line in [4_999_990, LINES, LINES + 1] {
            let reply = from_line(&service, &id, line);
            let begins =
                (line..=LINES).map(|line| format!("{line}\n")).collect::<String>() + "here it ends\n";
            assert_eq!(reply.header("log-offset"), Some(bytes_before(line).to_string().as_str()));
            assert!(reply.text().starts_with(&begins), "line {line}");
        }
        assert_eq!(from_line(&service, &id, 100 * LINES).code(), "no_line");
    }
}
