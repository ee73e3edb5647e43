//! Certificates that are exchanged while the service runs, and those that expire.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Authority, Service, Site, eventually, install, read_reply, request_text, tls_connect, tls_site,
};

/// The promise: changes are in force by then.
const IN_FORCE: Duration = Duration::from_secs(1);

/// The digest of the certificate that new connections get.
fn presented(service: &Service, authority: &Authority) -> Vec<u8> {
    let mut stream = tls_connect(service.at, authority, None);
    stream.write_all(request_text("GET", "/healthz", None, None).as_bytes()).unwrap();
    assert_eq!(read_reply(&mut BufReader::new(&mut stream), false).expect("an answer").status, 200);
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_new_certificate_is_in_use_within_a_second_and_no_request_is_lost() {
    let authority = Authority::new();
    authority.issue("first", 365);
    authority.issue("second", 365);
    let service = tls_site(&authority, "first", "").start();
    let old = presented(&service, &authority);

    // A task whose log somebody follows through the change.
    let gate = service.site.path("gate");
    let bearer = Site::token("admin");
    let spec = serde_json::json!({ "name": "gate.sh", "args": [gate], "id": "long" });
    let mut stream = tls_connect(service.at, &authority, None);
    stream.write_all(request_text("POST", "/api/v1/tasks", Some(&bearer), Some(&spec)).as_bytes()).unwrap();
    assert_eq!(read_reply(&mut BufReader::new(stream), false).unwrap().status, 202);
    let follower = tls_connect(service.at, &authority, None);
    let follow = request_text("GET", "/api/v1/tasks/long/log?follow=true&banner=false", Some(&bearer), None);
    let follower = std::thread::spawn(move || {
        let mut follower = follower;
        follower.write_all(follow.as_bytes()).unwrap();
        read_reply(&mut BufReader::new(follower), false).unwrap()
    });

    let is_over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut kept = BufReader::new(tls_connect(service.at, &authority, None));
            let text = request_text("GET", "/healthz", None, None).replace("Connection: close\r\n", "");
            let mut answered = 0;
            while !is_over.load(Ordering::Relaxed) {
                kept.get_mut().write_all(text.as_bytes()).unwrap();
                assert_eq!(read_reply(&mut kept, false).expect("an answer").status, 200);
                presented(&service, &authority);
                answered += 2;
            }
            answered
        });
        install(&authority, "second", &service.site);
        let began = Instant::now();
        eventually("the new certificate", || (presented(&service, &authority) != old).then_some(()));
        assert!(began.elapsed() < IN_FORCE, "{:?}", began.elapsed());
        is_over.store(true, Ordering::Relaxed);
        others.join().unwrap()
    });
    assert!(answered > 4, "{answered} requests");
    fs::write(gate, "").unwrap();
    assert_eq!(follower.join().unwrap().text(), "waiting\npassed\n");
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_old_one_in_use_and_is_told() {
    let authority = Authority::new();
    authority.issue("first", 365);
    authority.issue("second", 365);
    let service = tls_site(&authority, "first", "").start();
    let old = presented(&service, &authority);
    fs::copy(authority.path("second.key"), service.site.path("key.pem")).unwrap();
    eventually("what is wrong", || {
        service.said().contains("it is not the key of the certificate").then_some(())
    });
    assert_eq!(presented(&service, &authority), old);
    fs::write(service.site.path("cert.pem"), "garbage").unwrap();
    eventually("what is wrong", || service.said().contains("there is no certificate in it").then_some(()));
    assert_eq!(presented(&service, &authority), old);
    // The rest of the pair comes later: then both are used.
    install(&authority, "second", &service.site);
    eventually("the new pair", || (presented(&service, &authority) != old).then_some(()));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_in_use_once_it_is() {
    let authority = Authority::new();
    authority.issue("first", 365);
    authority.issue_at("early", 365, Some("+6 seconds"));
    let service = tls_site(&authority, "first", "").start();
    let old = presented(&service, &authority);
    install(&authority, "early", &service.site);
    eventually("why it is not used", || {
        service.said().contains("the certificate stays as it is").then_some(())
    });
    assert_eq!(presented(&service, &authority), old);
    eventually("the new certificate", || (presented(&service, &authority) != old).then_some(()));
    assert_eq!(service.said().matches("the certificate stays as it is").count(), 1);
}

#[test]
fn a_certificate_that_expires_soon_is_told_in_the_log_to_probes_and_in_the_measurements() {
    let authority = Authority::new();
    authority.issue("soon", 13);
    authority.issue("later", 15);
    let told = |name: &str| {
        let service = tls_site(&authority, name, "").start();
        let mut said = [String::new(), String::new()];
        for (said, path) in said.iter_mut().zip(["/readyz", "/metrics"]) {
            let mut stream = tls_connect(service.at, &authority, None);
            stream
                .write_all(request_text("GET", path, Some(&Site::token("admin")), None).as_bytes())
                .unwrap();
            *said = read_reply(&mut BufReader::new(stream), false).unwrap().text();
        }
        let [ready, metrics] = said;
        let line =
            metrics.lines().find(|line| line.starts_with("devops_agent_tls_certificate_expires_seconds "));
        let expires: f64 = line.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let days = (expires - now.as_secs_f64()) / 86400.0;
        (service, ready, days)
    };
    let (service, ready, days) = told("soon");
    assert!(ready.contains("\"certificate_expires\":\"20") && (12.0..13.1).contains(&days), "{ready} {days}");
    eventually("a warning", || service.said().contains("expires soon").then_some(()));
    let (service, ready, days) = told("later");
    assert!(!ready.contains("certificate") && (14.0..15.1).contains(&days), "{ready} {days}");
    assert!(!service.said().contains("expires soon"));
}

#[test]
fn a_connection_of_before_the_change_is_read_to_its_end() {
    let authority = Authority::new();
    authority.issue("first", 365);
    authority.issue("second", 365);
    let service = tls_site(&authority, "first", "").start();
    let old = presented(&service, &authority);
    let mut page = tls_connect(service.at, &authority, None);
    let path = "/docs/swagger-ui-bundle.js";
    page.write_all(request_text("GET", path, None, None).as_bytes()).unwrap();
    let mut first = [0; 1000];
    page.read_exact(&mut first).unwrap();
    install(&authority, "second", &service.site);
    eventually("the new certificate", || (presented(&service, &authority) != old).then_some(()));
    let mut rest = Vec::new();
    page.read_to_end(&mut rest).unwrap();
    let mut again = Vec::new();
    let mut stream = tls_connect(service.at, &authority, None);
    stream.write_all(request_text("GET", path, None, None).as_bytes()).unwrap();
    stream.read_to_end(&mut again).unwrap();
    assert!(again.len() > 1_000_000 && again.len() == 1000 + rest.len());
}
