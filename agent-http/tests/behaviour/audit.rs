//! Each decision has its line in the audit log before its answer is there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Reply, Service, Site, connect, eventually, exchange, request_text};

/// The line about a request that was answered.
fn line_of(service: &Service, reply: &Reply) -> Value {
    let id = reply.header("x-request-id").expect("an id");
    let mut found = service.audit().into_iter().filter(|line| line["request"] == id);
    let line = found.next().unwrap_or_else(|| panic!("no line: {} {}", reply.status, reply.text()));
    assert_eq!(found.next(), None, "two lines of one decision");
    line
}

#[test]
fn whoever_asks_for_whatever_the_decision_is_on_file_when_the_answer_comes() {
    let service = Service::usual();
    let spec = json!({ "name": "hello.sh", "id": "one" });
    for (token, method, path, body, expected) in [
        ("all", "POST", "/api/v1/tasks", Some(&spec), ("allowed", 202, Value::Null)),
        ("all", "POST", "/api/v1/tasks", Some(&spec), ("allowed", 200, Value::Null)),
        ("reader", "POST", "/api/v1/tasks", Some(&spec), ("refused", 403, json!("scope_missing"))),
        ("deployer", "GET", "/api/v1/tasks/one", None, ("refused", 404, json!("not_found"))),
        ("expired", "GET", "/api/v1/tasks/one?x=secret", None, ("refused", 401, json!("token_expired"))),
        ("admin", "GET", "/api/v1/nothing", None, ("refused", 404, json!("no_route"))),
        ("reader", "GET", "/metrics", None, ("allowed", 200, Value::Null)),
    ] {
        let reply = service.call(token, method, path, body);
        let line = line_of(&service, &reply);
        let decided = (line["decision"].as_str().unwrap(), reply.status, line["code"].clone());
        assert_eq!(decided, expected, "{line}");
        assert_eq!(
            (&line["token"], &line["method"], &line["status"]),
            (&json!(token), &json!(method), &json!(reply.status))
        );
        assert_eq!(line["path"], path.split('?').next().unwrap());
        assert!(line["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        if method == "POST" && reply.status < 300 {
            assert_eq!((&line["task"], &line["name"]), (&json!("one"), &json!("hello.sh")));
        }
    }
    let nobody = request_text("GET", "/api/v1/tasks", None, None);
    let page = nobody.replace("Host: localhost", "Host: localhost\r\nOrigin: http://evil.example");
    for (text, code) in [(nobody, "token_missing"), (page, "origin_forbidden")] {
        let line = line_of(&service, &exchange(service.at, text.as_bytes()));
        assert_eq!(
            (&line["decision"], &line["code"], &line["token"]),
            (&json!("refused"), &json!(code), &Value::Null)
        );
    }
    // What everybody may have is no decision.
    let before = service.audit().len();
    for path in ["/healthz", "/readyz", "/", "/docs/"] {
        assert_eq!(
            exchange(service.at, request_text("GET", path, None, None).as_bytes()).status,
            200,
            "{path}"
        );
    }
    assert_eq!(service.audit().len(), before);
    let mode = fs::metadata(service.site.path("state/audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_task_that_is_waited_for_has_its_line_when_it_was_accepted() {
    let service = Service::usual();
    let gate = service.site.path("gate");
    let spec = json!({ "name": "gate.sh", "id": "waited", "args": [gate] });
    let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("all")), Some(&spec));
    let mut stream = connect(service.at);
    stream.write_all(text.replacen("\r\n", "\r\nPrefer: wait=60\r\n", 1).as_bytes()).unwrap();
    let line = eventually("its line", || service.audit().into_iter().find(|line| line["task"] == "waited"));
    assert_eq!((&line["status"], &line["decision"]), (&json!(202), &json!("allowed")));
    fs::write(gate, "").unwrap();
    service.ended("waited");
}

#[test]
fn a_path_with_anything_in_it_is_one_line_and_a_full_file_is_put_aside() {
    let site = Site::new("[audit]\nfile_size = \"1KiB\"\nfiles = 3");
    let service = site.start();
    for number in 0..30 {
        let path = format!("/api/v1/tasks/%22%0a%1b[31m{{{number}");
        assert_eq!(service.call("all", "GET", &path, None).status, 422);
    }
    let kept = |name: &str| fs::read_to_string(service.site.path("state").join(name));
    for name in ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"] {
        let text = kept(name).unwrap();
        assert!(!text.is_empty() && text.len() <= 1024, "{name}: {}", text.len());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["code"], "invalid");
        }
        assert!(!text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\n'), "{name}");
    }
    assert!(kept("audit.jsonl.3").is_err());
}

#[test]
fn where_it_cannot_be_written_that_is_said_once_and_counted() {
    let service = Service::usual();
    // As where a folder is in the place of the next file, and this one is full.
    let full = Site::new("[audit]\nfile_size = \"1B\"\nfiles = 2");
    fs::create_dir_all(full.path("state/audit.jsonl.1/in the way")).unwrap();
    drop(service);
    let service = full.start();
    for _ in 0..3 {
        assert_eq!(service.get("/api/v1/runners").status, 200);
    }
    let metrics = service.get("/metrics").text();
    assert!(metrics.contains("devops_agent_audit_lines_lost_total 2"), "{metrics}");
    let complaint = "the audit log cannot be written";
    eventually("the complaint", || service.said().contains(complaint).then_some(()));
    assert_eq!(service.said().matches(complaint).count(), 1);
}
