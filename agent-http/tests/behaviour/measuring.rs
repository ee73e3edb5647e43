//! Measurements: well-formed for Prometheus, true, and for those who may see them.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Service, Site, eventually, exchange, request_text};

fn value(text: &str, series: &str) -> Option<f64> {
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
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool; the Debian package prometheus has it");
    promtool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
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

#[test]
fn measurements_need_a_token_unless_the_settings_say_otherwise() {
    let ask = |service: &Service| {
        exchange(service.at, request_text("GET", "/metrics", None, None).as_bytes()).status
    };
    assert_eq!(ask(&Service::usual()), 401);
    assert_eq!(ask(&Site::new("[http]\npublic_metrics = true").start()), 200);
}
