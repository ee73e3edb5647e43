//! Callers who hang up before they are answered: what they asked for is done to its end and has its line, and what only
//! shows something goes on for nobody.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use agent_http::{Server, ServerLimits};
use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::support::{Service, Site, connect, eventually, exchange, request_text};

/// Sends a request and hangs up after a while, without reading.
fn cut(service: &Service, delay: Duration, text: &str) {
    let mut stream = connect(service.at);
    stream.write_all(text.as_bytes()).unwrap();
    std::thread::sleep(delay);
}

fn of_all(method: &str, path: &str, body: Option<&Value>) -> String {
    request_text(method, path, Some(&Site::token("all")), body)
}

fn ids(service: &Service, query: &str) -> BTreeSet<String> {
    let page = service.get(&format!("/api/v1/tasks?limit=1000&{query}")).json();
    page["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_task_has_its_line_whenever_its_caller_hangs_up() {
    let service = Service::usual();
    service.ended(&service.submit("hello.sh", &[]));
    for number in 0..60 {
        let spec = json!({ "name": "hello.sh", "id": format!("cut-{number}") });
        let delay = Duration::from_micros(400 * (number % 20));
        cut(&service, delay, &of_all("POST", "/api/v1/tasks", Some(&spec)));
    }
    // Later than these, so that what is there then is all.
    service.submit("hello.sh", &[]);
    eventually("a line for each task", || {
        let tasks = ids(&service, "");
        let told =
            service.audit().iter().filter_map(|line| Some(line["task"].as_str()?.to_owned())).collect();
        (tasks.len() > 10 && tasks == told).then_some(())
    });
}

#[test]
fn many_are_cancelled_to_the_last_where_the_caller_hangs_up_at_the_first() {
    const MANY: usize = 60;
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    for _ in 0..MANY {
        let spec = json!({ "name": "gate.sh", "args": [gate], "labels": { "team": "web" } });
        assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
    }
    let cancelled = || ids(&service, "status=cancelled").len();
    let mut stream = connect(service.at);
    stream.write_all(of_all("POST", "/api/v1/tasks:cancel?label=team%3Dweb", None).as_bytes()).unwrap();
    eventually("the first of them to be cancelled", || (cancelled() > 0).then_some(()));
    drop(stream);
    eventually("all of them to be cancelled", || (cancelled() == MANY).then_some(()));
    // Each of them has a line, and the request as a whole.
    eventually("lines about that", || {
        let lines = service.audit().into_iter().filter(|line| line["path"] == "/api/v1/tasks:cancel");
        let (each, whole): (Vec<_>, Vec<_>) = lines.partition(|line| line["name"] == "gate.sh");
        let told: BTreeSet<_> = each.iter().map(|line| line["task"].as_str().unwrap().to_owned()).collect();
        (whole.len() == 1).then(|| assert_eq!(told, ids(&service, "status=cancelled")))
    });
}

#[test]
fn who_does_not_wait_for_what_it_asked_to_see_has_a_line_too() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let path = format!("/api/v1/tasks/{id}");
    let stream = {
        let mut stream = connect(service.at);
        stream.write_all(of_all("GET", &format!("{path}?wait=300"), None).as_bytes()).unwrap();
        stream
    };
    let unanswered = || service.audit().into_iter().find(|line| line["decision"] == "unanswered");
    assert_eq!(service.get("/api/v1/runners").status, 200);
    assert_eq!(unanswered(), None);
    drop(stream);
    let line = eventually("a line", unanswered);
    assert_eq!(
        (&line["token"], &line["path"], &line["status"]),
        (&json!("all"), &json!(path), &Value::Null),
        "{line}"
    );
}

#[test]
fn nothing_is_waited_for_and_nothing_followed_for_nobody() {
    let site = Site::new("");
    // Sixteen places: a quarter of the open files.
    let limited = site.command_after("ulimit -n 64");
    let service = site.start_by(limited);
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let follow = of_all("GET", &format!("/api/v1/tasks/{id}/log?follow=true"), None);
    let spec = json!({ "name": "gate.sh", "args": [gate] });
    let waiting =
        of_all("POST", "/api/v1/tasks", Some(&spec)).replacen("\r\n", "\r\nPrefer: wait=300\r\n", 1);
    for text in [&follow, &waiting] {
        for _ in 0..2 {
            let streams: Vec<_> = (0..12)
                .map(|_| {
                    let mut stream = connect(service.at);
                    stream.write_all(text.as_bytes()).unwrap();
                    stream
                })
                .collect();
            drop(streams);
        }
        let reply = exchange(service.at, request_text("GET", "/healthz", None, None).as_bytes());
        assert_eq!(reply.status, 200);
    }
}

#[test]
fn what_goes_on_without_its_caller_keeps_its_place_and_ends_with_the_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits =
        ServerLimits { connections: 1, closing: Duration::from_millis(100), ..ServerLimits::default() };
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let go_on = Arc::new(Notify::new());
    let handler = {
        let go_on = go_on.clone();
        move || async move {
            begun.send(()).unwrap();
            go_on.notified().await;
            Ok::<_, Infallible>("done")
        }
    };
    let router = Router::new().route("/", post(handler));
    let server = runtime.block_on(Server::listen("127.0.0.1:0".parse().unwrap(), limits)).unwrap();
    let (at, stop) = (server.address().unwrap(), CancellationToken::new());
    let serving = runtime.spawn(server.serve(router, stop.clone()));
    let begin = || {
        let mut stream = connect(at);
        stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    drop((begin(), has_begun.blocking_recv().unwrap()));
    // The next one comes to its turn when the first one's work has ended, not when its caller has gone.
    let mut second = begin();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(has_begun.try_recv().is_err());
    std::io::Read::read(&mut second, &mut [0]).unwrap_err();
    assert!(has_begun.try_recv().is_err());
    go_on.notify_one();
    drop((second, has_begun.blocking_recv().unwrap()));
    stop.cancel();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), serving).await })
        .unwrap()
        .unwrap();
}
