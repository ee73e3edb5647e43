//! Tasks that run on other agents: they wait until somebody says that there is room, what is noted of them is theirs, and they
//! outlive this agent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use task_service::{
    CancelError, Execution, ExecutionDriver, Note, Plan, Records, Refusal, RunnerRegistry, StartError,
    StartFuture, Task, TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus, given_up,
};
use tokio::sync::Mutex;

use crate::support::{crashed, exited, settings, soon, spec};

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
            // It is there already where it is taken up again.
            let _ = self.records.create(&order.id);
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

impl Far {
    /// What drives the execution that was begun last, and nobody has taken yet.
    async fn driver(&self) -> ExecutionDriver {
        soon(async {
            loop {
                if let Some(driver) = self.drivers.lock().await.pop() {
                    return driver;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// A service with room elsewhere for so many tasks.
async fn service(folder: &Path, room: usize) -> (Arc<Far>, TaskService) {
    let (starts, drivers) = Default::default();
    let far = Arc::new(Far {
        records: Records::open(folder).unwrap(),
        room: AtomicUsize::new(room),
        starts,
        drivers,
    });
    let mut registry = RunnerRegistry::new();
    registry.register(far.clone()).unwrap();
    (far, soon(TaskService::open(settings(folder, 1, 100), registry)).await.unwrap())
}

async fn submit(service: &TaskService, id: &str) -> Task {
    let spec = spec(serde_json::json!({ "name": "x.sh", "id": id, "target": { "node": "n" } }));
    soon(service.submit(spec, "tester")).await.unwrap().task
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
    let (far, service) = service(folder.path(), 0).await;
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
    let (far, service) = service(folder.path(), 2).await;
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
    let (_, waiting) = service(folder.path(), 0).await;
    for id in ["handed", "waits"] {
        submit(&waiting, id).await;
    }
    awaited(&waiting, 2).await;
    soon(waiting.drain(Duration::ZERO)).await;
    // The record, as it is when the node may have heard of the task, and nothing has come of its log.
    let records = Records::open(folder.path()).unwrap();
    std::fs::write(records.create(&"handed".parse().unwrap()).unwrap().join("stdout.txt"), "").unwrap();
    let (far, service) = service(folder.path(), 0).await;
    awaited(&service, 1).await;
    far.room.store(2, Ordering::SeqCst);
    service.let_in("far", 2);
    let handed = service.task(&"handed".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(handed.status, TaskStatus::Interrupted);
    until(&service, "waits", |task| task.status == TaskStatus::Running).await;
    let driver = far.driver().await;
    assert_eq!(driver.id().as_str(), "waits");
    driver.finish(exited(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_record_cannot_be_read_at_the_start_is_taken_up_when_it_can_and_its_cancel_outlives_the_agent()
 {
    let folder = tempfile::tempdir().unwrap();
    let (far, first) = service(folder.path(), 1).await;
    let id = submit(&first, "a").await.id;
    let driver = far.driver().await;
    let crash = crashed(folder.path());
    // Links are not followed, so that this cannot be read, whoever runs the test.
    let result = Records::open(crash.path()).unwrap().folder(&id).join("result.json");
    std::os::unix::fs::symlink("nowhere", &result).unwrap();

    let (far_again, again) = service(crash.path(), 1).await;
    let error = soon(again.cancel(&id)).await.unwrap_err();
    assert!(matches!(error, CancelError::Unavailable(_)), "{error}");
    std::fs::remove_file(&result).unwrap();
    let taken_up = far_again.driver().await;
    assert_eq!(soon(again.cancel(&id)).await.unwrap().status, TaskStatus::Running);
    soon(taken_up.cancelled()).await;
    // So it is by the next agent, who was not asked.
    let next = crashed(crash.path());
    let (far_next, _next) = service(next.path(), 1).await;
    let once_more = far_next.driver().await;
    soon(once_more.cancelled()).await;
    assert_eq!(once_more.cancels(), 1);
    once_more.finish(exited(0));
    taken_up.finish(exited(0));
    let ended = soon(again.wait(&id)).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Succeeded);
    assert_eq!(again.stats().elsewhere, 0);
    soon(again.drain(Duration::ZERO)).await;
    driver.finish(exited(0));
}
