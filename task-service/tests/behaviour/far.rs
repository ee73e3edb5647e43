//! Tasks that run on other agents, over a start of this one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use task_service::{
    CancelError, Execution, ExecutionDriver, Plan, Records, Refusal, RunnerRegistry, StartFuture, TaskOrder,
    TaskRunner, TaskService, TaskSpec, TaskStatus,
};
use tokio::sync::{Mutex, mpsc};

use crate::support::{crashed, exited, settings, soon, spec};

/// Carries tasks out elsewhere.
struct Far {
    records: Records,
    started: mpsc::UnboundedSender<ExecutionDriver>,
    next: Mutex<mpsc::UnboundedReceiver<ExecutionDriver>>,
}

impl TaskRunner for Far {
    fn name(&self) -> &str {
        "node"
    }

    fn description(&self) -> &str {
        "far away"
    }

    fn check(&self, _: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan::default())
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            // It is there already where it is taken up again.
            let _ = self.records.create(&order.id);
            let log = self.records.log_path(&order.id);
            std::fs::write(&log, "").unwrap();
            let (execution, driver) = Execution::new(order.id, log);
            self.started.send(driver).unwrap_or_else(|_| panic!("the test has gone"));
            Ok(execution)
        })
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }
}

async fn open(state: &Path) -> (TaskService, Arc<Far>) {
    let (started, next) = mpsc::unbounded_channel();
    let far = Arc::new(Far { records: Records::open(state).unwrap(), started, next: Mutex::new(next) });
    let mut registry = RunnerRegistry::new();
    registry.register(far.clone()).unwrap();
    (soon(TaskService::open(settings(state, 1, 10), registry)).await.unwrap(), far)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_record_cannot_be_read_at_the_start_is_taken_up_when_it_can_and_its_cancel_outlives_the_agent()
 {
    let folder = tempfile::tempdir().unwrap();
    let (service, far) = open(folder.path()).await;
    let id = soon(service.submit(spec(json!({"name": "x.sh", "target": {"node": "n"}})), "tester"))
        .await
        .unwrap()
        .task
        .id;
    let driver = soon(async { far.next.lock().await.recv().await }).await.unwrap();
    let crash = crashed(folder.path());
    // Links are not followed, so that this cannot be read, whoever runs the test.
    let result = Records::open(crash.path()).unwrap().folder(&id).join("result.json");
    std::os::unix::fs::symlink("nowhere", &result).unwrap();

    let (again, far_again) = open(crash.path()).await;
    let error = soon(again.cancel(&id)).await.unwrap_err();
    assert!(matches!(error, CancelError::Unavailable(_)), "{error}");
    std::fs::remove_file(&result).unwrap();
    let taken_up = soon(async { far_again.next.lock().await.recv().await }).await.unwrap();
    assert_eq!(soon(again.cancel(&id)).await.unwrap().status, TaskStatus::Running);
    soon(taken_up.cancelled()).await;
    // So it is by the next agent, who was not asked.
    let next = crashed(crash.path());
    let (_next, far_next) = open(next.path()).await;
    let once_more = soon(async { far_next.next.lock().await.recv().await }).await.unwrap();
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
