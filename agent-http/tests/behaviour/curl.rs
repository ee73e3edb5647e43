//! The service as people call it: with curl.

use std::process::Command;

use crate::support::{Service, Site};

/// Runs curl with the usual token, and gives what it prints.
fn curl(service: &Service, path: &str, args: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(["--header", &format!("Authorization: Bearer {}", Site::token("admin"))])
        .args(args)
        .arg(format!("http://{}{path}", service.at))
        .output()
        .expect("this test needs curl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_task_is_submitted_waited_for_and_read_with_curl() {
    let service = Service::usual();
    let spec = r#"{"name":"hello.sh","args":["you"],"id":"one"}"#;
    let task = curl(&service, "/api/v1/tasks", &["--json", spec, "--header", "Prefer: wait=60"]);
    assert!(task.contains(r#""status":"succeeded""#), "{task}");
    assert_eq!(
        curl(&service, "/api/v1/tasks/one/log?banner=false&follow=true", &["--no-buffer"]),
        "hello you\n"
    );
    assert_eq!(curl(&service, "/api/v1/tasks/one/log?banner=false", &["--range", "6-8"]), "you");
    assert_eq!(curl(&service, "/api/v1/tasks/one/log?banner=false", &["--continue-at", "5"]), " you\n");
    let head = curl(&service, "/api/v1/tasks", &["--head"]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[test]
fn a_form_that_curl_sends_by_default_is_refused() {
    let service = Service::usual();
    let reply = curl(&service, "/api/v1/tasks", &["--data", r#"{"name":"hello.sh"}"#]);
    assert!(reply.contains(r#""code":"media_type""#), "{reply}");
    assert_eq!(service.count(), 0);
}

#[test]
fn two_requests_share_one_connection() {
    let service = Service::usual();
    let second = format!("http://{}/readyz", service.at);
    let codes = curl(
        &service,
        "/healthz",
        &[&second, "--output", "/dev/null", "--output", "/dev/null", "--write-out", "%{num_connects} "],
    );
    assert_eq!(codes, "1 0 ");
}
