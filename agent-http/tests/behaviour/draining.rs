//! Stopping: what runs may end, nothing that was accepted is lost, a second signal is impatient.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{LONG, Service, Site, eventually, exchange, request_text};

fn is_running(service: &Service, id: &str) -> Option<()> {
    (service.get(&format!("/api/v1/tasks/{id}")).json()["status"] == "running").then_some(())
}

#[test]
fn while_it_stops_it_says_so_refuses_tasks_and_lets_what_runs_end() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let running = service.submit("gate.sh", &[&gate]);
    eventually("it to run", || is_running(&service, &running));
    let waiting = service.submit("hello.sh", &[]);
    assert_eq!(service.get("/readyz").status, 200);

    service.signal(Signal::SIGTERM);
    let ready = eventually("it to be not ready", || {
        let reply = service.get("/readyz");
        (reply.status == 503).then_some(reply)
    });
    assert_eq!(ready.code(), "draining");
    assert_eq!(service.get("/healthz").status, 200);
    let refused = eventually("it to refuse", || {
        let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh" }));
        (reply.status == 503).then_some(reply)
    });
    assert_eq!(refused.code(), "draining");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(service.get(&format!("/api/v1/tasks/{running}")).json()["status"], "running");

    std::fs::write(&gate, "").unwrap();
    let (status, site, said) = service.ended_with();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("1 waiting task"), "{said}");
    let again = site.start();
    assert_eq!(again.ended(&running)["status"], "succeeded");
    assert_eq!(again.ended(&waiting)["status"], "succeeded");
}

#[test]
fn whoever_waits_or_follows_gets_the_end_while_it_stops() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    eventually("it to run", || is_running(&service, &id));
    let token = Site::token("admin");
    let ask = |path: String| {
        let (at, text) = (service.at, request_text("GET", &path, Some(&token), None));
        std::thread::spawn(move || exchange(at, text.as_bytes()))
    };
    let follower = ask(format!("/api/v1/tasks/{id}/log?follow=true&banner=false"));
    let waiter = ask(format!("/api/v1/tasks/{id}?wait=60"));
    service.signal(Signal::SIGINT);
    eventually("it to be not ready", || (service.get("/readyz").status == 503).then_some(()));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(follower.join().unwrap().text(), "waiting\npassed\n");
    assert_eq!(waiter.join().unwrap().json()["status"], "succeeded");
    let (status, _, said) = service.ended_with();
    assert!(status.success(), "{said}");
}

#[test]
fn a_second_signal_cancels_what_still_runs() {
    let service = Site::new("[limits]\ndrain = \"10m\"").start();
    let id = service.submit("gate.sh", &["/nonexistent/gate"]);
    eventually("it to run", || is_running(&service, &id));
    service.signal(Signal::SIGTERM);
    eventually("it to be not ready", || (service.get("/readyz").status == 503).then_some(()));
    service.signal(Signal::SIGTERM);
    let (status, site, said) = service.ended_with();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(site.start().ended(&id)["status"], "cancelled");
}

#[test]
fn a_third_signal_kills_what_does_not_heed_the_second() {
    let site = Site::new("[limits]\ndrain = \"10m\"\n[script_executor]\nkill_grace = \"10m\"");
    site.write_script("deaf.sh", "#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do sleep 0.05; done\n");
    let service = site.start();
    let id = service.submit("deaf.sh", &[]);
    let path = format!("/api/v1/tasks/{id}");
    eventually("it to be deaf", || {
        (service.get(&format!("{path}/log?banner=false")).text() == "deaf\n").then_some(())
    });
    service.signal(Signal::SIGTERM);
    eventually("it to be not ready", || (service.get("/readyz").status == 503).then_some(()));
    service.signal(Signal::SIGTERM);
    // The agent's log says so once the task was told to end.
    eventually("the task to be told", || service.said().contains("cancelling what still runs").then_some(()));
    // The twin: two signals do not end it.
    assert_eq!(service.get(&path).json()["status"], "running");
    service.signal(Signal::SIGTERM);
    let (status, site, said) = service.ended_with();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(site.start().ended(&id)["status"], "cancelled");
}

#[test]
fn the_drain_time_is_the_longest_that_a_task_can_hold_a_stop_up() {
    let service = Site::new("[limits]\ndrain = \"200ms\"\n[script_executor]\nkill_grace = \"200ms\"").start();
    let id = service.submit("gate.sh", &["/nonexistent/gate"]);
    eventually("it to run", || is_running(&service, &id));
    service.signal(Signal::SIGTERM);
    let (status, site, said) = service.ended_with();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains(&id), "it does not say what it cancelled: {said}");
    assert_eq!(site.start().ended(&id)["status"], "cancelled");
}

#[test]
fn no_task_that_was_accepted_under_load_is_lost_by_a_stop() {
    let service = Site::new("[limits]\nconcurrent = 4").start();
    let stop = AtomicBool::new(false);
    let text = request_text(
        "POST",
        "/api/v1/tasks",
        Some(&Site::token("admin")),
        Some(&json!({ "name": "hello.sh" })),
    );
    let accepted: BTreeSet<String> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut accepted = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let Some(reply) = try_exchange(service.at, &text) else { break };
                        match reply.status {
                            202 => accepted.push(reply.id()),
                            status => assert_eq!((status, reply.code().as_str()), (503, "draining")),
                        }
                    }
                    accepted
                })
            })
            .collect();
        eventually("some load", || (service.count() >= 50).then_some(()));
        service.signal(Signal::SIGTERM);
        eventually("its end", || {
            let is_gone = std::net::TcpStream::connect_timeout(&service.at, Duration::from_secs(1)).is_err();
            is_gone.then(|| stop.store(true, Ordering::Relaxed))
        });
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let (status, site, said) = service.ended_with();
    assert!(status.success(), "{said}");
    assert!(accepted.len() >= 50, "{}", accepted.len());
    let again = site.start();
    for id in &accepted {
        assert_eq!(again.ended(id)["status"], "succeeded", "{id}");
    }
}

/// Notes its start; ends soon, or not before the file that its second argument names is there.
const NOTES: &str = "#!/bin/sh\necho \"$TASK_ID\" >>\"$1\"\n[ -z \"$2\" ] && exec sleep 0.2\n\
    until [ -e \"$2\" ]; do sleep 0.02; done\n";
/// Submissions a second.
const RATE: u32 = 50;

#[test]
fn a_stop_amid_fifty_submissions_a_second_loses_no_task_starts_none_twice_and_says_what_it_waits_for() {
    let site = Site::new("[limits]\nconcurrent = 8\ndrain = \"2s\"\n[script_executor]\nkill_grace = \"1s\"");
    site.write_script("notes.sh", NOTES);
    let service = site.start();
    let starts = service.site.path("starts");
    let gate = service.site.path("gate");
    let with_args = |args: &[&std::path::Path]| json!({ "name": "notes.sh", "args": args });
    let submit = |spec: &serde_json::Value| {
        request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(spec))
    };
    let start = |gate: &std::path::Path| {
        let reply = service.post("/api/v1/tasks", &with_args(&[&starts, gate]));
        eventually("it to run", || is_running(&service, &reply.id()));
        reply.id()
    };
    // One ends within the drain time, and two never.
    let (passes, stuck) =
        (start(&gate), [start("/nonexistent/gate".as_ref()), start("/nonexistent".as_ref())]);
    let text = submit(&with_args(&[&starts]));
    let accepted: BTreeSet<String> = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut accepted = BTreeSet::new();
            while let Some(reply) = try_exchange(service.at, &text) {
                match reply.status {
                    202 => drop(accepted.insert(reply.id())),
                    status => assert_eq!((status, reply.code().as_str()), (503, "draining")),
                }
                std::thread::sleep(Duration::from_secs(1) / RATE);
            }
            accepted
        });
        eventually("some load", || (service.count() >= 60).then_some(()));
        service.signal(Signal::SIGTERM);
        eventually("it to say what it waits for", || {
            let said = service.said();
            let waiting = said.lines().find(|line| line.contains("waiting for running tasks"))?;
            stuck.iter().chain([&passes]).all(|id| waiting.contains(id)).then_some(())
        });
        std::fs::write(&gate, "").unwrap();
        load.join().unwrap()
    });
    let (status, site, said) = service.ended_with();
    assert_eq!(status.code(), Some(0), "{said}");
    let cancelled =
        said.lines().find(|line| line.contains("cancelled at the end of the drain time")).unwrap();
    assert!(stuck.iter().all(|id| cancelled.contains(id)) && !cancelled.contains(&passes), "{cancelled}");
    assert!(accepted.len() >= 50, "{}", accepted.len());

    let again = site.start();
    for id in &stuck {
        assert_eq!(again.ended(id)["status"], "cancelled");
    }
    for id in accepted.iter().chain([&passes]) {
        assert_eq!(again.ended(id)["status"], "succeeded", "{id}");
    }
    let text = std::fs::read_to_string(&starts).unwrap();
    let started: Vec<&str> = text.lines().collect();
    let once: BTreeSet<&str> = started.iter().copied().collect();
    assert_eq!((started.len(), once.len()), (accepted.len() + 3, accepted.len() + 3));
}

/// An answer; none when the service has gone meanwhile.
fn try_exchange(at: std::net::SocketAddr, text: &str) -> Option<crate::support::Reply> {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    crate::support::read_reply(&mut std::io::BufReader::new(stream), false)
}
