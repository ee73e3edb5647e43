//! Tasks that are there are run again, given up, and cancelled in numbers.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::{Service, Site, eventually};

fn ids(reply: &Value) -> BTreeSet<String> {
    reply["cancelled"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

fn log(service: &Service, id: &str) -> String {
    service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text()
}

#[test]
fn a_task_is_run_again_as_it_was_asked_for_under_an_id_of_its_own() {
    let service = Service::usual();
    let spec = json!({ "name": "hello.sh", "id": "first", "args": ["again"], "labels": { "team": "web" } });
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
    service.ended("first");
    let again = service.call("all", "POST", "/api/v1/tasks/first/rerun", None);
    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(again.header("location"), Some(format!("/api/v1/tasks/{}", again.id()).as_str()));
    let task = service.ended(&again.id());
    assert_ne!(task["id"], "first");
    assert_eq!((&task["created_by"], &task["spec"]["labels"]["team"]), (&json!("all"), &json!("web")));
    assert_eq!(log(&service, &again.id()), "hello again\n");
    assert_eq!(service.call("deployer", "POST", "/api/v1/tasks/first/rerun", None).status, 404);
    assert_eq!(service.call("reader", "POST", "/api/v1/tasks/first/rerun", None).status, 403);
    let refused = service.post("/api/v1/tasks/first/rerun", &json!({ "args": [], "timeout": "1s" }));
    let fields: Vec<Value> =
        refused.json()["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!((refused.status, fields), (422, vec![json!("args"), json!("timeout")]));
}

#[test]
fn what_cannot_be_undone_is_confirmed_again_and_what_another_token_asked_for_takes_its_rights() {
    let site = Site::new("");
    site.write_script("wipe.sh", "#!/bin/sh\n#TASK effect=\"destructive\"\necho wiped\n");
    let service = site.start();
    let spec = json!({ "name": "wipe.sh", "id": "wipe", "confirm": "wipe.sh" });
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
    service.ended("wipe");
    let bare = service.post("/api/v1/tasks/wipe/rerun", &json!({}));
    assert_eq!((bare.status, &bare.json()["errors"][0]["field"]), (422, &json!("confirm")));
    let wrong = service.post("/api/v1/tasks/wipe/rerun", &json!({ "confirm": "wipe" }));
    assert_eq!(wrong.status, 422);
    let confirmed = service.post("/api/v1/tasks/wipe/rerun", &json!({ "confirm": "wipe.sh" }));
    assert_eq!(service.ended(&confirmed.id())["status"], "succeeded");
    // A workspace and a variable that an admin named are not another token's because of that.
    let spec = json!({ "name": "hello.sh", "id": "rights", "work_dir": "ops", "env": { "SITE": "1" } });
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
    service.ended("rights");
    let refused = service.call("all", "POST", "/api/v1/tasks/rights/rerun", None);
    assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{}", refused.text());
    assert_eq!(service.post("/api/v1/tasks/rights/rerun", &json!({})).status, 202);
}

#[test]
fn tasks_are_cancelled_by_the_filters_of_the_list_and_none_of_them_starts_meanwhile() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let submit = |name: &str, team: &str| {
        let spec = json!({ "name": name, "args": [gate], "labels": { "team": team } });
        service.post("/api/v1/tasks", &spec).id()
    };
    let running = submit("gate.sh", "web");
    eventually("its start", || (!log(&service, &running).is_empty()).then_some(()));
    let web: BTreeSet<String> = (0..150).map(|_| submit("hello.sh", "web")).collect();
    let other = submit("deploy/web.sh", "db");
    for (query, field) in [("", "status"), ("?status=succeeded", "status"), ("?colour=red", "status")] {
        let refused = service.call("all", "POST", &format!("/api/v1/tasks:cancel{query}"), None);
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!(field)), "{query}");
    }
    // Those of scripts that a token does not see are not its to cancel.
    let unseen = service.call("deployer", "POST", "/api/v1/tasks:cancel?label=team%3Dweb", None);
    assert_eq!((unseen.status, ids(&unseen.json()).len()), (202, 0));
    let done = service.call("all", "POST", "/api/v1/tasks:cancel?label=team%3Dweb", None);
    let mut expected = web.clone();
    expected.insert(running.clone());
    assert_eq!((done.status, ids(&done.json()), &done.json()["more"]), (202, expected, &json!(false)));
    for id in &web {
        let task = service.get(&format!("/api/v1/tasks/{id}")).json();
        assert_eq!((&task["status"], &task["started_at"]), (&json!("cancelled"), &Value::Null));
    }
    // Asked once, it has its grace and is not killed at once; the one that was not meant runs.
    let task = service.ended(&running);
    assert_eq!(
        (&task["status"], &task["result"]["outcome"]["kind"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    assert_eq!(service.ended(&other)["status"], "succeeded");
    fs::write(gate, "").unwrap();
}

#[test]
fn a_task_of_this_agent_is_not_given_up_but_cancelled() {
    let service = Service::usual();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let path = format!("/api/v1/tasks/{id}/abandon");
    let refused = service.call("all", "POST", &path, None);
    assert_eq!((refused.status, refused.code().as_str()), (409, "not_on_a_node"));
    fs::write(gate, "").unwrap();
    service.ended(&id);
    let ended = service.call("all", "POST", &path, None);
    assert_eq!((ended.status, ended.code().as_str()), (409, "already_ended"));
}
