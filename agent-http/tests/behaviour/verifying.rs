//! The scripts folder as seen from outside: unverified at the start, mended, and tampered with while it is in use.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Service, Site, eventually, exchange, request_text};

const ALWAYS: &str = "[script_executor]\nis_verify_script_integrity = true\n";

/// Writes the manifest of a site's scripts, as `sha256sum` makes it.
pub(crate) fn vouch(site: &Site, version: u32) {
    let command = format!(
        "{{ echo '# version: {version}'; find . -type f ! -name 'MANIFEST*' -printf '%P\\n' | LC_ALL=C sort | \
         xargs sha256sum; }} > MANIFEST.new && mv MANIFEST.new MANIFEST.sha256"
    );
    let made = Command::new("sh").args(["-c", &command]).current_dir(site.path("scripts")).status().unwrap();
    assert!(made.success());
}

fn ready(service: &Service) -> (u16, serde_json::Value) {
    let reply = exchange(service.at, request_text("GET", "/readyz", None, None).as_bytes());
    (reply.status, reply.json())
}

#[test]
fn an_unverified_folder_refuses_every_submission_with_all_problems_until_it_is_mended() {
    let site = Site::new(ALWAYS);
    vouch(&site, 1);
    site.write_script("extra.sh", "#!/bin/sh\necho extra\n");
    site.write_script("hello.sh", "#!/bin/sh\necho changed\n");
    let service = site.start();
    assert!(service.said().contains("does not verify"), "{}", service.said());
    let reply = service.post("/api/v1/tasks", &json!({ "name": "fail.sh" }));
    assert_eq!((reply.status, reply.code().as_str()), (409, "scripts_unverified"));
    let problems = reply.json()["problems"].clone();
    let text = problems.to_string();
    assert!(text.contains("extra.sh") && text.contains("hello.sh"), "{text}");
    assert!(reply.json()["mend"].as_str().unwrap().contains("manifest create"), "{}", reply.text());
    let (status, body) = ready(&service);
    assert_eq!((status, &body["code"]), (503, &json!("scripts_unverified")));
    // Without a token nobody learns more than that.
    assert!(!body.to_string().contains(".sh"), "{body}");
    assert!(body["detail"].as_str().unwrap().contains("2 problems"), "{body}");
    let list = service.get("/api/v1/scripts").json();
    assert_eq!((&list["scripts"], &list["verification"]["problems"]), (&json!([]), &problems));
    assert_eq!(service.count(), 0);

    vouch(&service.site, 2);
    let reply = service.post("/api/v1/tasks", &json!({ "name": "extra.sh" }));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let task = service.ended(&reply.id());
    assert_eq!(task["status"], "succeeded");
    assert!(task["result"]["manifest"].is_string());
    eventually("it to be ready", || (ready(&service).0 == 200).then_some(()));
}

#[test]
fn a_token_learns_of_problems_only_with_scripts_that_it_sees() {
    let site = Site::new(ALWAYS);
    vouch(&site, 1);
    site.write_script("secret.sh", "#!/bin/sh\n");
    site.write_script("deploy/new.sh", "#!/bin/sh\n");
    let service = site.start();
    let problems = |token: &str| {
        let spec = json!({ "name": "deploy/web.sh" });
        let refused = service.call(token, "POST", "/api/v1/tasks", Some(&spec));
        assert_eq!((refused.status, refused.code().as_str()), (409, "scripts_unverified"));
        let shown = service.call(token, "GET", "/api/v1/scripts/deploy%2Fweb.sh", None);
        assert_eq!(shown.json(), refused.json());
        let listed = service.call(token, "GET", "/api/v1/scripts", None).json();
        assert_eq!(listed["verification"]["problems"], refused.json()["problems"]);
        assert!(!refused.json()["detail"].to_string().contains(".sh"), "{}", refused.text());
        refused.json()["problems"].clone()
    };
    let seen = problems("deployer");
    assert_eq!(seen.as_array().unwrap().len(), 2, "{seen}");
    assert!(seen[0].as_str().unwrap().starts_with("deploy/new.sh: "), "{seen}");
    assert!(seen[1].as_str().unwrap().starts_with("and 1 more"), "{seen}");
    let all = problems("admin").to_string();
    assert!(all.contains("secret.sh") && all.contains("deploy/new.sh") && !all.contains("more"), "{all}");
}

#[test]
fn what_was_verified_stays_in_use_when_the_folder_is_tampered_with_and_that_is_reported() {
    let site = Site::new(ALWAYS);
    vouch(&site, 1);
    let service = site.start();
    assert_eq!(ready(&service).0, 200);
    service.site.write_script("hello.sh", "#!/bin/sh\necho injected\n");
    service.signal(Signal::SIGHUP);
    let body = eventually("the report", || {
        let (status, body) = ready(&service);
        assert_eq!(status, 200);
        (body["problems"] != json!(0)).then_some(body)
    });
    assert_eq!(body, json!({ "status": "ready", "problems": 1, "watched": true }));
    let list = service.get("/api/v1/scripts").json();
    assert!(list["verification"]["problems"].to_string().contains("hello.sh"), "{list}");
    let metrics = service.get("/metrics").text();
    assert!(metrics.contains("\ndevops_agent_scripts_usable 1"), "{metrics}");
    assert!(!metrics.contains("\ndevops_agent_scripts_problems 0"), "{metrics}");
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    assert_eq!(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text(), "hello\n");
}

#[test]
fn the_twin_without_verification_runs_what_is_there() {
    let site = Site::new("[script_executor]\nis_verify_script_integrity = false\n");
    vouch(&site, 1);
    let service = site.start();
    service.site.write_script("hello.sh", "#!/bin/sh\necho injected\n");
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    assert_eq!(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text(), "injected\n");
    assert_eq!(service.get("/api/v1/scripts/hello.sh").json()["verified"], false);
}

#[test]
fn a_new_manifest_is_taken_into_use_without_a_restart() {
    let site = Site::new(ALWAYS);
    vouch(&site, 1);
    let service = site.start();
    let before = service.get("/api/v1/scripts/hello.sh").json();
    assert_eq!(before["verified"], true);
    service.site.write_script("hello.sh", "#!/bin/sh\necho new\n");
    vouch(&service.site, 2);
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    assert_eq!(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text(), "new\n");
    assert_ne!(service.get("/api/v1/scripts/hello.sh").json()["sha256"], before["sha256"]);
}
