//! What becomes of a submission: a task, a reference to one, or a refusal that leaves none.

use serde_json::json;
use task_service::{OpenError, RunnerRegistry, SubmitError, TaskFilter, TaskService, TaskSpec, TaskStatus};

use crate::support::{Bench, settings, soon, spec, with_id};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_task_is_read_back_as_it_was_answered() {
    let bench = Bench::new(1, 10).await;
    let asked = spec(json!({
        "id": "full", "params": {"x": 1, "y": [null, {"ü": "\u{1F600}"}]}, "args": ["a b", ""], "env": {"A": "1"},
        "work_dir": "shared", "timeout": "90s", "debug_script": true, "labels": {"team": "web", "": "empty"},
        "on_behalf_of": "somebody", "stdin": "line\n\u{0}", "on_busy": "refuse", "confirm": "manual",
    }));
    let task = bench.submit(asked.clone()).await;
    assert_eq!(*task.spec, asked);
    assert_eq!((task.status, task.attempt, task.created_by.as_str()), (TaskStatus::Running, 1, "tester"));
    let started = bench.manual.next().await;
    assert_eq!(started.order.pinned.as_deref(), Some("snapshot"));
    assert_eq!((&started.order.spec, started.order.created_at), (&task.spec, task.created_at));

    let read = bench.service.task(&task.id).await.unwrap().unwrap();
    assert_eq!(read, task);
    started.exit(3);
    let ended = bench.wait("full").await;
    assert_eq!((ended.status, ended.log_bytes), (TaskStatus::Failed, 6));
    assert_eq!(ended.result.as_ref().unwrap().exit_code, Some(3));
    assert!(ended.ended_at >= ended.started_at);
    assert_eq!(bench.service.task(&task.id).await.unwrap().unwrap(), ended);
    assert_eq!(bench.reopen(1, 10).await.wait("full").await, ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_submissions_of_one_id_are_one_task_and_sixty_three_references() {
    let bench = Bench::new(4, 100).await;
    let submissions: Vec<_> = (0..64)
        .map(|_| {
            let service = bench.service.clone();
            tokio::spawn(async move { service.submit(with_id("same"), "tester").await })
        })
        .collect();
    let mut created = 0;
    for submission in submissions {
        let submitted = soon(submission).await.unwrap().unwrap();
        assert_eq!(submitted.task.id.as_str(), "same");
        created += usize::from(submitted.created);
    }
    assert_eq!(created, 1);
    let only = bench.manual.next().await;
    assert!(bench.manual.is_idle().await);
    only.exit(0);
    bench.wait("same").await;
    // The twin: different ids are different tasks, so that the count above means something.
    for id in ["one", "two"] {
        bench.submit(with_id(id)).await;
        bench.manual.next().await.exit(0);
    }
    assert_eq!(bench.service.list(TaskFilter::default(), 100, None).await.unwrap().tasks.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_exists_is_answered_without_asking_the_runner_again() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("once")).await;
    bench.manual.next().await.exit(0);
    bench.wait("once").await;
    let checks = bench.manual.checks.load(std::sync::atomic::Ordering::SeqCst);
    let again = bench.service.submit(with_id("once"), "somebody else").await.unwrap();
    assert_eq!((again.created, again.task.status), (false, TaskStatus::Succeeded));
    assert_eq!(bench.manual.checks.load(std::sync::atomic::Ordering::SeqCst), checks);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spec_under_a_known_id_is_a_conflict() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("taken")).await;
    let other = spec(json!({"id": "taken", "args": ["x"]}));
    let error = bench.service.submit(other, "tester").await.unwrap_err();
    assert_eq!(error.code(), "id_conflict");
    assert!(error.to_string().contains("'taken'"), "{error}");
    bench.manual.next().await.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_whose_record_is_there_without_a_history_is_not_run_again() {
    let bench = Bench::new(1, 10).await;
    std::fs::create_dir_all(bench.state().join("tasks/ran-before")).unwrap();
    let error = bench.service.submit(with_id("ran-before"), "tester").await.unwrap_err();
    assert!(matches!(error, SubmitError::Conflict { .. }), "{error}");
    std::fs::remove_dir(bench.state().join("tasks/ran-before")).unwrap();
    bench.submit(with_id("ran-before")).await;
    bench.manual.next().await.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_submissions_leave_no_task() {
    let bench = Bench::new(1, 0).await;
    let refused = bench.service.submit(spec(json!({"id": "a", "params": {"refuse": 1}})), "tester").await;
    assert_eq!(refused.unwrap_err().code(), "invalid");
    let panicked =
        bench.service.submit(spec(json!({"id": "b", "params": {"panic": "check"}})), "tester").await;
    assert_eq!(panicked.unwrap_err().code(), "unavailable");
    let unknown = bench.service.submit(TaskSpec::new("deploy/web.sh"), "tester").await;
    assert_eq!(unknown.unwrap_err().code(), "not_found");
    bench.submit(spec(json!({"id": "runs", "work_dir": "w"}))).await;
    let full = bench.service.submit(with_id("c"), "tester").await;
    assert_eq!(full.unwrap_err().code(), "queue_full");
    let busy = spec(json!({"id": "d", "work_dir": "w", "on_busy": "refuse"}));
    assert_eq!(bench.service.submit(busy, "tester").await.unwrap_err().code(), "work_dir_busy");
    let tasks = bench.service.list(TaskFilter::default(), 100, None).await.unwrap().tasks;
    assert_eq!(tasks.len(), 1);
    bench.manual.next().await.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_run_by_the_runner_named_script_unless_a_runner_has_its_name() {
    let bench = Bench::new(4, 10).await;
    let (service, folder) = scripted().await;
    for (name, runner) in [("deploy/web.sh", "script"), ("backup", "script"), ("manual", "manual")] {
        let task = soon(service.submit(TaskSpec::new(name), "tester")).await.unwrap().task;
        let ended = soon(service.wait(&task.id)).await.unwrap().unwrap();
        assert_eq!((ended.name.as_str(), ended.result.unwrap().command[0].as_str()), (name, runner));
    }
    drop((bench, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_a_state_folder_is_refused_and_told_who_holds_it() {
    let bench = Bench::new(1, 1).await;
    let second = TaskService::open(settings(&bench.state(), 1, 1), RunnerRegistry::new()).await;
    let error = second.unwrap_err();
    assert!(matches!(error, OpenError::Held { .. }));
    assert!(error.to_string().contains(&format!("the process {}", std::process::id())), "{error}");
    // The first one is unharmed, and when it has gone the folder is free.
    bench.submit(with_id("still")).await;
    bench.manual.next().await.exit(0);
    bench.wait("still").await;
    bench.reopen(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_can_read_the_state() {
    use std::os::unix::fs::MetadataExt;
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("state");
    let service = TaskService::open(settings(&state, 1, 1), RunnerRegistry::new()).await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{entry:?}");
        seen += 1;
    }
    assert!(seen >= 4, "database, its log, the lock and the records");
    assert_eq!(state.metadata().unwrap().mode() & 0o777, 0o700);
    drop(service);
}

/// A service whose runners `script` and `manual` note their name in the result.
async fn scripted() -> (TaskService, tempfile::TempDir) {
    use std::sync::Arc;
    struct Named(&'static str);
    impl task_service::TaskRunner for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn description(&self) -> &str {
            ""
        }
        fn check(&self, _: &TaskSpec) -> Result<task_service::Plan, task_service::Refusal> {
            Ok(task_service::Plan::default())
        }
        fn start(&self, order: task_service::TaskOrder) -> task_service::StartFuture<'_> {
            Box::pin(async move {
                let (execution, driver) = task_service::Execution::new(order.id, "/nonexistent".into());
                let mut result = crate::support::exited(0);
                result.command = vec![self.0.to_owned()];
                driver.finish(result);
                Ok(execution)
            })
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(Named("script"))).unwrap();
    registry.register(Arc::new(Named("manual"))).unwrap();
    (TaskService::open(settings(folder.path(), 2, 10), registry).await.unwrap(), folder)
}
