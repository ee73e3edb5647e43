//! What a sender cannot exceed: size, time, rate, queue; and a service that stops.

use std::io::{BufReader, Write};

use nix::sys::signal::Signal;
use serde_json::json;

use super::{Delivery, GITHUB, one_of_each, push, site};
use crate::support::{connect, eventually, exchange, read_reply};

#[test]
fn a_body_is_bounded_before_anybody_asks_who_sent_it() {
    let service = site("[limits]\nbody = \"64KiB\"").start();
    let large = Delivery::github("github", GITHUB, &json!({ "ref": "x".repeat(70_000) }));
    for delivery in [large.clone(), large.clone().without("X-Hub-Signature-256")] {
        let reply = delivery.send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (413, "body_too_large"));
    }
    for media_type in ["text/plain", "application/xml", "multipart/form-data; boundary=x"] {
        let reply =
            Delivery::github("github", GITHUB, &push()).but("Content-Type", media_type).send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (415, "media_type"), "{media_type}");
    }
    // What is signed and is no JSON is told so; what is not signed is not read.
    for body in ["", "{", "nothing"] {
        let mut delivery = Delivery::github("github", GITHUB, &push());
        delivery.body = body.to_owned();
        assert_eq!(delivery.send(&service).code(), "signature_invalid", "{body}");
        let signature = super::github_signature(GITHUB, body);
        let reply = delivery.but("X-Hub-Signature-256", &signature).send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (400, "not_json"), "{body}");
    }
    assert_eq!(service.count(), 0);
    let [github, ..] = one_of_each();
    assert_eq!(github.send(&service).status, 202);
}

#[test]
fn bodies_that_nobody_has_signed_take_no_more_memory_than_there_is_for_them_and_of_nobody_else() {
    let service = site("[limits]\nbody = \"64MiB\"").start();
    let [github, ..] = one_of_each();
    let length = 64 << 20;
    let mut held = connect(service.at);
    let head = format!(
        "POST /hooks/nobody HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    held.write_all(head.as_bytes()).unwrap();
    // All but one byte.
    held.write_all(&vec![b' '; length - 1]).unwrap();
    let refused = eventually("that there is no room", || {
        let reply = github.send(&service);
        (reply.status == 503).then_some(reply)
    });
    assert_eq!(refused.code(), "hooks_busy");
    assert!(refused.header("retry-after").is_some());
    // Whoever has a token is none of them.
    service.submit("hello.sh", &[]);
    drop(held);
    eventually("the room", || (github.send(&service).status <= 202).then_some(()));
}

#[test]
fn a_signed_body_may_come_in_chunks_and_be_asked_for_first() {
    let service = site("").start();
    let [github, ..] = one_of_each();
    let length = format!("Content-Length: {}", github.body.len());
    let (head, body) =
        github.text().split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let chunks: String = body
        .as_bytes()
        .chunks(7)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
        .collect();
    let chunked =
        format!("{}\r\n\r\n{chunks}0\r\n\r\n", head.replacen(&length, "Transfer-Encoding: chunked", 1));
    assert_eq!(exchange(service.at, chunked.as_bytes()).status, 202);
    let mut stream = BufReader::new(connect(service.at));
    let asking = head.replacen(&length, &format!("{length}\r\nExpect: 100-continue"), 1);
    stream.get_mut().write_all(format!("{asking}\r\n\r\n").as_bytes()).unwrap();
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, false).unwrap().status, 200);
}

#[test]
fn whoever_signs_too_often_is_told_when_to_come_back_and_who_does_not_sign_takes_nothing_of_it() {
    let site = site("");
    let service = site.start();
    service.change_settings(|text| {
        text.replacen("name = \"github\"\n", "name = \"github\"\nrequests_per_minute = 6\n", 1)
    });
    eventually("the new settings", || service.said().contains("settings read again").then_some(()));
    let [github, gitlab, _] = one_of_each();
    for _ in 0..30 {
        assert_eq!(github.clone().without("X-Hub-Signature-256").send(&service).status, 401);
    }
    let statuses: Vec<u16> = (0..8).map(|_| github.send(&service).status).collect();
    assert_eq!(statuses[0], 202);
    assert!(statuses[1..6].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses[6..].contains(&429), "{statuses:?}");
    let refused = eventually("a refusal", || {
        let reply = github.send(&service);
        (reply.status == 429).then_some(reply)
    });
    assert_eq!(refused.code(), "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
    // Without a signature it is 401 all the same, and another hook has its own rate.
    assert_eq!(github.clone().without("X-Hub-Signature-256").send(&service).status, 401);
    assert_eq!(gitlab.send(&service).status, 202);
    // Settings that are read again give nobody more.
    service.signal(Signal::SIGHUP);
    eventually("them again", || (service.said().matches("settings read again").count() >= 2).then_some(()));
    let again: Vec<u16> = (0..3).map(|_| github.send(&service).status).collect();
    assert!(again.contains(&429), "{again:?}");
}

#[test]
fn a_full_queue_is_told_without_names_of_the_inside() {
    let service = site("[limits]\nconcurrent = 1\nqueue = 1").start();
    let gate = service.site.path("gate").display().to_string();
    service.submit("gate.sh", &[&gate]);
    let [github, gitlab, _] = one_of_each();
    let waiting = eventually("that it waits", || {
        let reply = github.send(&service);
        (reply.status == 202 || reply.status == 200).then_some(reply)
    });
    assert_eq!(waiting.json()["status"], "queued");
    let full = gitlab.send(&service);
    assert_eq!((full.status, full.code().as_str()), (429, "queue_full"), "{}", full.text());
    assert!(full.header("retry-after").is_some() && !full.text().contains("hooked"), "{}", full.text());
    // What is there already takes no room.
    assert_eq!(github.send(&service).status, 200);
    std::fs::write(gate, "").unwrap();
    assert_eq!(service.ended(&waiting.id())["status"], "succeeded");
    assert_eq!(gitlab.send(&service).status, 202);
}

#[test]
fn a_service_that_stops_says_so_and_does_what_it_has_accepted_after_the_next_start() {
    let service = site("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let running = service.submit("gate.sh", &[&gate]);
    eventually("it to run", || {
        (service.get(&format!("/api/v1/tasks/{running}")).json()["status"] == "running").then_some(())
    });
    let [github, _, standard] = one_of_each();
    let waiting = github.send(&service);
    assert_eq!((waiting.status, &waiting.json()["status"]), (202, &json!("queued")));
    service.signal(Signal::SIGTERM);
    eventually("it to stop", || (service.get("/readyz").status == 503).then_some(()));
    let stopping = eventually("its refusal", || {
        let reply = standard.send(&service);
        (reply.status == 503).then_some(reply)
    });
    assert_eq!(stopping.code(), "draining");
    assert!(stopping.header("retry-after").is_some());
    std::fs::write(gate, "").unwrap();
    let (status, site, said) = service.ended_with();
    assert!(status.success(), "{said}");
    assert_eq!(site.start().ended(&waiting.id())["status"], "succeeded");
}
