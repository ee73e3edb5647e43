//! Lanes: how many tasks of one script run at once, and how many wait.

use serde_json::json;
use task_service::{SubmitError, TaskSpec, TaskStatus};

use crate::support::{Bench, crashed, open, soon, spec, with_id};

fn in_lane(id: &str, lane: &str) -> TaskSpec {
    spec(json!({"id": id, "params": {"lane": lane}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_tasks_of_one_lane_run_one_by_one_in_order_while_others_pass() {
    let bench = Bench::new(8, 100).await;
    let name = |number: usize| format!("l{number:02}");
    for number in 0..20 {
        bench.submit(in_lane(&name(number), "l:1")).await;
    }
    for number in 0..20 {
        let started = bench.manual.next().await;
        assert_eq!(started.id(), name(number));
        // One of no lane starts at once, with nineteen slots' worth of others before it in the queue.
        let other = bench.submit(with_id(&format!("o{number:02}"))).await;
        assert_eq!(other.status, TaskStatus::Running);
        bench.manual.next().await.exit(0);
        bench.wait(other.id.as_str()).await;
        assert!(bench.manual.is_idle().await, "only one of the lane runs");
        assert_eq!(bench.service.stats().queued, 19 - number);
        started.exit(0);
    }
    assert_eq!(bench.wait(&name(19)).await.status, TaskStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_run_at_once_as_the_lane_says() {
    let bench = Bench::new(8, 100).await;
    for number in 0..6 {
        bench.submit(in_lane(&format!("l{number}"), "l:3")).await;
    }
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(bench.manual.next().await);
    }
    assert_eq!((bench.service.stats().running, bench.service.stats().queued), (3, 3));
    running.pop().unwrap().exit(0);
    assert_eq!(bench.manual.next().await.id(), "l3");
    assert_eq!(bench.service.stats().running, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_takes_no_more_than_may_wait_and_says_so_and_others_are_taken() {
    let bench = Bench::new(8, 100).await;
    for number in 0..3 {
        bench.submit(in_lane(&format!("l{number}"), "l:1:2")).await;
    }
    let error = soon(bench.service.submit(in_lane("l3", "l:1:2"), "tester")).await.unwrap_err();
    assert_eq!(error.code(), "script_queue_full");
    assert!(matches!(&error, SubmitError::ScriptFull { script, waiting: 2 } if script == "l"), "{error}");
    assert!(bench.service.task(&"l3".parse().unwrap()).await.unwrap().is_none(), "it left no task");
    bench.submit(in_lane("m0", "m:1:0")).await;
    let none = soon(bench.service.submit(in_lane("m1", "m:1:0"), "tester")).await.unwrap_err();
    assert_eq!(none.code(), "script_queue_full");
    bench.submit(with_id("free")).await;
    // There is room again once the next one has started.
    for _ in 0..3 {
        let started = bench.manual.next().await;
        if started.id() == "l0" {
            started.exit(0);
        }
    }
    assert_eq!(bench.manual.next().await.id(), "l1");
    bench.submit(in_lane("l3", "l:1:2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_hold_across_a_crash_with_the_numbers_of_their_acceptance() {
    let bench = Bench::new(8, 100).await;
    for number in 0..4 {
        bench.submit(in_lane(&format!("l{number}"), "l:2")).await;
    }
    let running = [bench.manual.next().await, bench.manual.next().await];
    let crash = crashed(&bench.state());
    let (service, manual) = open(crash.path(), 8, 100).await;
    let [l2, l3] = [manual.next().await, manual.next().await];
    // The script has been changed since.
    let l4 = soon(service.submit(in_lane("l4", "l:3"), "tester")).await.unwrap().task;
    assert_eq!(l4.status, TaskStatus::Running);
    let l5 = soon(service.submit(in_lane("l5", "l:1"), "tester")).await.unwrap().task;
    assert_eq!(l5.status, TaskStatus::Queued);
    let mut names = [l2.id(), l3.id()];
    names.sort();
    assert_eq!(names, ["l2", "l3"]);
    let l4 = manual.next().await;
    for started in [l2, l3] {
        started.exit(0);
    }
    soon(service.wait(&"l3".parse().unwrap())).await.unwrap();
    assert!(manual.is_idle().await, "one of its lane runs");
    l4.exit(0);
    assert_eq!(manual.next().await.id(), "l5");
    running.into_iter().for_each(|started| started.exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_for_none_lets_one_in_at_a_time() {
    let bench = Bench::new(4, 10).await;
    for id in ["a", "b"] {
        bench.submit(spec(json!({"id": id, "params": {"lane": "l:0"}}))).await;
    }
    let first = bench.manual.next().await;
    assert_eq!((first.id().as_str(), bench.status("b").await.as_str()), ("a", "queued"));
    first.exit(0);
    bench.manual.next().await.exit(0);
    bench.wait("b").await;
}
