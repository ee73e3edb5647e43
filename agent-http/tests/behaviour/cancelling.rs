//! Cancelling: a waiting task never starts, a running one ends, an ended one stays as it is.

use serde_json::json;

use crate::support::{Service, Site, eventually};

#[test]
fn a_waiting_task_is_cancelled_at_once_a_running_one_ends_and_an_ended_one_is_a_conflict() {
    let service = Site::new("[limits]\nconcurrent = 1").start();
    let gate = service.site.path("gate").display().to_string();
    let running = service.submit("gate.sh", &[&gate]);
    eventually("it to run", || {
        (service.get(&format!("/api/v1/tasks/{running}")).json()["status"] == "running").then_some(())
    });
    let waiting = service.submit("hello.sh", &[]);
    let cancel = |id: &str| service.call("canceller", "POST", &format!("/api/v1/tasks/{id}/cancel"), None);

    let reply = cancel(&waiting);
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("cancelled")));
    let reply = cancel(&running);
    assert_eq!(reply.status, 202);
    let task = service.ended(&running);
    assert_eq!(
        (&task["status"], &task["result"]["outcome"]["kind"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    for id in [&waiting, &running] {
        let again = cancel(id);
        assert_eq!((again.status, again.code().as_str()), (409, "already_ended"));
    }
    let none = cancel("nothing");
    assert_eq!((none.status, none.code().as_str()), (404, "not_found"));
}

#[test]
fn cancelling_takes_no_fields() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    let path = format!("/api/v1/tasks/{id}/cancel");
    let reply = service.post(&path, &json!({ "force": true }));
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"));
    assert_eq!(reply.json()["errors"][0]["field"], "force");
    service.ended(&id);
    assert_eq!(service.post(&path, &json!({})).code(), "already_ended");
}
