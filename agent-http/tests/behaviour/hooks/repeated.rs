//! A delivery that is sent again is the task that exists, through a restart too.

use serde_json::json;

use super::{Delivery, GITHUB, GITLAB, OTHER, STANDARD_KEY, one_of_each, push, site};
use crate::support::eventually;

#[test]
fn a_delivery_that_is_sent_again_is_answered_with_its_task_and_starts_nothing() {
    let service = site("").start();
    let ids: Vec<String> = one_of_each().iter().map(|delivery| delivery.send(&service).id()).collect();
    ids.iter().for_each(|id| drop(service.ended(id)));
    let site = service.stop();
    let service = site.start();
    for (delivery, id) in one_of_each().iter().zip(&ids) {
        let again = delivery.send(&service);
        assert_eq!(again.status, 200, "{}: {}", delivery.hook, again.text());
        assert_eq!(again.json(), json!({ "id": id, "status": "succeeded" }));
        assert_eq!(again.header("location"), Some(format!("/api/v1/tasks/{id}").as_str()));
    }
    assert_eq!(service.count(), 3);
}

#[test]
fn many_at_once_are_one_task() {
    let service = site("").start();
    let [github, ..] = one_of_each();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..8).map(|_| scope.spawn(|| github.send(&service))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    assert_eq!(replies.iter().filter(|reply| reply.status == 202).count(), 1);
    assert!(replies.iter().all(|reply| reply.status <= 202 && reply.id() == replies[0].id()));
    assert_eq!(service.count(), 1);
}

#[test]
fn one_id_with_other_values_is_a_conflict_and_under_another_hook_another_task() {
    let service = site("").start();
    let github =
        |body: &serde_json::Value| Delivery::github("github", GITHUB, body).with("X-GitHub-Delivery", "one");
    let first = github(&push()).send(&service);
    let changed = github(&json!({ "ref": "refs/heads/other" })).send(&service);
    assert_eq!((changed.status, changed.code().as_str()), (409, "id_conflict"), "{}", changed.text());
    assert!(!changed.text().contains(&first.id()), "{}", changed.text());
    let other = Delivery::github("other", OTHER, &push()).with("X-GitHub-Delivery", "one").send(&service);
    assert_eq!(other.status, 202, "{}", other.text());
    assert_ne!(other.id(), first.id());
    assert_eq!(service.count(), 2);
}

#[test]
fn without_an_id_each_request_is_a_task_and_gitlabs_newer_id_wins() {
    let service = site("").start();
    let anonymous = Delivery::github("github", GITHUB, &push());
    let ids: Vec<String> = (0..2).map(|_| anonymous.send(&service).id()).collect();
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| !id.starts_with("hook-")), "{ids:?}");
    // Events that follow from one another share the older id.
    let event = Delivery::gitlab(GITLAB, &push()).with("X-Gitlab-Event-UUID", "chain");
    let [a, b, again] = ["a", "b", "a"].map(|key| event.clone().with("Idempotency-Key", key).send(&service));
    assert_eq!([a.status, b.status, again.status], [202, 202, 200]);
    assert_eq!(a.id(), again.id());
    assert_ne!(a.id(), b.id());
}

#[test]
fn a_delivery_that_was_accepted_before_the_agent_died_is_not_started_again() {
    let service = site("").start();
    let delivery = Delivery::standard(STANDARD_KEY, "d-killed", 0, &push());
    let first = delivery.send(&service);
    service.signal(nix::sys::signal::Signal::SIGKILL);
    let (_, site, _) = service.ended_with();
    let service = site.start();
    let again = delivery.send(&service);
    assert_eq!((again.status, again.id()), (200, first.id()));
    assert_eq!(service.count(), 1);
    eventually("its end", || {
        let task = service.get(&format!("/api/v1/tasks/{}", first.id())).json();
        (!task["ended_at"].is_null()).then_some(())
    });
}
