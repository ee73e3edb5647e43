//! Following the changes of states.

use task_service::TaskStatus;

use crate::support::{Bench, soon, with_id};

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_announced_once_in_order_and_can_be_read_by_then() {
    let bench = Bench::new(1, 10).await;
    let mut changes = bench.service.changes();
    bench.submit(with_id("a")).await;
    bench.submit(with_id("b")).await;
    let driving = tokio::spawn({
        let manual = bench.manual.clone();
        async move {
            manual.next().await.exit(0);
            manual.next().await.exit(1);
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let change = soon(changes.recv()).await.unwrap();
        let task = bench.service.task(&change.id).await.unwrap().unwrap();
        let order = |status| TaskStatus::ALL.iter().position(|one| *one == status);
        assert!(order(task.status) >= order(change.status), "{change:?} was told before it was written");
        seen.push((change.id.to_string(), change.status));
    }
    soon(driving).await.unwrap();
    let of = |id: &str| -> Vec<TaskStatus> {
        seen.iter().filter(|(one, _)| one == id).map(|(_, status)| *status).collect()
    };
    assert_eq!(of("a"), [TaskStatus::Running, TaskStatus::Succeeded]);
    assert_eq!(of("b"), [TaskStatus::Queued, TaskStatus::Running, TaskStatus::Failed]);
    assert!(changes.try_recv().is_err());
}
