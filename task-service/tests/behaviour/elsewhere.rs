//! Tasks that run on other agents: they wait until somebody says that there is room, and what is noted of them is theirs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use task_service::{
    Execution, ExecutionDriver, Note, Plan, Records, Refusal, RunnerRegistry, ServiceSettings, StartError,
    StartFuture, Task, TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus, given_up,
};
use tokio::sync::Mutex;

use crate::support::{exited, soon};

/// Carries tasks out elsewhere, where there is room.
struct Far {
    records: Records,
    room: AtomicUsize,
    starts: AtomicUsize,
    drivers: Mutex<Vec<ExecutionDriver>>,
}

impl TaskRunner for Far {
    fn name(&self) -> &str {
        "node"
    }

    fn description(&self) -> &str {
        "far away"
    }

    fn check(&self, _: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan { door: Some("far".to_owned()), ..Plan::default() })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            self.starts.fetch_add(1, Ordering::SeqCst);
            let took = self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(1));
            if took.is_err() {
                return Err(StartError::Away("far".to_owned()));
            }
            self.records.create(&order.id).unwrap();
            let log = self.records.log_path(&order.id);
            std::fs::write(&log, "").unwrap();
            let (execution, driver) = Execution::new(order.id, log);
            self.drivers.lock().await.push(driver);
            Ok(execution)
        })
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }
}

async fn service(folder: &Path) -> (Arc<Far>, TaskService) {
    let (room, starts, drivers) = Default::default();
    let far = Arc::new(Far { records: Records::open(folder).unwrap(), room, starts, drivers });
    let mut registry = RunnerRegistry::new();
    registry.register(far.clone()).unwrap();
    let settings = ServiceSettings { state_dir: folder.to_owned(), concurrent: 1, queue: 100 };
    (far, TaskService::open(settings, registry).await.unwrap())
}

async fn submit(service: &TaskService, id: &str) -> Task {
    let spec = serde_json::json!({ "name": "x.sh", "id": id, "target": { "node": "n" } });
    service.submit(TaskSpec::from_json(spec).unwrap(), "tester").await.unwrap().task
}

/// Waits until a task is as it is wanted.
async fn until(service: &TaskService, id: &str, wanted: impl Fn(&Task) -> bool) -> Task {
    soon(async {
        loop {
            let task = service.task(&id.parse().unwrap()).await.unwrap().unwrap();
            if wanted(&task) {
                return task;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Waits until so many tasks wait for room.
async fn awaited(service: &TaskService, many: usize) {
    soon(async {
        while service.awaited().get("far").copied().unwrap_or_default() != many {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_wait_for_room_without_being_tried_and_are_let_in_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (far, service) = service(folder.path()).await;
    submit(&service, "a").await;
    awaited(&service, 1).await;
    for id in ["b", "c"] {
        assert_eq!(submit(&service, id).await.status, TaskStatus::Queued);
    }
    assert_eq!((far.starts.load(Ordering::SeqCst), service.awaited()["far"]), (1, 3));
    // One that waits can be cancelled, and takes nobody's place.
    service.cancel(&"a".parse().unwrap()).await.unwrap();
    far.room.store(1, Ordering::SeqCst);
    service.let_in("far", 1);
    until(&service, "b", |task| task.status == TaskStatus::Running).await;
    // Its row says so before it is started.
    soon(async {
        while far.starts.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((far.starts.load(Ordering::SeqCst), service.awaited()["far"]), (2, 1));
    // Who is let in and finds nothing waits again.
    service.let_in("far", 1);
    awaited(&service, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_noted_of_a_task_is_shown_kept_and_told_with_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (far, service) = service(folder.path()).await;
    far.room.store(2, Ordering::SeqCst);
    for id in ["a", "b"] {
        submit(&service, id).await;
        until(&service, id, |task| task.status == TaskStatus::Running).await;
    }
    let (a, b): (task_service::TaskId, task_service::TaskId) = ("a".parse().unwrap(), "b".parse().unwrap());
    let (earlier, later) = ("2030-01-01T00:00:00Z".parse().unwrap(), "2030-01-02T00:00:00Z".parse().unwrap());
    service.note(vec![
        (a.clone(), Note::Node("db-7".to_owned())),
        (a.clone(), Note::Unreachable(Some(earlier))),
        (a.clone(), Note::Unreachable(Some(later))),
        (b.clone(), Note::Unreachable(Some(later))),
        (b.clone(), Note::Unreachable(None)),
    ]);
    let task = until(&service, "a", |task| task.unreachable_since.is_some()).await;
    assert_eq!((task.node.as_deref(), task.unreachable_since), (Some("db-7"), Some(earlier)));
    for driver in far.drivers.lock().await.drain(..) {
        let result = if *driver.id() == a { given_up(Some("admin")) } else { exited(0) };
        driver.finish(result);
    }
    let lost = soon(service.wait(&a)).await.unwrap().unwrap();
    assert_eq!((lost.status, lost.node.as_deref()), (TaskStatus::Lost, Some("db-7")));
    assert_eq!(lost.unreachable_since, Some(earlier));
    let ended = soon(service.wait(&b)).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.unreachable_since), (TaskStatus::Succeeded, None));
    // What has ended stays as it ended.
    service.note(vec![(a.clone(), Note::Unreachable(None)), (b, Note::Node("db-8".to_owned()))]);
    submit(&service, "c").await;
    awaited(&service, 1).await;
    assert_eq!(service.task(&a).await.unwrap().unwrap().unreachable_since, Some(earlier));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_handed_out_behind_the_copy_of_a_history_is_not_handed_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_, waiting) = service(folder.path()).await;
    for id in ["handed", "waits"] {
        submit(&waiting, id).await;
    }
    awaited(&waiting, 2).await;
    soon(waiting.drain(std::time::Duration::ZERO)).await;
    // The record, as it is when the node may have heard of the task, and nothing has come of its log.
    let records = Records::open(folder.path()).unwrap();
    std::fs::write(records.create(&"handed".parse().unwrap()).unwrap().join("stdout.txt"), "").unwrap();
    let (far, service) = service(folder.path()).await;
    awaited(&service, 1).await;
    far.room.store(2, Ordering::SeqCst);
    service.let_in("far", 2);
    let handed = service.task(&"handed".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(handed.status, TaskStatus::Interrupted);
    until(&service, "waits", |task| task.status == TaskStatus::Running).await;
    let driver = far.drivers.lock().await.pop().unwrap();
    assert_eq!(driver.id().as_str(), "waits");
    driver.finish(exited(0));
}
