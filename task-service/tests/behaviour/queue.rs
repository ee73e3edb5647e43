//! Who starts when: slots, order of acceptance, shared workspaces.

use serde_json::json;
use task_service::{TaskSpec, TaskStatus};

use crate::support::{Bench, Started, error_code, soon, spec, with_id};

fn in_workspace(id: &str, workspace: &str) -> TaskSpec {
    spec(json!({"id": id, "work_dir": workspace}))
}

async fn starts(bench: &Bench, id: &str) -> Started {
    let started = bench.manual.next().await;
    assert_eq!(started.id(), id);
    started
}

/// The tasks that were let start together; which of them the runner hears of first is chance.
async fn start_together<const N: usize>(bench: &Bench, ids: [&str; N]) -> [Started; N] {
    let mut started = Vec::new();
    for _ in ids {
        started.push(bench.manual.next().await);
    }
    ids.map(|id| {
        let index =
            started.iter().position(|one| one.id() == id).unwrap_or_else(|| panic!("{id} did not start"));
        started.swap_remove(index)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_start_in_the_order_of_acceptance_as_slots_become_free() {
    let bench = Bench::new(2, 10).await;
    for id in ["a", "b", "c", "d", "e"] {
        bench.submit(with_id(id)).await;
    }
    let [a, b] = start_together(&bench, ["a", "b"]).await;
    assert_eq!((bench.service.stats().queued, bench.service.stats().running), (3, 2));
    assert!(bench.manual.is_idle().await);
    b.exit(0);
    let c = starts(&bench, "c").await;
    c.exit(1);
    let d = starts(&bench, "d").await;
    a.exit(0);
    let e = starts(&bench, "e").await;
    d.exit(0);
    e.exit(0);
    assert_eq!(bench.wait("e").await.status, TaskStatus::Succeeded);
    assert_eq!(bench.wait("c").await.status, TaskStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_workspace_does_not_block_those_behind_it() {
    let bench = Bench::new(3, 10).await;
    for (id, workspace) in [("w1", "w"), ("w2", "w"), ("w3", "w"), ("x1", "x")] {
        bench.submit(in_workspace(id, workspace)).await;
    }
    bench.submit(with_id("free")).await;
    let [w1, x1, free] = start_together(&bench, ["w1", "x1", "free"]).await;
    assert_eq!(bench.service.stats().queued, 2);
    w1.exit(0);
    let w2 = starts(&bench, "w2").await;
    free.exit(0);
    bench.wait("free").await;
    // A slot is free, and still nobody joins the second one in its workspace.
    assert!(bench.manual.is_idle().await);
    w2.exit(0);
    starts(&bench, "w3").await.exit(0);
    x1.exit(0);
    bench.wait("w3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_tasks_in_one_workspace_never_overlap() {
    let bench = Bench::new(8, 100).await;
    for number in 0..64 {
        bench.submit(in_workspace(&format!("t{number:02}"), "w")).await;
    }
    for number in 0..64 {
        let started = starts(&bench, &format!("t{number:02}")).await;
        assert!(bench.manual.is_idle().await);
        assert_eq!(bench.service.stats().running, 1);
        started.exit(0);
    }
    bench.wait("t63").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_takes_as_many_as_it_is_told_and_more_when_some_have_started() {
    let bench = Bench::new(1, 2).await;
    for id in ["runs", "first", "second"] {
        bench.submit(with_id(id)).await;
    }
    let refused = bench.service.submit(with_id("third"), "tester").await.unwrap_err();
    assert_eq!(refused.code(), "queue_full");
    assert!(refused.to_string().contains("2 tasks wait"), "{refused}");
    starts(&bench, "runs").await.exit(0);
    let first = starts(&bench, "first").await;
    bench.submit(with_id("third")).await;
    first.exit(0);
    starts(&bench, "second").await.exit(0);
    starts(&bench, "third").await.exit(0);
    bench.wait("third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_workspace_is_used_outside_the_service_is_tried_again() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "patient", "work_dir": "w", "params": {"busy": 2}}))).await;
    let mut changes = bench.service.changes();
    let started = starts(&bench, "patient").await;
    // It was put back twice, and each time it was said that it waits again.
    let mut waits = 0;
    while let Ok(change) = changes.try_recv() {
        waits += usize::from(change.status == TaskStatus::Queued);
    }
    assert!((1..=2).contains(&waits), "{waits}");
    assert_eq!(started.order.attempt, 1);
    started.exit(0);
    assert_eq!(bench.wait("patient").await.status, TaskStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_does_not_want_to_wait_for_its_workspace_is_rejected_when_its_turn_comes() {
    let bench = Bench::new(1, 10).await;
    bench
        .submit(spec(json!({"id": "now", "work_dir": "w", "on_busy": "refuse", "params": {"busy": 1}})))
        .await;
    let ended = bench.wait("now").await;
    assert_eq!(ended.status, TaskStatus::Rejected);
    assert_eq!(error_code(&ended), "work_dir_busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_be_started_fails_and_leaves_a_record_and_its_slot() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "unlucky", "params": {"fail": 24}}))).await;
    bench.submit(spec(json!({"id": "broken", "params": {"panic": "start"}}))).await;
    bench.submit(with_id("next")).await;
    let unlucky = bench.wait("unlucky").await;
    assert_eq!(unlucky.status, TaskStatus::Failed);
    assert_eq!(error_code(&unlucky), "out_of_descriptors");
    assert!(bench.state().join("tasks/unlucky/result.json").is_file());
    let broken = bench.wait("broken").await;
    assert_eq!(broken.status, TaskStatus::Interrupted);
    assert_eq!(error_code(&broken), "runner_panicked");
    starts(&bench, "next").await.exit(0);
    bench.wait("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_gives_up_its_execution_ends_it() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("dropped")).await;
    drop(soon(bench.manual.next()).await);
    assert_eq!(bench.wait("dropped").await.status, TaskStatus::Interrupted);
}
