//! Stopping the service.

use std::sync::Arc;
use std::time::Duration;

use task_service::{
    DrainReport, LogSource, OpenError, Plan, Refusal, RunnerRegistry, ServiceSettings, StartFuture,
    TaskFilter, TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus,
};

use crate::support::{Bench, exited, open, settings, soon, with_id};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_service_has_waited_for_what_ran_and_keeps_what_waits() {
    // The queue is not to be full before the draining is seen.
    let bench = Bench::new(1, 1_000_000).await;
    for id in ["runs", "waits"] {
        bench.submit(with_id(id)).await;
    }
    let started = bench.manual.next().await;
    let drain = tokio::spawn({
        let service = bench.service.clone();
        async move { service.drain(LONG).await }
    });
    // From some moment on nothing is accepted, while ids that exist are still answered.
    soon(async {
        for number in 0.. {
            let late = bench.service.submit(with_id(&format!("late{number}")), "tester").await;
            match late.map_err(|error| error.code()) {
                Err("draining") => break,
                Ok(_) | Err("queue_full") => tokio::task::yield_now().await,
                Err(code) => panic!("{code}"),
            }
        }
    })
    .await;
    assert!(!bench.service.submit(with_id("waits"), "tester").await.unwrap().created);
    assert!(!drain.is_finished());
    started.exit(0);
    let report = soon(drain).await.unwrap();
    assert!(report.cancelled.is_empty() && report.queued >= 1, "{report:?}");
    // History can be read, and the folder is free.
    assert_eq!(bench.status("runs").await, "succeeded");
    assert_eq!(bench.wait("waits").await.status, TaskStatus::Queued);
    assert!(matches!(bench.service.log(&"waits".parse().unwrap()).await.unwrap(), LogSource::None));
    assert!(bench.service.cancel(&"waits".parse().unwrap()).await.is_err());
    let (service, manual) = open(&bench.state(), 10, 10).await;
    let mut next = manual.next().await;
    while next.id() != "waits" {
        next = manual.next().await;
    }
    next.exit(0);
    assert_eq!(
        soon(service.wait(&"waits".parse().unwrap())).await.unwrap().unwrap().status,
        TaskStatus::Succeeded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_at_the_deadline_is_cancelled_and_waited_for() {
    let bench = Bench::new(2, 10).await;
    bench.submit(with_id("slow")).await;
    let started = bench.manual.next().await;
    let drain = tokio::spawn({
        let service = bench.service.clone();
        async move { service.drain(Duration::ZERO).await }
    });
    soon(started.driver.cancelled()).await;
    assert!(!drain.is_finished());
    // A second call kills.
    let second = tokio::spawn({
        let service = bench.service.clone();
        async move { service.drain(Duration::ZERO).await }
    });
    soon(async {
        while started.driver.cancels() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    started.driver.finish(exited(0));
    let report = soon(drain).await.unwrap();
    assert_eq!(report, DrainReport { cancelled: vec!["slow".parse().unwrap()], queued: 0 });
    soon(second).await.unwrap();
    assert_eq!(bench.status("slow").await, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_handles_are_gone_ends_with_its_last_task() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "waits"] {
        bench.submit(with_id(id)).await;
    }
    let started = bench.manual.next().await;
    let (manual, folder) = (bench.manual.clone(), bench.folder);
    drop(bench.service);
    started.exit(0);
    // The lock is released when the last end is written; until then the folder is held.
    let service = soon(async {
        loop {
            let mut registry = RunnerRegistry::new();
            registry.register(manual.clone()).unwrap();
            match TaskService::open(settings(folder.path(), 1, 10), registry).await {
                Ok(service) => break service,
                Err(OpenError::Held { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    let next = manual.next().await;
    assert_eq!(next.id(), "waits");
    next.exit(0);
    for id in ["runs", "waits"] {
        let task = soon(service.wait(&id.parse().unwrap())).await.unwrap().unwrap();
        assert_eq!(task.status, TaskStatus::Succeeded);
    }
}

/// A runner at whose tasks the thread that decides panics, as it would at a mistake of its own.
struct Fatal;

impl TaskRunner for Fatal {
    fn name(&self) -> &'static str {
        "fatal"
    }

    fn description(&self) -> &'static str {
        "ends the thread that decides"
    }

    fn check(&self, _: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan::default())
    }

    fn start(&self, _: TaskOrder) -> StartFuture<'_> {
        unreachable!("nothing of it is accepted")
    }

    fn runs_elsewhere(&self) -> bool {
        assert_ne!(std::thread::current().name(), Some("task-keeper"), "a mistake");
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_panics_is_noticed_and_nothing_is_accepted_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(Fatal)).unwrap();
    let settings = ServiceSettings { state_dir: folder.path().to_owned(), concurrent: 1, queue: 10 };
    let service = TaskService::open(settings, registry).await.unwrap();
    let is_stopped = tokio::time::timeout(Duration::ZERO, service.stopped()).await;
    assert!(is_stopped.is_err());
    assert!(soon(service.submit(TaskSpec::new("fatal"), "tester")).await.is_err());
    soon(service.stopped()).await;
    assert!(soon(service.submit(TaskSpec::new("fatal"), "tester")).await.is_err());
    drop(service);
    // The next one finds nothing of it, and takes the folder.
    let (service, _) = open(folder.path(), 1, 10).await;
    assert_eq!(service.list(TaskFilter::default(), 10, None).await.unwrap().tasks, []);
}
