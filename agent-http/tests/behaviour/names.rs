//! Names that would lead out of a folder are refused with the library's own words, whatever way they come.

use task_runners::{ScriptName, TaskId, WorkspaceName};

use serde_json::json;

use crate::support::{Reply, Service, Site, exchange};

/// Names that are none, as the bytes that a caller means.
const BAD: &[&str] = &[
    "..",
    "../secret.sh",
    "../../etc/passwd",
    "a/../../secret.sh",
    "/etc/passwd",
    "//etc/passwd",
    "./hello.sh",
    "a//b",
    "hello.sh/",
    ".hidden",
    "-rf",
    "hello.sh\0",
    "hello\nworld",
    "a b",
    "a\\..\\b",
    "%2e%2e/secret.sh",
    "ä.sh",
    "\u{202e}hs.olleh",
    "a/b/c/d/e/f/g/h/i",
    "~root/x",
    "$HOME/x",
    "C:\\x",
    "\u{ff0e}\u{ff0e}/secret.sh",
];

#[test]
fn a_bad_name_is_refused_with_the_same_words_by_the_library_and_over_http() {
    let service = site_with_secret().start();
    for bad in BAD {
        let problem = bad.parse::<ScriptName>().unwrap_err().0;
        let by_spec = service.post("/api/v1/tasks", &json!({ "name": bad }));
        assert_refused(&by_spec, &json!(problem), bad);
        let by_path = get(&service, &format!("/api/v1/scripts/{}", encoded(bad)));
        assert_refused(&by_path, &json!(problem), bad);
        let by_run = service.post(&format!("/api/v1/scripts/{}/run", encoded(bad)), &json!({}));
        assert_refused(&by_run, &json!(problem), bad);

        if let Err(problem) = bad.parse::<TaskId>() {
            let by_spec = service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "id": bad }));
            assert_refused(&by_spec, &json!(problem.0), bad);
            for below in ["", "/log", "/debug.sh"] {
                let by_path = get(&service, &format!("/api/v1/tasks/{}{below}", encoded(bad)));
                assert_refused(&by_path, &json!(problem.0), bad);
            }
        }
        if let Err(problem) = bad.parse::<WorkspaceName>() {
            let by_spec = service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "work_dir": bad }));
            assert_refused(&by_spec, &json!(problem.0), bad);
        }
    }
    assert_eq!(service.count(), 0);
}

#[test]
fn plain_dots_and_slashes_in_a_path_reach_nothing() {
    let service = site_with_secret().start();
    for path in [
        "/api/v1/scripts/../../../etc/passwd",
        "/api/v1/scripts/..",
        "/api/v1/scripts//etc/passwd",
        "/api/v1/scripts/deploy/../../secret.sh",
        "/api/v1/tasks/../../state/token",
        "/docs/../../etc/passwd",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e",
    ] {
        let reply = get(&service, path);
        assert!(matches!(reply.status, 404 | 422), "{path}: {} {}", reply.status, reply.text());
        reply.code();
    }
    // Bytes that are no text.
    let reply = get(&service, "/api/v1/scripts/%ff%fe");
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"));
}

#[test]
fn the_words_for_a_bad_name_stay_as_they_are() {
    let service = Service::usual();
    insta::assert_json_snapshot!(
        "bad_script_name",
        service.post("/api/v1/tasks", &json!({ "name": "../x" })).json()
    );
    insta::assert_json_snapshot!("bad_task_id", get(&service, "/api/v1/tasks/..%2Fx").json());
    insta::assert_json_snapshot!("no_such_script", get(&service, "/api/v1/scripts/none.sh").json());
    insta::assert_json_snapshot!("no_such_task", get(&service, "/api/v1/tasks/none").json());
}

#[test]
fn a_good_name_is_found_with_plain_and_with_encoded_slashes() {
    let service = Service::usual();
    let encoded = get(&service, "/api/v1/scripts/deploy%2Fweb.sh");
    assert_eq!(encoded.status, 200);
    assert_eq!(encoded.json()["name"], "deploy/web.sh");
    assert_eq!(get(&service, "/api/v1/scripts/deploy/web.sh").json(), encoded.json());
}

/// A site with a script that lies beside the scripts folder, and would be found if names were only joined.
fn site_with_secret() -> Site {
    let site = Site::new("");
    site.write_script("../secret.sh", "#!/bin/sh\necho secret\n");
    assert!(site.path("scripts").join("../secret.sh").exists());
    site
}

fn get(service: &Service, path: &str) -> Reply {
    let token = Site::token("admin");
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    exchange(service.at, text.as_bytes())
}

fn assert_refused(reply: &Reply, problem: &serde_json::Value, name: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"), "{name:?}: {}", reply.text());
    assert_eq!(reply.json()["errors"], json!([problem]), "{name:?}");
}

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn what_the_agent_fails_at_is_told_to_its_log_and_not_to_the_caller() {
    let service = Service::usual();
    std::fs::rename(service.site.path("scripts"), service.site.path("away")).unwrap();
    // What was found in it is shown until it is known to be gone.
    let reply = crate::support::eventually("it to be missed", || {
        Some(service.get("/api/v1/scripts")).filter(|reply| reply.status != 200)
    });
    assert_eq!((reply.status, reply.code().as_str()), (503, "unavailable"));
    assert!(reply.header("retry-after").is_some());
    let folder = service.site.path("scripts").display().to_string();
    assert!(!reply.text().contains('/'), "{}", reply.text());
    crate::support::eventually("the log to say so", || service.said().contains(&folder).then_some(()));
}
