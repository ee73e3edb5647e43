//! Scripts that say how many of them run at once, and what is tried again, as callers see it.

use serde_json::json;

use crate::support::{Service, Site, eventually};

/// Fails twice, and writes bytes that are no text.
const FLAKY: &str = "#!/bin/sh\n#TASK effect=\"read\" retries=2 retry_delay=\"1ms\"\n\
    printf 'attempt %s \\377\\n' \"$TASK_ATTEMPT\"\n[ \"$TASK_ATTEMPT\" = 3 ] || exit \"$TASK_ATTEMPT\"\n";
/// Fails, and is not tried again soon.
const LATER: &str = "#!/bin/sh\n#TASK effect=\"read\" retries=2 retry_delay=\"5m\"\necho once\nexit 1\n";

fn site(scripts: &[(&str, &str)]) -> Service {
    let site = Site::new("");
    for (name, text) in scripts {
        site.write_script(name, text);
    }
    site.start()
}

fn file(service: &Service, path: &str) -> Vec<u8> {
    std::fs::read(service.site.path(&format!("state/tasks/{path}"))).unwrap()
}

#[test]
fn a_script_is_tried_again_as_it_says_and_each_attempts_log_is_read_to_the_byte() {
    let service = site(&[("flaky.sh", FLAKY)]);
    let id = service.submit("flaky.sh", &[]);
    let task = service.ended(&id);
    assert_eq!((task["status"].as_str(), task["attempt"].as_u64()), (Some("succeeded"), Some(3)));
    let earlier: Vec<_> =
        task["attempts"].as_array().unwrap().iter().map(|a| a["exit_code"].as_i64()).collect();
    assert_eq!(earlier, [Some(1), Some(2)]);
    let log = |query: &str| service.get(&format!("/api/v1/tasks/{id}/log{query}"));
    for attempt in [1, 2] {
        let whole = log(&format!("?attempt={attempt}"));
        assert_eq!(whole.body, file(&service, &format!("{id}/attempts/{attempt}/stdout.txt")));
        let output = log(&format!("?attempt={attempt}&banner=false&follow=true"));
        assert_eq!(output.body, [format!("attempt {attempt} ").as_bytes(), b"\xff\n"].concat());
        assert_eq!(task["attempts"][attempt - 1]["log_bytes"], whole.body.len());
    }
    for query in ["", "?attempt=3", "?follow=true"] {
        assert_eq!(log(query).body, file(&service, &format!("{id}/stdout.txt")), "{query}");
    }
    let none = log("?attempt=4");
    assert_eq!((none.status, none.code().as_str()), (404, "no_such_attempt"));
    assert!(none.text().contains("it has 3"), "{}", none.text());
    assert_eq!(log("?attempt=0").status, 422);
    assert_eq!(log("?attempt=two").status, 422);

    let search = service.get(&format!("/api/v1/tasks/{id}/log/search?q=attempt+2&attempt=2&banner=false"));
    assert_eq!(search.json()["matches"].as_array().unwrap().len(), 1);
    let search = service.get(&format!("/api/v1/tasks/{id}/log/search?q=attempt+2&banner=false"));
    assert_eq!(search.json()["matches"], json!([]));
    let metrics = service.get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "devops_agent_task_retries_total 2"), "{metrics}");
}

#[test]
fn a_follower_gets_one_attempt_to_its_end_and_is_told_that_the_task_goes_on() {
    let service = site(&[("later.sh", LATER)]);
    let id = service.submit("later.sh", &[]);
    let path = format!("/api/v1/tasks/{id}");
    eventually("the first attempt to end", || (service.get(&path).json()["attempt"] == 2).then_some(()));
    // Neither waits the five minutes for the next attempt.
    let followed = service.get(&format!("{path}/log?banner=false&follow=true"));
    assert_eq!(followed.body, b"once\n");
    let events = crate::support::exchange(
        service.at,
        format!(
            "GET {path}/log?banner=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
            Accept: text/event-stream\r\nAuthorization: Bearer {}\r\n\r\n",
            Site::token("admin")
        )
        .as_bytes(),
    );
    let (chunks, end) =
        events.text().split_once("event: end\ndata: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(chunks.contains("once"), "{chunks}");
    let told: serde_json::Value = serde_json::from_str(end.trim()).unwrap();
    assert_eq!((told["status"].as_str(), told["attempt"].as_u64()), (Some("queued"), Some(2)));
    assert_eq!(service.get(&format!("{path}/log?attempt=2")).body, b"", "it has not started");
    let script = service.get(&format!("{path}/debug.sh"));
    assert_eq!(script.status, 200, "between two attempts that of the one before");

    let cancelled = service.post(&format!("{path}/cancel"), &json!({}));
    assert_eq!((cancelled.status, cancelled.json()["status"].as_str()), (202, Some("cancelled")));
    assert_eq!(service.get(&format!("{path}/log?banner=false&attempt=1")).body, b"once\n");
    assert_eq!(service.get(&format!("{path}/log?banner=false")).body, b"once\n");
}

#[test]
fn a_scripts_own_queue_answers_429_and_when_to_come_back_and_others_are_taken() {
    let lane = "#!/bin/sh\n#TASK effect=\"read\" concurrency=1 queue=1\n#USAGE arg \"<gate>\"\n\
        until [ -e \"$1\" ]; do sleep 0.02; done\n";
    let service = site(&[("lane.sh", lane)]);
    let gate = service.site.path("gate").display().to_string();
    let spec = json!({ "name": "lane.sh", "args": [gate] });
    let first = service.submit("lane.sh", &[&gate]);
    let second = service.submit("lane.sh", &[&gate]);
    assert_eq!(service.get(&format!("/api/v1/tasks/{second}")).json()["status"], "queued");
    let full = service.post("/api/v1/tasks", &spec);
    assert_eq!((full.status, full.code().as_str()), (429, "script_queue_full"));
    assert_eq!(full.header("retry-after"), Some("5"));
    assert!(full.text().contains("'lane.sh'"), "{}", full.text());
    let other = service.submit("hello.sh", &[]);
    assert_eq!(service.ended(&other)["status"], "succeeded");
    std::fs::write(&gate, "").unwrap();
    let (first, second) = (service.ended(&first), service.ended(&second));
    assert!(first["ended_at"].as_str() <= second["started_at"].as_str(), "one by one");
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
}

#[test]
fn an_agent_that_is_killed_tries_again_only_what_says_so_and_leaves_nothing_of_the_first_attempt_running() {
    let script = |keys: &str| {
        format!(
            "#!/bin/sh\n#TASK effect=\"read\" {keys}\n#USAGE arg \"<gate>\"\necho \"$TASK_ATTEMPT $$\"\n\
            until [ -e \"$1\" ]; do sleep 0.02; done\n"
        )
    };
    let named = script("retries=2 retry_delay=\"1ms\" retry_on=\"interrupted\"");
    let unnamed = script("retries=2 retry_delay=\"1ms\"");
    let service = site(&[("named.sh", &named), ("unnamed.sh", &unnamed)]);
    let gate = service.site.path("gate").display().to_string();
    let ids = ["named.sh", "unnamed.sh"].map(|name| service.submit(name, &[&gate]));
    for id in &ids {
        let path = format!("/api/v1/tasks/{id}/log?banner=false");
        eventually("the script to begin", || (!service.get(&path).body.is_empty()).then_some(()));
    }
    let site = service.killed();
    let service = site.start();
    let [named, unnamed] = &ids;
    let ended = service.ended(unnamed);
    assert_eq!((ended["status"].as_str(), ended["attempt"].as_u64()), (Some("interrupted"), Some(1)));
    let path = format!("/api/v1/tasks/{named}");
    let second = eventually("the second attempt to begin", || {
        let log = service.get(&format!("{path}/log?banner=false&attempt=2"));
        (log.status == 200 && !log.body.is_empty()).then(|| log.text())
    });
    assert!(second.starts_with("2 "), "{second}");
    let first = service.get(&format!("{path}/log?banner=false&attempt=1")).text();
    let pid = first.strip_prefix("1 ").unwrap().trim();
    // Whoever inherits it from a killed agent may not have reaped it.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "the first attempt is gone: {state}");
    std::fs::write(&gate, "").unwrap();
    let task = service.ended(named);
    assert_eq!((task["status"].as_str(), task["attempt"].as_u64()), (Some("succeeded"), Some(2)));
    assert_eq!(task["attempts"][0]["outcome"]["kind"], "interrupted");
}
