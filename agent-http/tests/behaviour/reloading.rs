//! Tokens, names and origins change while the service runs: within a second, and without a request that is lost.

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    IN_FORCE, Service, Site, connect, eventually, exchange, read_reply, request_text, without,
};

fn status(service: &Service, token: &str) -> u16 {
    service.call(token, "GET", "/api/v1/runners", None).status
}

fn section(name: &str) -> String {
    let digest = Site::digest(name);
    format!(
        "[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"read\"]\nscripts = [\"**\"]\n"
    )
}

#[test]
fn a_token_comes_and_goes_within_a_second_while_requests_of_others_go_on() {
    let service = Service::usual();
    assert_eq!((status(&service, "late"), status(&service, "reader")), (401, 200));
    let is_over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            // One connection that stays, and a new one each time.
            let mut stream = connect(service.at);
            let mut replies = BufReader::new(stream.try_clone().unwrap());
            let text = request_text("GET", "/api/v1/runners", Some(&Site::token("reader")), None);
            let kept = text.replace("Connection: close\r\n", "");
            let mut answered = 0;
            while !is_over.load(Ordering::Relaxed) {
                stream.write_all(kept.as_bytes()).unwrap();
                assert_eq!(read_reply(&mut replies, false).expect("an answer").status, 200);
                assert_eq!(exchange(service.at, text.as_bytes()).status, 200);
                answered += 2;
            }
            answered
        });
        for round in 0..3 {
            service.change_settings(|text| text + &section("late"));
            let began = Instant::now();
            eventually("that the token is accepted", || (status(&service, "late") == 200).then_some(()));
            assert!(began.elapsed() < IN_FORCE, "round {round}: {:?}", began.elapsed());
            service.change_settings(|text| without(&text, "late"));
            let began = Instant::now();
            eventually("that the token is refused", || (status(&service, "late") == 401).then_some(()));
            assert!(began.elapsed() < IN_FORCE, "round {round}: {:?}", began.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        others.join().unwrap()
    });
    assert!(answered > 10, "{answered} requests");
}

#[test]
fn mistakes_change_nothing_and_are_told_with_their_lines() {
    let service = Service::usual();
    service.change_settings(|text| without(&text, "reader") + "scopes = 1\n[http]\nporrt = 1\n");
    eventually("what is wrong", || service.said().contains("settings stay as they are").then_some(()));
    let said = service.said();
    assert!(said.contains("application.toml:") && said.contains("porrt"), "{said}");
    assert_eq!(status(&service, "reader"), 200);
}

/// Waits until that was said so often, and shows that the tokens are still those of the start.
fn refused(service: &Service, why: &str, times: usize) {
    eventually(why, || (service.said().matches(why).count() >= times).then_some(()));
    assert_eq!((status(service, "reader"), service.site.path("state/token").exists()), (200, false));
}

#[test]
fn a_file_that_is_emptied_or_gone_opens_the_service_to_nobody_else() {
    let service = Service::usual();
    fs::write(service.site.path("application.toml"), "").unwrap();
    refused(&service, "the new ones have no [[auth.token]]", 1);
    let service = Site::with_found_settings().start();
    fs::remove_file(service.site.path("etc/application.toml")).unwrap();
    refused(&service, "their file is gone", 1);
    service.signal(Signal::SIGHUP);
    refused(&service, "their file is gone", 2);
}

#[test]
fn a_file_that_is_trusted_no_longer_leaves_its_settings_in_force() {
    let service = Site::with_found_settings().start();
    let path = service.site.path("etc/application.toml");
    let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o664);
    refused(&service, "it may be written by others", 1);
    allow(0o644);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text + &section("late")).unwrap();
    eventually("the new token", || (status(&service, "late") == 200).then_some(()));
}

#[test]
fn what_could_not_be_read_just_now_is_read_later_without_another_change() {
    let service = Service::usual();
    service.limit("nofile=3:");
    service.change_settings(|text| text + &section("late"));
    eventually("why not", || service.said().contains("the settings stay as they are").then_some(()));
    service.limit("nofile=1024:");
    eventually("the new token", || (status(&service, "late") == 200).then_some(()));
    assert_eq!(service.said().matches("the settings stay as they are").count(), 1);
}

#[test]
fn names_and_origins_change_too_and_what_takes_a_restart_is_said() {
    let service = Service::usual();
    let text = request_text("GET", "/healthz", None, None).replace("Host: localhost", "Host: agent.example");
    assert_eq!(exchange(service.at, text.as_bytes()).status, 421);
    service
        .change_settings(|text| format!("[http]\nhosts = [\"agent.example\"]\n[limits]\nqueue = 7\n{text}"));
    eventually("the new name", || (exchange(service.at, text.as_bytes()).status == 200).then_some(()));
    eventually("what takes a restart", || service.said().contains("take a restart").then_some(()));
    let said = service.said();
    assert!(said.contains("sections=limits"), "{said}");
}

#[test]
fn a_signal_has_the_settings_read_again_also_where_the_file_looks_as_before() {
    let service = Service::usual();
    for times in 1..=2 {
        service.signal(Signal::SIGHUP);
        eventually("that they were read again", || {
            (service.said().matches("settings read again").count() == times).then_some(())
        });
    }
    assert_eq!(status(&service, "reader"), 200);
}

#[test]
fn a_token_that_calls_too_often_is_told_when_to_come_back_and_others_are_not() {
    let service = Service::usual();
    service.change_settings(|text| {
        text.replacen("name = \"reader\"\n", "name = \"reader\"\nrequests_per_minute = 20\n", 1)
    });
    let began = Instant::now();
    let refused = eventually("a refusal", || {
        let reply = service.call("reader", "GET", "/api/v1/runners", None);
        (reply.status == 429).then_some(reply)
    });
    assert_eq!(refused.code(), "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    assert_eq!(status(&service, "all"), 200);
    // It may call again when it was told to, and not before.
    let again = eventually("another answer", || (status(&service, "reader") == 200).then(Instant::now));
    assert!(again > began + Duration::from_secs(1), "{:?}", again - began);
}

#[test]
fn settings_that_are_read_again_give_nobody_more_calls() {
    let service = Service::usual();
    service.change_settings(|text| {
        text.replacen("name = \"reader\"\n", "name = \"reader\"\nrequests_per_minute = 6\n", 1)
    });
    let is_refused = || service.call("reader", "GET", "/api/v1/runners", None).status == 429;
    eventually("a refusal", || is_refused().then_some(()));
    for times in 2..=4 {
        service.signal(Signal::SIGHUP);
        eventually("that they were read again", || {
            (service.said().matches("settings read again").count() >= times).then_some(())
        });
        assert!(is_refused());
    }
    // Another number is another bound.
    service.change_settings(|text| text.replacen("requests_per_minute = 6", "requests_per_minute = 7", 1));
    eventually("a call", || (!is_refused()).then_some(()));
}
