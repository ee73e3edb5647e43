//! Secrets and hooks change while the service runs; what cannot be used keeps it from starting, or changes nothing.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{Delivery, GITHUB, OTHER, allow, push, site};
use crate::support::{IN_FORCE, Service, Site, eventually, without};

const NEW: &str = "new-secret-0123456789abcdef";

fn status(service: &Service, secret: &str) -> u16 {
    Delivery::github("github", secret, &push()).send(service).status
}

/// Replaces the secrets of the usual hook as a whole, and waits until requests with one of them are answered so.
fn write_secrets(service: &Service, text: &str, secret: &str, expected: u16) {
    service.site.write_secret("github.secret.new", text);
    std::fs::rename(service.site.path("github.secret.new"), service.site.path("github.secret")).unwrap();
    let began = Instant::now();
    eventually("the new secrets", || (status(service, secret) == expected).then_some(()));
    assert!(began.elapsed() < IN_FORCE, "{:?}", began.elapsed());
}

#[test]
fn a_secret_is_replaced_while_requests_go_on_and_nobody_is_refused() {
    let service = site("").start();
    assert_eq!((status(&service, GITHUB), status(&service, NEW)), (202, 401));
    write_secrets(&service, &format!("{GITHUB}\n{NEW}\n"), NEW, 202);
    assert_eq!(status(&service, GITHUB), 202);
    write_secrets(&service, NEW, GITHUB, 401);
    assert_eq!(status(&service, NEW), 202);
    assert_eq!(status(&service, OTHER), 401);
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_secrets_as_they_are_and_says_so_once() {
    let service = site("").start();
    let path = service.site.path("github.secret");
    let refused = |why: &str| {
        eventually(why, || service.said().contains(why).then_some(()));
        assert_eq!(status(&service, GITHUB), 202, "{why}");
    };
    allow(&service.site, "github.secret", 0o640);
    refused("others may use it (mode 0640)");
    allow(&service.site, "github.secret", 0o600);
    std::fs::write(&path, "c4n4ry").unwrap();
    refused("a secret has 6 bytes");
    std::fs::remove_file(&path).unwrap();
    refused("No such file");
    let told = || service.said().matches("the secrets of a hook stay as they are: hook.github").count();
    let before = told();
    service.signal(Signal::SIGHUP);
    eventually("it again", || (told() > before).then_some(()));
    assert_eq!(told(), before + 1);
    assert!(!service.said().contains("c4n4ry"));
    // It keeps nothing else from changing: the secret of another hook, and who may call.
    service.site.write_secret("other.secret", NEW);
    eventually("the other hook's", || {
        (Delivery::github("other", NEW, &push()).send(&service).status == 202).then_some(())
    });
    assert_eq!(service.call("reader", "GET", "/api/v1/runners", None).status, 200);
    service.change_settings(|text| without(&text, "reader"));
    eventually("the token to be gone", || {
        (service.call("reader", "GET", "/api/v1/runners", None).status == 401).then_some(())
    });
    assert_eq!(status(&service, GITHUB), 202);
    service.site.write_secret("github.secret", NEW);
    eventually("the new one", || (status(&service, NEW) == 202).then_some(()));
}

#[test]
fn hooks_come_and_go_with_the_settings_without_a_restart() {
    let service = site("").start();
    let added = Delivery::github("added", NEW, &push());
    assert_eq!(added.send(&service).status, 401);
    let section = "[[hook]]\nname = \"added\"\nscript = \"hello.sh\"\nscheme = \"github\"\nsecret_file = \"added.secret\"\n";
    // Its secret is not there yet: the whole stays as it was.
    service.change_settings(|text| text + section);
    eventually("what is wrong", || {
        service.said().contains("the settings stay as they are: hook.added").then_some(())
    });
    service.site.write_secret("added.secret", NEW);
    eventually("the new hook", || (added.send(&service).status == 202).then_some(()));
    assert!(!service.said().contains("take a restart"), "{}", service.said());
    // Its file is looked at as those of the start are.
    service.site.write_secret("added.secret", OTHER);
    eventually("its new secret", || (added.send(&service).status == 401).then_some(()));
    assert_eq!(Delivery::github("added", OTHER, &push()).send(&service).status, 202);
    service.change_settings(|text| text.replace(section, ""));
    let began = Instant::now();
    eventually("it to be gone", || {
        (Delivery::github("added", OTHER, &push()).send(&service).status == 401).then_some(())
    });
    assert!(began.elapsed() < IN_FORCE, "{:?}", began.elapsed());
    assert_eq!(status(&service, GITHUB), 202);
}

#[test]
fn a_delivery_that_comes_again_to_a_hook_that_was_set_up_otherwise_is_not_started_with_other_values() {
    let service = site("").start();
    let delivery = Delivery::github("github", GITHUB, &push()).with("X-GitHub-Delivery", "one");
    assert_eq!(delivery.send(&service).status, 202);
    service.change_settings(|text| text.replacen("service = \"web\"", "service = \"api\"", 1));
    let conflict = eventually("the other values", || {
        let reply = delivery.send(&service);
        (reply.status != 200).then_some(reply)
    });
    assert_eq!((conflict.status, conflict.code().as_str()), (409, "id_conflict"));
    assert_eq!(service.count(), 1);
}

fn run(site: &Site, flag: Option<&str>) -> (Option<i32>, String) {
    let output = site.command().args(flag).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn secrets_that_cannot_be_used_keep_the_service_from_starting_and_are_found_before() {
    let site = site("");
    let secret = |text: &str| site.write_secret("github.secret", text);
    let (code, said) = run(&site, Some("--check-config"));
    assert_eq!(code, Some(0), "{said}");
    for (break_it, why) in [
        (&(|| allow(&site, "github.secret", 0o604)) as &dyn Fn(), "others may use it"),
        (&|| secret("short"), "a secret has 5 bytes"),
        (&|| secret(""), "there is no secret in it"),
        (&|| secret(&format!("{GITHUB}\n{OTHER}\n{NEW}")), "it has 3 lines"),
        (&|| std::fs::remove_file(site.path("github.secret")).unwrap(), "No such file"),
    ] {
        secret(GITHUB);
        break_it();
        for flag in [Some("--check-config"), None] {
            let (code, said) = run(&site, flag);
            assert_eq!(code, Some(2), "{why}: {said}");
            assert!(said.contains("hook.github: secret_file: ") && said.contains(why), "{why}: {said}");
            assert!(!said.contains(GITHUB) && !site.path("state").exists(), "{why}: {said}");
        }
    }
    secret(GITHUB);
    let service = site.start();
    assert_eq!(status(&service, GITHUB), 202);
    assert_eq!(json!(service.count()), json!(1));
}
