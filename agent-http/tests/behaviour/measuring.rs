//! Measurements: well-formed for Prometheus, true, and for those who may see them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write};
use std::panic::catch_unwind;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{
    Authority, Reply, Service, Site, connect, eventually, exchange, read_reply, request_text, tls_connect,
    tls_site,
};

/// Labels whose values are a few words, routes aside.
const PLAIN_LABELS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+";

pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next().unwrap().parse().ok()
}

#[test]
fn promtool_has_nothing_to_say_against_the_measurements() {
    let service = Service::usual();
    let id = service.submit("fail.sh", &[]);
    service.ended(&id);
    service.post("/api/v1/tasks", &json!({}));
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    approved_by_promtool(&metrics.text());
    let twin = "# TYPE runs_total gauge\nruns_total 1\n";
    assert!(catch_unwind(|| approved_by_promtool(twin)).is_err());
}

fn approved_by_promtool(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool; the Debian package prometheus has it");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(),
        "{checked:?}"
    );
}

#[test]
fn tasks_refusals_and_the_build_are_counted() {
    let service = Service::usual();
    let before = service.get("/metrics").text();
    assert_eq!(value(&before, "devops_agent_tasks_running"), Some(0.0));
    assert_eq!(value(&before, "devops_agent_build_info{version=\"0.1.0\"}"), Some(1.0), "{before}");
    for name in ["hello.sh", "hello.sh", "fail.sh", "task_debug"] {
        let id = service.submit(name, &[]);
        service.ended(&id);
    }
    service.post("/api/v1/tasks", &json!({ "name": "none.sh" }));
    service.call("reader", "POST", "/api/v1/tasks", Some(&json!({ "name": "hello.sh" })));
    let text = eventually("the counts", || {
        let text = service.get("/metrics").text();
        let script = value(&text, "devops_agent_task_runs_total{runner=\"script\",status=\"succeeded\"}");
        let debug = value(&text, "devops_agent_task_runs_total{runner=\"task_debug\",status=\"succeeded\"}");
        (script == Some(2.0) && debug == Some(1.0)).then_some(text)
    });
    for (series, expected) in [
        ("devops_agent_task_runs_total{runner=\"script\",status=\"failed\"}", 1.0),
        ("devops_agent_task_changes_total{status=\"succeeded\"}", 3.0),
        ("devops_agent_task_changes_total{status=\"failed\"}", 1.0),
        ("devops_agent_task_run_duration_seconds_count{runner=\"script\"}", 3.0),
        ("devops_agent_refusals_total{code=\"not_found\"}", 1.0),
        ("devops_agent_refusals_total{code=\"scope_missing\"}", 1.0),
        ("devops_agent_scripts_usable", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
}

/// What each measurement is, and the names of its labels.
type Measurements = BTreeMap<String, (String, BTreeSet<String>)>;

/// The measurements that the page lists.
fn documented() -> Measurements {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `devops_agent_"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let name = |text: &str| text.trim_matches('`').to_owned();
    cells
        .map(|row| (name(row[1]), (row[2].to_owned(), row[3].split_whitespace().map(name).collect())))
        .collect()
}

/// The same as the live page has it, with every value that a label has there.
fn live(text: &str) -> (Measurements, BTreeSet<(String, String)>) {
    let mut found = BTreeMap::new();
    let mut values = BTreeSet::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((series, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
            let (_, names) = found.get_mut(name.unwrap_or(series)).unwrap();
            for (label, rest) in labels.split("\",").filter_map(|label| label.split_once("=\"")) {
                let value = rest.split('"').next().unwrap();
                if label != "le" {
                    names.insert(label.to_owned());
                }
                values.insert((label.to_owned(), value.to_owned()));
            }
        }
    }
    (found, values)
}

#[test]
fn the_page_lists_every_measurement_and_no_label_has_a_value_of_a_callers() {
    let authority = Authority::new();
    authority.issue("server", 365);
    // A node too, whose API server is never there.
    let node = "[node]\napi_server = \"ws://127.0.0.1:9\"\nname = \"node\"\ntoken_file = \"node.token\"\n";
    let site = tls_site(&authority, "server", node);
    site.write_secret("node.token", &Site::token("node"));
    let service = site.start();
    let call = |method: &str, path: &str, token: Option<&str>, body: Option<&serde_json::Value>| -> Reply {
        let mut stream = tls_connect(service.at, &authority, None);
        stream.write_all(request_text(method, path, token, body).as_bytes()).unwrap();
        read_reply(&mut BufReader::new(stream), false).unwrap()
    };
    let admin = Site::token("admin");
    let run = json!({ "name": "hello.sh", "id": "canary-id", "labels": { "canary": "canary" } });
    assert_eq!(call("POST", "/api/v1/tasks", Some(&admin), Some(&run)).status, 202);
    call("GET", "/api/v1/tasks/canary-id?wait=60", Some(&admin), None);
    call("GET", "/api/v1/tasks/canary-id/log?follow=true", Some(&admin), None);
    for (method, path) in [
        ("CANARY", "/api/v1/tasks"),
        ("GET", "/canary"),
        ("GET", "/api/v1/scripts/canary/a.sh"),
        ("GET", "/docs/canary"),
    ] {
        call(method, path, Some(&admin), None);
        call(method, path, Some("canary"), None);
    }
    let text = eventually("the run's measurements", || {
        let text = call("GET", "/metrics", Some(&admin), None).text();
        text.contains("devops_agent_task_runs_total").then_some(text)
    });
    approved_by_promtool(&text);
    let (live, values) = live(&text);
    assert_eq!(live, documented(), "{text}");
    assert!(!text.to_lowercase().contains("canary") && !text.contains("hello"), "{text}");
    for (label, value) in values {
        let is_plain = value.chars().all(|one| PLAIN_LABELS.contains(one));
        assert!(is_plain || (label == "route" && value.starts_with('/')), "{label}={value}");
    }
}

#[test]
fn connections_followers_kills_and_routes_are_counted() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let path = format!("/api/v1/tasks/{id}/log?follow=true");
    let watch = request_text("GET", &path, Some(&Site::token("admin")), None);
    let follow = |headers: &str| {
        let mut stream = connect(service.at);
        stream.write_all(watch.replacen("\r\n", &format!("\r\n{headers}"), 1).as_bytes()).unwrap();
        stream
    };
    let followers = [follow(""), follow("Accept: text/event-stream\r\n")];
    let idle = connect(service.at);
    let expect = |what: &str, expected: &[(&str, f64)]| {
        eventually(what, || {
            let text = service.get("/metrics").text();
            expected.iter().all(|(series, number)| value(&text, series) == Some(*number)).then_some(())
        });
    };
    expect(
        "two followers and one that waits",
        &[
            ("devops_agent_log_followers{form=\"bytes\"}", 1.0),
            ("devops_agent_log_followers{form=\"events\"}", 1.0),
            // With the one that asks.
            ("devops_agent_http_connections{state=\"serving\"}", 3.0),
            ("devops_agent_http_connections{state=\"waiting\"}", 1.0),
        ],
    );
    drop((followers, idle));
    service.post(&format!("/api/v1/tasks/{id}/cancel"), &json!({}));
    service.ended(&id);
    let scope = service.get(&format!("/api/v1/tasks/{id}")).json()["result"]["kill_scope"].clone();
    let kills = format!("devops_agent_task_kills_total{{kill_scope={scope}}}");
    let cancels = "devops_agent_http_responses_total{method=\"POST\",route=\"/api/v1/tasks/{id}/cancel\",status=\"202\"}";
    expect(
        "them to be gone",
        &[
            ("devops_agent_log_followers{form=\"bytes\"}", 0.0),
            ("devops_agent_log_followers{form=\"events\"}", 0.0),
            ("devops_agent_http_connections{state=\"serving\"}", 1.0),
            (&kills, 1.0),
            (cancels, 1.0),
        ],
    );
    let text = service.get("/metrics").text();
    assert!(value(&text, "devops_agent_task_log_bytes_total{runner=\"script\"}").unwrap() > 100.0, "{text}");
}

#[test]
fn measurements_need_a_token_unless_the_settings_say_otherwise() {
    let ask = |service: &Service| {
        exchange(service.at, request_text("GET", "/metrics", None, None).as_bytes()).status
    };
    assert_eq!(ask(&Service::usual()), 401);
    assert_eq!(ask(&Site::new("[http]\npublic_metrics = true").start()), 200);
}
