//! What the service says of its work: from a request's line to the audit log and to the lines of its task.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Service, Site, eventually, exchange, request_text};

/// The service on a usual site, with its own choice of how it speaks, or another one.
fn speaking(format: Option<&str>, filter: &str) -> Service {
    let site = Site::new("");
    let mut command: Command = site.command();
    command.env("RUST_LOG", filter).env_remove("DEVOPS_AGENT__LOG__FORMAT");
    if let Some(format) = format {
        command.env("DEVOPS_AGENT__LOG__FORMAT", format);
    }
    site.start_by(command)
}

/// The lines so far, each of which is an object.
fn lines(service: &Service) -> Vec<Value> {
    service.said().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Waits for a line with these members, written as paths.
fn line(service: &Service, members: &[(&str, &Value)]) -> Value {
    eventually(&format!("a line with {members:?}"), || {
        let has_all = |line: &Value| members.iter().all(|(path, value)| line.pointer(path) == Some(value));
        lines(service).into_iter().find(has_all)
    })
}

#[test]
fn the_id_of_a_request_leads_from_its_line_to_the_audit_log_and_to_the_lines_of_its_task() {
    let service = speaking(None, "info");
    let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh" }));
    let (id, task) = (json!(reply.header("x-request-id").unwrap()), json!(reply.id()));

    let answered = line(&service, &[("/span/request", &id), ("/message", &json!("answered"))]);
    for (member, expected) in [
        ("level", json!("INFO")),
        ("method", json!("POST")),
        ("path", json!("/api/v1/tasks")),
        ("status", json!(202)),
        ("token", json!("admin")),
    ] {
        assert_eq!(answered[member], expected, "{answered}");
    }
    assert!(answered["took_ms"].is_number() && answered["timestamp"].is_string(), "{answered}");
    let audit = fs::read_to_string(service.site.path("state/audit.jsonl")).unwrap();
    let audit: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(audit.iter().any(|line| line["request"] == id && line["task"] == task), "{audit:?}");
    line(&service, &[("/span/request", &id), ("/task_id", &task), ("/message", &json!("accepted"))]);
    for message in ["started", "ended"] {
        line(&service, &[("/task_id", &task), ("/message", &json!(message))]);
    }

    let refused = service.call("reader", "POST", "/api/v1/tasks", Some(&json!({ "name": "hello.sh" })));
    let id = json!(refused.header("x-request-id").unwrap());
    let answered = line(&service, &[("/span/request", &id)]);
    assert_eq!((&answered["code"], &answered["status"]), (&json!("scope_missing"), &json!(403)));
    // What everybody may see is asked for by probes, again and again.
    let probe = exchange(service.at, request_text("GET", "/healthz", None, None).as_bytes());
    let id = probe.header("x-request-id").unwrap();
    service.get("/api/v1/runners");
    line(&service, &[("/path", &json!("/api/v1/runners"))]);
    assert!(!service.said().contains(id));
}

#[test]
fn people_get_lines_with_the_same_ids_and_no_path_makes_two_of_one() {
    let service = speaking(Some("text"), "info");
    let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh" }));
    let id = reply.header("x-request-id").unwrap();
    eventually("its two lines", || {
        let said = service.said();
        (said.lines().filter(|line| line.contains(id)).count() == 2).then_some(())
    });
    let forged = service.get("/api/v1/tasks/x%0a2030-01-01T00:00:00Z%1b[31m");
    let id = forged.header("x-request-id").unwrap();
    let said =
        eventually("its line", || service.said().lines().find(|line| line.contains(id)).map(str::to_owned));
    assert!(said.contains("x%0a2030") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_service_that_does_not_start_says_so_as_it_would_say_everything() {
    let service = speaking(Some("json"), "info");
    let mut command = service.site.command();
    let output = command.env("DEVOPS_AGENT__LOG__FORMAT", "json").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let line: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR", "{said}");
    assert!(line["message"].as_str().unwrap().contains("runs a service on the state folder"), "{said}");
}

#[test]
fn no_token_is_in_what_is_said_however_much_that_is_and_wherever_it_was_sent() {
    for format in ["json", "text"] {
        let service = speaking(Some(format), "trace");
        let canary = format!("dag_{}", "c4n4ry".repeat(6));
        let (admin, expired) = (Site::token("admin"), Site::token("expired"));
        let task = json!({ "name": "hello.sh", "stdin": canary, "args": [] });
        for token in [&admin, &expired, &canary] {
            for path in ["/api/v1/runners".to_owned(), format!("/api/v1/tasks?token={canary}")] {
                exchange(service.at, request_text("GET", &path, Some(token), None).as_bytes());
            }
            let sent = request_text("POST", "/api/v1/tasks", Some(token), Some(&task));
            exchange(service.at, sent.as_bytes());
            exchange(service.at, sent.replacen("Bearer", "Basic", 1).as_bytes());
            exchange(service.at, sent.replacen("Authorization: Bearer", "Cookie: token=", 1).as_bytes());
        }
        let last = service.get("/api/v1/runners");
        let id = last.header("x-request-id").unwrap().to_owned();
        eventually("the last line", || service.said().contains(&id).then_some(()));
        let said = service.said();
        // The twin: what is no secret is said.
        assert!(said.contains("/api/v1/runners") && said.contains("expired"), "{said}");
        for secret in [admin, expired, canary] {
            assert!(!said.contains(&secret), "{format}: {secret}");
        }
    }
}
