//! A log of a gibibyte, written, followed and read with the program that people use.

use std::process::Command;

use crate::support::{Service, Site, memory_kib};

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
    std::fs::write(&header, format!("Authorization: Bearer {}\n", Site::token("admin"))).unwrap();
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
