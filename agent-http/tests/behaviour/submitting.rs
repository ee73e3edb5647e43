//! Tasks are accepted once, whole, and with every mistake named.

use std::collections::BTreeSet;
use std::sync::Barrier;

use serde_json::{Value, json};

use crate::support::{Reply, Service, Site, exchange, request_text};

fn with_prefer(service: &Service, prefer: &str, path: &str, body: &Value) -> Reply {
    let text = request_text("POST", path, Some(&Site::token("admin")), Some(body));
    exchange(service.at, text.replacen("\r\n", &format!("\r\nPrefer: {prefer}\r\n"), 1).as_bytes())
}

#[test]
fn an_accepted_task_has_a_place_of_its_own_and_reaches_its_end() {
    let service = Service::usual();
    let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "args": ["a b", "$(c)"] }));
    assert_eq!(reply.status, 202);
    let id = reply.id();
    assert_eq!(reply.header("location"), Some(format!("/api/v1/tasks/{id}").as_str()));
    let task = service.ended(&id);
    assert_eq!(task["status"], "succeeded");
    assert_eq!(task["result"]["outcome"], json!({ "kind": "exited", "code": 0 }));
    assert_eq!(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text(), "hello a b $(c)\n");
}

#[test]
fn a_preferred_wait_answers_with_the_ended_task_or_when_the_time_is_over() {
    let service = Service::usual();
    let ended = with_prefer(&service, "wait=60", "/api/v1/tasks", &json!({ "name": "fail.sh" }));
    assert_eq!((ended.status, ended.header("preference-applied")), (200, Some("wait=60")));
    assert_eq!(ended.json()["result"]["exit_code"], 3);
    assert!(ended.header("location").is_some());

    let gate = service.site.path("gate").display().to_string();
    let spec = json!({ "name": "gate.sh", "args": [gate] });
    let over = with_prefer(&service, "wait=0", "/api/v1/tasks", &spec);
    assert_eq!((over.status, over.header("preference-applied")), (202, Some("wait=0")));
    let unasked = service.post("/api/v1/tasks", &spec);
    assert_eq!((unasked.status, unasked.header("preference-applied")), (202, None));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(service.ended(&over.id())["status"], "succeeded");
}

#[test]
fn sixty_four_submissions_of_one_id_make_one_run_and_sixty_four_without_make_sixty_four() {
    let service = Site::new("[limits]\nconcurrent = 4").start();
    let all_at_once = |spec: Value| -> Vec<Reply> {
        let barrier = Barrier::new(64);
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..64)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        service.post("/api/v1/tasks", &spec)
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        })
    };
    let replies = all_at_once(json!({ "name": "hello.sh", "id": "once" }));
    assert_eq!(replies.iter().filter(|reply| reply.status == 202).count(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 63);
    assert_eq!(service.count(), 1);
    service.ended("once");
    let log = service.get("/api/v1/tasks/once/log?banner=false").text();
    assert_eq!(log, "hello\n");

    let ids: BTreeSet<String> = all_at_once(json!({ "name": "hello.sh" })).iter().map(Reply::id).collect();
    assert_eq!(ids.len(), 64);
    assert_eq!(service.count(), 65);
}

#[test]
fn another_spec_under_an_id_that_exists_is_a_conflict() {
    let service = Service::usual();
    assert_eq!(service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "id": "a" })).status, 202);
    let other = service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "id": "a", "args": ["x"] }));
    assert_eq!((other.status, other.code().as_str()), (409, "id_conflict"));
}

#[test]
fn every_mistake_in_a_spec_is_named_at_once() {
    let service = Service::usual();
    let spec = json!({
        "id": "../x", "args": [1], "env": { "A": 2 }, "timeout": "5", "debug_script": "yes", "work_dir": "a/b",
        "on_busy": "maybe", "colour": "red", "target": { "node": "../n" }
    });
    let reply = service.post("/api/v1/tasks", &spec);
    assert_eq!(reply.status, 422);
    insta::assert_json_snapshot!(reply.json());
    assert_eq!(service.count(), 0);
}

#[test]
fn what_is_no_json_no_object_or_another_media_type_is_refused_in_its_own_way() {
    let service = Service::usual();
    let send = |media_type: &str, body: &str| {
        let token = Site::token("admin");
        let text = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             {media_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = exchange(service.at, text.as_bytes());
        (reply.status, reply.code())
    };
    let json = "Content-Type: application/json\r\n";
    let spec = r#"{"name":"hello.sh"}"#;
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(send("", spec), refused(415, "media_type"));
    assert_eq!(send("Content-Type: text/plain\r\n", spec), refused(415, "media_type"));
    assert_eq!(send("Content-Type: application/x-www-form-urlencoded\r\n", spec), refused(415, "media_type"));
    assert_eq!(send("Content-Type: multipart/form-data; boundary=x\r\n", spec), refused(415, "media_type"));
    assert_eq!(send("Content-Type: application/jsonp\r\n", spec), refused(415, "media_type"));
    assert_eq!(send(json, ""), refused(400, "not_json"));
    assert_eq!(send(json, "{"), refused(400, "not_json"));
    assert_eq!(send(json, "{} {}"), refused(400, "not_json"));
    assert_eq!(send(json, "name: hello.sh"), refused(400, "not_json"));
    assert_eq!(send(json, "[]"), refused(422, "invalid"));
    assert_eq!(send(json, "null"), refused(422, "invalid"));
    assert_eq!(service.count(), 0);
    let with_parameter = "Content-Type: Application/JSON; charset=utf-8\r\n";
    let token = Site::token("admin");
    let text = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         {with_parameter}Content-Length: {}\r\n\r\n{spec}",
        spec.len()
    );
    assert_eq!(exchange(service.at, text.as_bytes()).status, 202);
}

#[test]
fn a_script_is_run_by_its_path_with_or_without_a_body() {
    let service = Service::usual();
    let bare = service.call("admin", "POST", "/api/v1/scripts/deploy%2Fweb.sh/run", None);
    assert_eq!(bare.status, 202, "{}", bare.text());
    assert_eq!(service.ended(&bare.id())["name"], "deploy/web.sh");
    let with_args =
        with_prefer(&service, "wait=60", "/api/v1/scripts/hello.sh/run", &json!({ "args": ["x"] }));
    assert_eq!(with_args.status, 200);

    let renamed = service.post("/api/v1/scripts/hello.sh/run", &json!({ "name": "fail.sh" }));
    assert_eq!((renamed.status, renamed.code().as_str()), (422, "invalid"));
    let missing = service.post("/api/v1/scripts/none.sh/run", &json!({}));
    assert_eq!((missing.status, missing.code().as_str()), (404, "not_found"));
    // A runner is no script, though its name could be one's.
    let runner = service.post("/api/v1/scripts/task_debug/run", &json!({}));
    assert_eq!((runner.status, runner.code().as_str()), (404, "not_found"));
    assert_eq!(service.count(), 2);
}

#[test]
fn runners_run_by_name() {
    let service = Service::usual();
    let runners = service.get("/api/v1/runners").json();
    let names: Vec<&str> = runners["runners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|runner| runner["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["script", "task_debug"]);
    let by_runner =
        service.post("/api/v1/tasks", &json!({ "name": "script", "params": { "script": "hello.sh" } }));
    assert_eq!(service.ended(&by_runner.id())["status"], "succeeded");

    let debug = service.post("/api/v1/tasks", &json!({ "name": "task_debug" }));
    service.ended(&debug.id());
    assert!(service.site.path(&format!("state/tasks/{}/debug.sh", debug.id())).exists());
}

#[test]
fn the_run_of_any_task_that_was_started_is_reproduced_and_of_no_other() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    service.site.write_script("cat.sh", "#!/bin/sh\necho \"$1\" \"$SITE\"\ncat\n");
    let spec =
        json!({ "name": "cat.sh", "args": ["it's"], "env": { "SITE": "x\ny" }, "stdin": "in\u{0}put" });
    let asked_for_none = service.post("/api/v1/tasks", &spec);
    service.ended(&asked_for_none.id());
    let script = service.get(&format!("/api/v1/tasks/{}/debug.sh", asked_for_none.id()));
    assert_eq!(script.status, 200, "{}", script.text());
    let path = service.site.path("debug.sh");
    std::fs::write(&path, &script.body).unwrap();
    let run = std::process::Command::new("sh").arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "it's x\ny\nin\u{0}put", "{run:?}");

    let gate = service.site.path("gate").display().to_string();
    let running = service.submit("gate.sh", &[&gate]);
    let waiting = service.submit("hello.sh", &[]);
    let none = service.get(&format!("/api/v1/tasks/{waiting}/debug.sh"));
    assert_eq!((none.status, none.code().as_str()), (404, "no_debug_script"));
    std::fs::write(&gate, "").unwrap();
    service.ended(&running);
}

#[test]
fn a_full_queue_answers_429_and_when_to_come_back() {
    let service = Site::new("[limits]\nconcurrent = 1\nqueue = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let spec = json!({ "name": "gate.sh", "args": [gate] });
    let first = service.submit("gate.sh", &[&gate]);
    crate::support::eventually("the first to run", || {
        (service.get(&format!("/api/v1/tasks/{first}")).json()["status"] == "running").then_some(())
    });
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
    let full = service.post("/api/v1/tasks", &spec);
    assert_eq!((full.status, full.code().as_str()), (429, "queue_full"));
    assert!(full.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    std::fs::write(&gate, "").unwrap();
    service.ended(&first);
}

#[test]
fn a_shared_workspace_in_use_is_waited_for_or_refused() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let spec =
        |on_busy: &str| json!({ "name": "gate.sh", "args": [gate], "work_dir": "w", "on_busy": on_busy });
    let first = service.post("/api/v1/tasks", &spec("wait"));
    crate::support::eventually("the first to run", || {
        (service.get(&format!("/api/v1/tasks/{}", first.id())).json()["status"] == "running").then_some(())
    });
    let refused = service.post("/api/v1/tasks", &spec("refuse"));
    assert_eq!((refused.status, refused.code().as_str()), (409, "work_dir_busy"));
    let second = service.post("/api/v1/tasks", &spec("wait"));
    assert_eq!(second.status, 202);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(service.ended(&second.id())["status"], "succeeded");
}

#[test]
fn a_script_that_cannot_be_run_is_listed_as_broken_and_refused() {
    let site = Site::new("");
    site.write_script("broken.sh", "echo no shebang\n");
    let service = site.start();
    let reply = service.post("/api/v1/tasks", &json!({ "name": "broken.sh" }));
    assert_eq!((reply.status, reply.code().as_str()), (422, "script_broken"));
    let script = service.get("/api/v1/scripts/broken.sh").json();
    assert!(!script["broken"][0]["reason"].as_str().unwrap().is_empty(), "{script}");
    assert_eq!(service.count(), 0);
}
