//! Who has an answer already is told so in place of getting it again.

use serde_json::json;

use crate::access::operations::operations;
use crate::support::{Reply, Service, Site, eventually, exchange, request_text};

/// Asks with a token's proof and these headers.
fn ask(service: &Service, token: Option<&str>, (method, path): (&str, &str), headers: &str) -> Reply {
    let token = token.map(Site::token);
    let text = request_text(method, path, token.as_deref(), None);
    exchange(service.at, text.replacen("\r\n", &format!("\r\n{headers}"), 1).as_bytes())
}

fn get(service: &Service, path: &str, headers: &str) -> Reply {
    ask(service, Some("admin"), ("GET", path), headers)
}

/// The tag of an answer: a strong one.
fn tag(reply: &Reply) -> String {
    let tag = reply.header("etag").unwrap_or_else(|| panic!("no tag: {} {}", reply.status, reply.text()));
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    tag.to_owned()
}

fn unless(tag: &str) -> String {
    format!("If-None-Match: {tag}\r\n")
}

/// It says that nothing has changed, and nothing else.
fn assert_unchanged(reply: &Reply, known: &str, what: &str) {
    assert_eq!((reply.status, reply.body.len()), (304, 0), "{what}: {}", reply.text());
    assert_eq!(tag(reply), known, "{what}");
    for header in ["content-type", "content-length", "content-range", "content-encoding"] {
        assert_eq!(reply.header(header), None, "{what}: {header}");
    }
}

#[test]
fn every_answer_that_the_description_says_has_a_tag_is_not_sent_twice() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    let document = exchange(service.at, request_text("GET", "/openapi.json", None, None).as_bytes()).json();
    let tagged: Vec<_> = operations(&document).into_iter().filter(|operation| operation.is_tagged).collect();
    assert!(tagged.len() >= 9, "{} operations", tagged.len());
    for operation in tagged {
        let path = operation.target(&id);
        let first = get(&service, &path, "");
        let known = tag(&first);
        assert_eq!(first.status, 200, "{path}");
        for method in ["GET", "HEAD"] {
            for named in [known.clone(), format!("W/{known}"), format!("\"x\", {known}"), "*".to_owned()] {
                let again = ask(&service, Some("admin"), (method, &path), &unless(&named));
                assert_unchanged(&again, &known, &format!("{method} {path} {named}"));
                assert_eq!(again.header("cache-control"), first.header("cache-control"), "{path}");
            }
        }
        let other = get(&service, &path, &unless("\"x\""));
        assert_eq!((other.status, tag(&other), &other.body), (200, known, &first.body), "{path}");
    }
    // What has no tag is sent each time.
    for path in ["/healthz", "/metrics"] {
        assert_eq!(get(&service, path, &unless("*")).status, 200, "{path}");
    }
}

#[test]
fn a_task_and_the_lists_that_it_is_in_have_another_tag_with_each_change() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let path = format!("/api/v1/tasks/{id}");
    eventually("that it has written its line", || {
        (get(&service, &format!("{path}/log?banner=false"), "").body == b"waiting\n").then_some(())
    });
    let paths = [path.as_str(), "/api/v1/tasks", "/api/v1/tasks?status=running"];
    let running = paths.map(|path| tag(&get(&service, path, "")));
    for (path, known) in paths.iter().zip(&running) {
        assert_unchanged(&get(&service, path, &unless(known)), known, path);
    }
    std::fs::write(&gate, "").unwrap();
    // Who waits gets the task once it is another one.
    let ended = get(&service, &format!("{path}?wait=60"), &unless(&running[0]));
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("succeeded")));
    for (path, known) in paths.iter().zip(&running) {
        assert_eq!(get(&service, path, &unless(known)).status, 200, "{path}");
    }
    let scripts = ["/api/v1/scripts", "/api/v1/scripts/hello.sh"];
    let before = scripts.map(|path| tag(&get(&service, path, "")));
    service.site.write_script("hello.sh", "#!/bin/sh\n#TASK description=\"Another one\"\n");
    for (path, known) in scripts.iter().zip(&before) {
        eventually("the change", || (get(&service, path, &unless(known)).status == 200).then_some(()));
    }
}

#[test]
fn a_log_has_a_tag_once_it_has_ended_by_which_a_part_of_it_is_asked_for() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let path = format!("/api/v1/tasks/{id}/log?banner=false");
    eventually("its first line", || (get(&service, &path, "").body == b"waiting\n").then_some(()));
    // One that grows has none, and no condition on one is met: all comes that is there.
    let growing = get(&service, &path, "Range: bytes=0-3\r\nIf-Range: \"x\"\r\n");
    assert_eq!(
        (growing.status, growing.header("etag"), growing.body.as_slice()),
        (200, None, &b"waiting\n"[..])
    );
    assert_eq!(get(&service, &path, "Range: bytes=0-3\r\n").status, 206);
    std::fs::write(&gate, "").unwrap();
    service.ended(&id);

    let whole = get(&service, &path, "");
    let known = tag(&whole);
    assert_eq!(whole.body, b"waiting\npassed\n");
    for (condition, status, body) in [
        (format!("If-Range: {known}\r\n"), 206, &b"passed"[..]),
        (String::new(), 206, b"passed"),
        ("If-Range: \"x\"\r\n".to_owned(), 200, b"waiting\npassed\n"),
        (format!("If-Range: W/{known}\r\n"), 200, b"waiting\npassed\n"),
        ("If-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(), 200, b"waiting\npassed\n"),
        (format!("If-None-Match: \"x\"\r\nIf-Range: {known}\r\n"), 206, b"passed"),
    ] {
        let reply = get(&service, &path, &format!("Range: bytes=8-13\r\n{condition}"));
        assert_eq!(
            (reply.status, reply.body.as_slice(), tag(&reply)),
            (status, body, known.clone()),
            "{condition}"
        );
    }
    // Who has the whole needs no part of it.
    let part = get(&service, &path, &format!("Range: bytes=8-13\r\n{}", unless(&known)));
    assert_unchanged(&part, &known, "with a range");
    assert_unchanged(&get(&service, &format!("{path}&follow=true"), &unless(&known)), &known, "followed");
    // Another part, and another log with the same bytes, are others.
    let again = service.submit("gate.sh", &[&gate]);
    service.ended(&again);
    for other in [format!("/api/v1/tasks/{id}/log"), path.replace(&id, &again)] {
        let reply = get(&service, &other, &unless(&known));
        assert!(reply.status == 200 && tag(&reply) != known, "{other}");
    }
}

#[test]
fn a_condition_tells_nobody_anything_that_it_may_not_know_and_a_decision_is_written_down() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    for path in [
        format!("/api/v1/tasks/{id}"),
        format!("/api/v1/tasks/{id}/log"),
        "/api/v1/scripts/hello.sh".to_owned(),
    ] {
        let known = tag(&get(&service, &path, ""));
        for (token, status) in [
            (None, 401),
            (Some("expired"), 401),
            (Some("runner"), 403),
            (Some("deployer"), 404),
            (Some("reader"), 304),
        ] {
            for named in [&known, "*"] {
                let reply = ask(&service, token, ("GET", &path), &unless(named));
                assert_eq!(reply.status, status, "{token:?}: {path}");
                let id = reply.header("x-request-id").unwrap();
                let line = service.audit().into_iter().find(|line| line["request"] == id).expect("its line");
                let decision = if status == 304 { "allowed" } else { "refused" };
                assert_eq!(
                    (&line["status"], &line["decision"]),
                    (&json!(status), &json!(decision)),
                    "{line}"
                );
            }
        }
    }
    // What changes something is no question.
    let reply = ask(&service, Some("admin"), ("POST", "/api/v1/scripts/hello.sh/run"), &unless("*"));
    assert_eq!(reply.status, 202);
}
