//! How many tasks of one token may wait and run at one time.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Reply, Service, Site, eventually, with};

/// A service on which the token `all` may have so many tasks open, and `concurrent` tasks run.
fn served(open: u32, concurrent: u32) -> Service {
    let site = Site::new(&format!("[limits]\nconcurrent = {concurrent}"));
    let path = site.path("application.toml");
    let settings = with(&fs::read_to_string(&path).unwrap(), "all", &format!("concurrent = {open}"));
    fs::write(path, settings).unwrap();
    site.start()
}

fn submit(service: &Service, spec: &Value) -> Reply {
    service.call("all", "POST", "/api/v1/tasks", Some(spec))
}

/// A task that runs until its gate opens.
fn gated(service: &Service, id: &str) -> Value {
    json!({ "name": "gate.sh", "id": id, "args": [service.site.path("gate")] })
}

fn open_gate(service: &Service) {
    fs::write(service.site.path("gate"), "").unwrap();
}

fn assert_busy(reply: &Reply) {
    assert_eq!((reply.status, reply.code().as_str()), (429, "token_busy"), "{}", reply.text());
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[test]
fn of_sixty_four_at_once_only_as_many_are_accepted_as_may_be_open() {
    let service = served(4, 2);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64)
            .map(|number| {
                let service = &service;
                scope.spawn(move || submit(service, &gated(service, &format!("t{number}"))))
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let (accepted, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 202);
    assert_eq!((accepted.len(), service.count()), (4, 4));
    refused.into_iter().for_each(assert_busy);
    // Others are not touched by that.
    assert_eq!(service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "id": "other" })).status, 202);
    open_gate(&service);
    accepted.iter().for_each(|reply| drop(service.ended(&reply.id())));
    assert_eq!(submit(&service, &json!({ "name": "hello.sh" })).status, 202);
}

#[test]
fn every_way_to_a_new_task_counts_and_what_exists_takes_no_room() {
    let service = served(1, 4);
    let spec = gated(&service, "one");
    let first: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64).map(|_| scope.spawn(|| submit(&service, &spec).status)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(first.iter().filter(|status| **status == 202).count(), 1, "{first:?}");
    assert!(first.iter().all(|status| [200, 202].contains(status)), "{first:?}");
    assert_busy(&submit(&service, &gated(&service, "two")));
    assert_busy(&service.call("all", "POST", "/api/v1/scripts/hello.sh/run", None));
    assert_busy(&service.call("all", "POST", "/api/v1/tasks/one/rerun", None));
    // Another spec under an id that exists is a conflict, and what is wrong is wrong.
    for (spec, status) in [
        (json!({ "name": "hello.sh", "id": "one" }), 409),
        (json!({ "name": "none.sh" }), 404),
        (json!({ "name": "hello.sh", "timeout": "soon" }), 422),
    ] {
        let reply = submit(&service, &spec);
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    assert_eq!(service.count(), 1);
    // One that is cancelled makes room once it has ended, whether it ran or waited.
    assert_eq!(service.call("all", "POST", "/api/v1/tasks/one/cancel", None).status, 202);
    service.ended("one");
    assert_eq!(submit(&service, &gated(&service, "two")).status, 202);
    assert_eq!(submit(&service, &spec).status, 200);
}

#[test]
fn tasks_that_wait_count_before_a_restart_and_behind_it() {
    let service = served(2, 1);
    for id in ["runs", "waits"] {
        assert_eq!(submit(&service, &gated(&service, id)).status, 202);
    }
    eventually("that one runs", || {
        (service.get("/api/v1/tasks/runs").json()["status"] == "running").then_some(())
    });
    assert_busy(&submit(&service, &gated(&service, "third")));
    assert_eq!(service.call("all", "POST", "/api/v1/tasks/waits/cancel", None).status, 202);
    assert_eq!(submit(&service, &gated(&service, "waits-2")).status, 202);
    let site = service.killed();
    let service = site.start();
    // The one that ran is interrupted, and the one that waited has its turn.
    assert_eq!(service.ended("runs")["status"], "interrupted");
    assert_eq!(submit(&service, &gated(&service, "fourth")).status, 202);
    assert_busy(&submit(&service, &gated(&service, "fifth")));
    open_gate(&service);
    ["waits-2", "fourth"].iter().for_each(|id| drop(service.ended(id)));
    assert_eq!(submit(&service, &gated(&service, "fifth")).status, 202);
}

#[test]
fn a_bound_that_is_changed_holds_from_the_next_submission_on() {
    let service = served(1, 4);
    assert_eq!(submit(&service, &gated(&service, "one")).status, 202);
    assert_busy(&submit(&service, &gated(&service, "two")));
    service.change_settings(|text| {
        text.replace("name = \"all\"\nconcurrent = 1", "name = \"all\"\nconcurrent = 0")
    });
    eventually("room", || (submit(&service, &gated(&service, "two")).status != 429).then_some(()));
    assert_eq!(submit(&service, &gated(&service, "three")).status, 202);
}
