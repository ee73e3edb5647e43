//! Cancelling a task in each of its states.

use serde_json::json;
use task_service::{CancelError, ExecutionResult, Outcome, TaskStatus};

use crate::support::{Bench, error_code, soon, spec, with_id};

fn cancelled() -> ExecutionResult {
    ExecutionResult::without_run(Outcome::Cancelled, "cancelled", "somebody asked for that")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_task_is_cancelled_at_once_and_never_starts() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "waits", "next"] {
        bench.submit(with_id(id)).await;
    }
    let task = soon(bench.service.cancel(&"waits".parse().unwrap())).await.unwrap();
    assert_eq!((task.status, task.started_at), (TaskStatus::Cancelled, None));
    assert_eq!(error_code(&task), "cancelled_in_queue");
    assert_eq!(bench.wait("waits").await, task);
    assert!(bench.state().join("tasks/waits/result.json").is_file());
    bench.manual.next().await.exit(0);
    let next = bench.manual.next().await;
    assert_eq!(next.id(), "next");
    next.exit(0);
    bench.wait("next").await;
    assert!(bench.manual.is_idle().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_is_asked_to_end_and_the_second_time_killed() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("runs")).await;
    let started = bench.manual.next().await;
    let task = soon(bench.service.cancel(&"runs".parse().unwrap())).await.unwrap();
    assert_eq!(task.status, TaskStatus::Running);
    soon(started.driver.cancelled()).await;
    assert_eq!(started.driver.cancels(), 1);
    soon(bench.service.cancel(&"runs".parse().unwrap())).await.unwrap();
    assert_eq!(started.driver.cancels(), 2);
    started.driver.finish(cancelled());
    assert_eq!(bench.wait("runs").await.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_has_ended_and_one_that_never_was_cannot_be_cancelled() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("done")).await;
    bench.manual.next().await.exit(0);
    bench.wait("done").await;
    let error = bench.service.cancel(&"done".parse().unwrap()).await.unwrap_err();
    assert_eq!(error, CancelError::AlreadyEnded(TaskStatus::Succeeded));
    let error = bench.service.cancel(&"nobody".parse().unwrap()).await.unwrap_err();
    assert_eq!(error, CancelError::NotFound("nobody".parse().unwrap()));
    assert_eq!(bench.service.wait(&"nobody".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_put_back_can_be_cancelled_like_any_that_waits() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "busy", "work_dir": "w", "params": {"busy": 1_000_000}}))).await;
    // Whether it waits or is about to start just now, it ends without ever having run.
    soon(bench.service.cancel(&"busy".parse().unwrap())).await.unwrap();
    assert_eq!(bench.wait("busy").await.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_about_to_start_is_told_as_soon_as_it_has_started() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "slow", "params": {"hold": true}}))).await;
    bench.manual.begun(1).await;
    let task = soon(bench.service.cancel(&"slow".parse().unwrap())).await.unwrap();
    assert_eq!(task.status, TaskStatus::Running);
    bench.manual.gate.add_permits(1);
    let started = bench.manual.next().await;
    soon(started.driver.cancelled()).await;
    started.driver.finish(cancelled());
    assert_eq!(bench.wait("slow").await.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_start_found_its_workspace_in_use_stays_cancelled() {
    let bench = Bench::new(1, 10).await;
    let params = json!({"hold": true, "busy": 1_000_000});
    bench.submit(spec(json!({"id": "slow", "work_dir": "w", "params": params}))).await;
    bench.manual.begun(1).await;
    let mut changes = bench.service.changes();
    soon(bench.service.cancel(&"slow".parse().unwrap())).await.unwrap();
    bench.manual.gate.add_permits(1);
    let task = bench.wait("slow").await;
    assert_eq!((task.status, error_code(&task)), (TaskStatus::Cancelled, "cancelled_in_queue"));
    assert!(bench.state().join("tasks/slow/result.json").is_file());
    // It is put back and ended in one step: nothing can start it in between.
    assert_eq!(soon(changes.recv()).await.unwrap().status, TaskStatus::Cancelled);
    assert_eq!(bench.service.stats().running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_was_acknowledged_outlives_a_database_that_cannot_be_written() {
    let bench = Bench::new(1, 10).await;
    let params = json!({"hold": true, "busy": 1});
    bench.submit(spec(json!({"id": "slow", "work_dir": "w", "params": params}))).await;
    bench.manual.begun(1).await;
    soon(bench.service.cancel(&"slow".parse().unwrap())).await.unwrap();
    // Somebody else holds the database for longer than the keeper waits for it.
    let other = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    bench.manual.gate.add_permits(1);
    soon(async {
        while bench.service.stats().unwritten == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.wait("slow").await.status, TaskStatus::Cancelled);
    assert_eq!(bench.manual.starts.load(std::sync::atomic::Ordering::SeqCst), 1, "it was not started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_cancels_while_tasks_start_and_end_leave_each_in_one_state() {
    let bench = Bench::new(2, 100).await;
    let ids: Vec<String> = (0..64).map(|number| format!("t{number}")).collect();
    for id in &ids {
        bench.submit(with_id(id)).await;
    }
    let cancels: Vec<_> = ids
        .iter()
        .map(|id| {
            let (service, id) = (bench.service.clone(), id.parse().unwrap());
            tokio::spawn(async move { service.cancel(&id).await })
        })
        .collect();
    let manual = bench.manual.clone();
    let driving = tokio::spawn(async move {
        loop {
            manual.next().await.driver.finish(cancelled());
        }
    });
    for cancel in cancels {
        match soon(cancel).await.unwrap() {
            Ok(_) | Err(CancelError::AlreadyEnded(TaskStatus::Cancelled)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for id in &ids {
        assert_eq!(bench.wait(id).await.status, TaskStatus::Cancelled);
    }
    driving.abort();
    assert_eq!(bench.service.stats().running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_written_though_whoever_cancelled_has_gone_away() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "waits"] {
        bench.submit(with_id(id)).await;
    }
    {
        let id = "waits".parse().unwrap();
        let mut cancelling = std::pin::pin!(bench.service.cancel(&id));
        let nothing = std::future::ready(());
        // It is asked for, and not waited for.
        tokio::select! { biased; _ = &mut cancelling => {} _ = nothing => {} }
    }
    bench.wait("waits").await;
    let result = bench.state().join("tasks/waits/result.json");
    soon(async {
        while !result.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bench.manual.next().await.exit(0);
}

/// The service's database, as a person with its tools opens it.
fn opened(bench: &Bench) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    database
}

/// Lets every change of a task's row fail, by itself or with all that is written beside it.
fn refuse_changes(database: rusqlite::Connection, id: &str, how: &str) -> rusqlite::Connection {
    let sql = format!(
        "CREATE TRIGGER refuse BEFORE UPDATE ON task WHEN NEW.id = '{id}'
        BEGIN SELECT RAISE({how}, 'as the test wanted'); END"
    );
    database.execute_batch(&sql).unwrap();
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_next_attempt_cannot_be_written_is_not_cancelled_for_ever() {
    let (bench, clock) = Bench::stopped(1, 10).await;
    bench.submit(spec(json!({"id": "t", "retries": 1}))).await;
    let started = bench.manual.next().await;
    let database = refuse_changes(opened(&bench), "t", "ABORT");
    started.exit(1);
    bench.counted(|stats| stats.unwritten == 1).await;
    let error = soon(bench.service.cancel(&"t".parse().unwrap())).await.unwrap_err();
    assert!(matches!(error, CancelError::Unavailable(_)), "{error}");
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    soon(bench.service.wait_attempt(&"t".parse().unwrap(), 1)).await.unwrap();
    clock.advance(std::time::Duration::from_secs(600));
    bench.manual.next().await.exit(0);
    assert_eq!(bench.wait("t").await.status, TaskStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_written_is_one_end_and_no_start() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "damaged"] {
        bench.submit(with_id(id)).await;
    }
    let started = bench.manual.next().await;
    let database = opened(&bench);
    database.execute("UPDATE task SET spec = '{' WHERE id = 'damaged'", []).unwrap();
    let database = refuse_changes(database, "damaged", "ROLLBACK");
    let mut changes = bench.service.changes();
    started.exit(0);
    bench.wait("runs").await;
    // Each of these is a turn in which nothing can be written.
    for _ in 0..4 {
        soon(bench.service.submit(with_id("other"), "tester")).await.unwrap_err();
    }
    database.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(bench.wait("damaged").await.status, TaskStatus::Failed);
    bench.submit(with_id("last")).await;
    bench.manual.next().await.exit(0);
    bench.wait("last").await;
    let mut ends = 0;
    while let Ok(change) = changes.try_recv() {
        ends += usize::from(change.id.as_str() == "damaged");
    }
    assert_eq!(ends, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_end_of_a_task_is_the_one_that_is_told() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("t")).await;
    let started = bench.manual.next().await;
    opened(&bench).execute("UPDATE task SET status = 'lost' WHERE id = 't'", []).unwrap();
    let (service, id) = (bench.service.clone(), "t".parse().unwrap());
    let told = tokio::spawn(async move { service.wait(&id).await });
    started.exit(0);
    assert_eq!(soon(told).await.unwrap().unwrap().unwrap().status, TaskStatus::Lost);
    assert_eq!(bench.status("t").await, "lost");
}
