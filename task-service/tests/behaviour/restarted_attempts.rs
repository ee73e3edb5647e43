//! What a later start makes of attempts, wherever between two of them an earlier agent died. What each crash leaves is made
//! of a copy of its files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use task_service::{LogSource, ManualClock, Outcome, Records, TaskId, TaskService, TaskStatus};

use crate::support::{Bench, Manual, crashed, exited, log_of, open_at, soon, spec};

/// Longer than any delay.
const LONG: Duration = Duration::from_secs(600);

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// What an agent leaves that dies while the first attempt of a task runs, which may be tried again twice.
async fn first_attempt_runs(kinds: &[&str]) -> tempfile::TempDir {
    let bench = Bench::new(4, 10).await;
    bench.submit(spec(json!({"id": "t", "retries": 2, "params": {"retry_on": kinds}}))).await;
    let started = bench.manual.next().await;
    let crash = crashed(&bench.state());
    started.exit(0);
    crash
}

async fn opened(state: &Path) -> (TaskService, Arc<Manual>, ManualClock) {
    let clock = ManualClock::new();
    let (service, manual) = open_at(state, 4, 10, clock.clock()).await;
    (service, manual, clock)
}

/// The service on this folder goes on with attempt 2, which it starts once and when it is due, and keeps the first.
async fn goes_on_with_the_second(state: &Path, exit_code: Option<i32>) {
    let (service, manual, clock) = opened(state).await;
    let task = service.task(&id("t")).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt, task.attempts.len()), (TaskStatus::Queued, 2, 1));
    assert_eq!((task.attempts[0].attempt, task.attempts[0].exit_code), (1, exit_code));
    assert!(manual.is_idle().await, "it is not due");
    clock.advance(LONG);
    let second = manual.next().await;
    assert_eq!(second.order.attempt, 2);
    second.exit(0);
    let task = soon(service.wait(&id("t"))).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt, task.attempts.len()), (TaskStatus::Succeeded, 2, 1));
    for attempt in [1, 2] {
        let LogSource::Log(log) = service.attempt_log(&id("t"), attempt).await.unwrap() else {
            panic!("attempt {attempt} has a log");
        };
        let mut bytes = [0; 64];
        let count = log.read_at(0, &mut bytes).unwrap();
        assert_eq!(std::str::from_utf8(&bytes[..count]).unwrap(), log_of(attempt));
    }
    assert!(manual.is_idle().await);
    soon(service.drain(Duration::ZERO)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_under_which_the_agent_died_is_followed_by_another_only_where_that_is_named() {
    let crash = first_attempt_runs(&["interrupted"]).await;
    goes_on_with_the_second(crash.path(), None).await;

    let crash =
        first_attempt_runs(&["exited", "signaled", "out_of_memory", "not_started", "timed_out"]).await;
    let (service, manual, clock) = opened(crash.path()).await;
    clock.advance(LONG);
    let task = soon(service.wait(&id("t"))).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Interrupted, 1));
    assert!(manual.is_idle().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_end_nobody_has_written_down_is_followed_by_what_would_have_followed() {
    let crash = first_attempt_runs(&["exited"]).await;
    Records::open(crash.path()).unwrap().write_result(&id("t"), &exited(5)).unwrap();
    goes_on_with_the_second(crash.path(), Some(5)).await;

    let crash = first_attempt_runs(&["signaled"]).await;
    Records::open(crash.path()).unwrap().write_result(&id("t"), &exited(5)).unwrap();
    let (service, manual, _) = opened(crash.path()).await;
    let task = service.task(&id("t")).await.unwrap().unwrap();
    assert_eq!((task.status, task.result.unwrap().exit_code), (TaskStatus::Failed, Some(5)));
    assert!(manual.is_idle().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_set_aside_in_part_or_whole_is_not_taken_for_the_next_one() {
    for moved in [&["stdout.txt"][..], &["stdout.txt", "result.json"]] {
        let crash = first_attempt_runs(&["exited"]).await;
        let records = Records::open(crash.path()).unwrap();
        records.write_result(&id("t"), &exited(5)).unwrap();
        let record = records.folder(&id("t"));
        std::fs::create_dir_all(record.join("attempts/1")).unwrap();
        for name in moved {
            std::fs::rename(record.join(name), record.join("attempts/1").join(name)).unwrap();
        }
        goes_on_with_the_second(crash.path(), Some(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_next_attempt_goes_on_waiting() {
    let (bench, _clock) = Bench::stopped(4, 10).await;
    bench.submit(spec(json!({"id": "t", "retries": 2}))).await;
    bench.manual.next().await.exit(5);
    soon(bench.service.wait_attempt(&id("t"), 1)).await.unwrap();
    let crash = crashed(&bench.state());
    goes_on_with_the_second(crash.path(), Some(5)).await;
}

/// What an agent leaves that dies while the second attempt of a task runs.
async fn second_attempt_runs(kinds: &[&str]) -> tempfile::TempDir {
    let (bench, clock) = Bench::stopped(4, 10).await;
    bench.submit(spec(json!({"id": "t", "retries": 2, "params": {"retry_on": kinds}}))).await;
    bench.manual.next().await.exit(5);
    soon(bench.service.wait_attempt(&id("t"), 1)).await.unwrap();
    clock.advance(LONG);
    let second = bench.manual.next().await;
    let crash = crashed(&bench.state());
    second.exit(0);
    crash
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_one_attempt_is_never_taken_for_that_of_the_next() {
    let crash = second_attempt_runs(&["exited"]).await;
    let (service, manual, clock) = opened(crash.path()).await;
    let task = service.task(&id("t")).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Interrupted, 2));
    assert_eq!(task.attempts[0].exit_code, Some(5));
    clock.advance(LONG);
    assert!(manual.is_idle().await);
    soon(service.drain(Duration::ZERO)).await;

    let crash = second_attempt_runs(&["exited", "interrupted"]).await;
    let (service, manual, clock) = opened(crash.path()).await;
    let task = service.task(&id("t")).await.unwrap().unwrap();
    let outcomes: Vec<_> = task.attempts.iter().map(|ended| ended.outcome.clone()).collect();
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, 3));
    assert_eq!(outcomes, [Outcome::Exited { code: 5 }, Outcome::Interrupted]);
    clock.advance(LONG);
    let third = manual.next().await;
    assert_eq!(third.order.attempt, 3);
    third.exit(6);
    let task = soon(service.wait(&id("t"))).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt, task.attempts.len()), (TaskStatus::Failed, 3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_left_where_the_next_attempt_writes_would_be_noticed() {
    // The twin of the test above: what a build that set nothing aside would leave.
    let crash = second_attempt_runs(&["exited", "interrupted"]).await;
    let record = Records::open(crash.path()).unwrap().folder(&id("t"));
    std::fs::copy(record.join("attempts/1/result.json"), record.join("result.json")).unwrap();
    let (service, ..) = opened(crash.path()).await;
    let task = service.task(&id("t")).await.unwrap().unwrap();
    let codes: Vec<_> = task.attempts.iter().map(|ended| ended.exit_code).collect();
    assert_eq!(codes, [Some(5), Some(5)], "the second has the first one's end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_does_not_start_an_attempt_again() {
    let bench = Bench::new(1, 10).await;
    for name in ["runs", "t"] {
        bench.submit(spec(json!({"id": name, "retries": 2}))).await;
    }
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    // The row says that nothing was started, and since then the first attempt was, and set aside.
    let records = Records::open(crash.path()).unwrap();
    records.create(&id("t")).unwrap();
    std::fs::write(records.log_path(&id("t")), log_of(1)).unwrap();
    records.set_aside(&id("t"), 1, &exited(5)).unwrap();
    goes_on_with_the_second(crash.path(), Some(5)).await;
    running.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_cancel_outlives_the_agent_that_was_told_of_it() {
    for is_cancelled in [true, false] {
        let bench = Bench::new(4, 10).await;
        bench.submit(spec(json!({"id": "t", "retries": 2, "params": {"retry_on": ["interrupted"]}}))).await;
        let started = bench.manual.next().await;
        if is_cancelled {
            soon(bench.service.cancel(&id("t"))).await.unwrap();
        }
        let crash = crashed(&bench.state());
        let (service, ..) = opened(crash.path()).await;
        let task = service.task(&id("t")).await.unwrap().unwrap();
        let expected = if is_cancelled { TaskStatus::Interrupted } else { TaskStatus::Queued };
        assert_eq!(task.status, expected);
        started.exit(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_cancel_outlives_the_agent_that_was_setting_the_attempt_aside() {
    for is_cancelled in [true, false] {
        let bench = Bench::new(4, 10).await;
        bench.submit(spec(json!({"id": "t", "retries": 2}))).await;
        let started = bench.manual.next().await;
        if is_cancelled {
            soon(bench.service.cancel(&id("t"))).await.unwrap();
        }
        let crash = crashed(&bench.state());
        started.exit(0);
        let records = Records::open(crash.path()).unwrap();
        records.set_aside(&id("t"), 1, &exited(5)).unwrap();
        if !is_cancelled {
            goes_on_with_the_second(crash.path(), Some(5)).await;
            continue;
        }
        let (service, manual, clock) = opened(crash.path()).await;
        let task = soon(service.wait(&id("t"))).await.unwrap().unwrap();
        assert_eq!((task.status, task.attempt, task.attempts.len()), (TaskStatus::Failed, 1, 0));
        assert_eq!(*task.result.unwrap(), exited(5));
        assert_eq!(records.read_result(&id("t")).unwrap(), Some(exited(5)));
        assert!(matches!(service.log(&id("t")).await.unwrap(), LogSource::Log(_)));
        clock.advance(LONG);
        assert!(manual.is_idle().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_result_cannot_be_read_just_now_is_followed_by_another_when_it_can() {
    let crash = first_attempt_runs(&["exited"]).await;
    let records = Records::open(crash.path()).unwrap();
    records.write_result(&id("t"), &exited(5)).unwrap();
    // Links are not followed, so that this cannot be read, whoever runs the test.
    let (result, away) = (records.folder(&id("t")).join("result.json"), crash.path().join("away.json"));
    std::fs::rename(&result, &away).unwrap();
    std::os::unix::fs::symlink(&away, &result).unwrap();
    let (service, manual, clock) = opened(crash.path()).await;
    assert_eq!(service.task(&id("t")).await.unwrap().unwrap().status, TaskStatus::Running);
    // Its log is given as it stands, and nobody waits for more of it.
    let LogSource::Log(log) = soon(service.log(&id("t"))).await.unwrap() else { panic!("it has a log") };
    assert_eq!((log.progress().bytes, log.progress().ended), (6, true));
    std::fs::rename(&away, &result).unwrap();
    let task = soon(service.wait_attempt(&id("t"), 1)).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, 2));
    clock.advance(LONG);
    let second = manual.next().await;
    assert_eq!(second.order.attempt, 2);
    second.exit(0);
    assert_eq!(soon(service.wait(&id("t"))).await.unwrap().unwrap().status, TaskStatus::Succeeded);
}

/// The tables as the first version of this agent made them, with a task in each state that matters.
const VERSION_1: &str = include_str!("version_1.sql");

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_version_before_is_opened_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("agent.db")).unwrap();
    database.execute_batch(VERSION_1).unwrap();
    database.close().unwrap();
    let (service, manual, _) = opened(folder.path()).await;
    let status = async |name: &str| service.task(&id(name)).await.unwrap().unwrap().status;
    assert_eq!(status("ended").await, TaskStatus::Succeeded);
    assert_eq!(status("ran").await, TaskStatus::Interrupted);
    let waited = manual.next().await;
    assert_eq!((waited.id().as_str(), waited.order.attempt), ("waits", 1));
    waited.exit(1);
    let task = soon(service.wait(&id("waits"))).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempts.len()), (TaskStatus::Failed, 0), "it has no retries");
    soon(service.drain(Duration::ZERO)).await;
    let database = rusqlite::Connection::open(folder.path().join("agent.db")).unwrap();
    let version: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert!(version > 1);
}
