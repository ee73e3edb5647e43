//! Retries: what is tried again, when, and what is to be seen of it. The clock is moved by hand.

use std::time::Duration;

use serde_json::{Value, json};
use task_service::{
    CancelError, ExecutionResult, LogError, LogReader, LogSource, Outcome, RetryPolicy, SubmitError, TaskId,
    TaskSpec, TaskStatus,
};

use crate::support::{Bench, error_code, exited, log_of, open_at, soon, spec, with_id};

/// Longer than any delay.
const LONG: Duration = Duration::from_secs(600);

fn retried(id: &str, retries: u32) -> TaskSpec {
    spec(json!({"id": id, "retries": retries}))
}

fn retried_on(id: &str, retries: u32, kinds: &Value) -> TaskSpec {
    spec(json!({"id": id, "retries": retries, "params": {"retry_on": kinds}}))
}

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

fn ended(outcome: Outcome) -> ExecutionResult {
    ExecutionResult::without_run(outcome, "as_the_test_wants", "as the test wants")
}

/// Waits until a task waits for the attempt of that number.
async fn until_waiting(bench: &Bench, name: &str, attempt: u32) {
    let task = soon(bench.service.wait_attempt(&id(name), attempt - 1)).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Queued, attempt), "{:?}", task.result);
}

async fn log(bench: &Bench, name: &str, attempt: Option<u32>) -> Option<String> {
    let source = match attempt {
        Some(attempt) => soon(bench.service.attempt_log(&id(name), attempt)).await,
        None => soon(bench.service.log(&id(name))).await,
    };
    match source.unwrap() {
        LogSource::Log(reader) => Some(text(&reader)),
        _ => None,
    }
}

fn text(reader: &LogReader) -> String {
    let mut buffer = [0; 64];
    let count = reader.read_at(0, &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_tried_again_after_its_delay_until_it_succeeds_and_every_log_is_kept() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    let mut changes = bench.service.changes();
    bench.submit(retried("t", 3)).await;
    let waiting = tokio::spawn({
        let service = bench.service.clone();
        async move { service.wait(&id("t")).await.unwrap().unwrap() }
    });
    let policy = RetryPolicy::default();
    for attempt in 1..=2 {
        let started = bench.manual.next().await;
        assert_eq!(started.order.attempt, attempt);
        started.exit(i32::try_from(attempt).unwrap());
        until_waiting(&bench, "t", attempt + 1).await;
        bench.counted(|stats| (stats.queued, stats.running) == (1, 0)).await;
        // A moment too early nothing happens: another task is accepted, starts and ends meanwhile.
        let delay = policy.delay(&id("t"), attempt);
        clock.advance(delay - Duration::from_nanos(1));
        bench.submit(with_id(&format!("other{attempt}"))).await;
        let other = bench.manual.next().await;
        assert_eq!(other.id(), format!("other{attempt}"));
        other.exit(0);
        bench.wait(&format!("other{attempt}")).await;
        assert!(bench.manual.is_idle().await);
        clock.advance(Duration::from_nanos(1));
    }
    let third = bench.manual.next().await;
    assert_eq!(third.order.attempt, 3);
    third.exit(0);
    let task = soon(waiting).await.unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Succeeded, 3));
    let earlier: Vec<_> = task.attempts.iter().map(|a| (a.attempt, a.exit_code, a.log_bytes)).collect();
    assert_eq!(earlier, [(1, Some(1), 6), (2, Some(2), 6)]);
    assert!(task.attempts.iter().all(|a| a.started_at.is_some() && a.started_at <= a.ended_at));
    assert_eq!(soon(bench.service.task(&id("t"))).await.unwrap().unwrap(), task, "the row says the same");
    for attempt in 1..=3 {
        assert_eq!(log(&bench, "t", Some(attempt)).await.unwrap(), log_of(attempt));
    }
    assert_eq!(log(&bench, "t", None).await.unwrap(), log_of(3));
    let attempts = bench.state().join("tasks/t/attempts");
    let result = |n| std::fs::read_to_string(attempts.join(format!("{n}/result.json"))).unwrap();
    assert!(result(1).contains("\"code\": 1") && result(2).contains("\"code\": 2"));
    let mut seen = Vec::new();
    while let Ok(change) = changes.try_recv() {
        if change.id == id("t") {
            seen.push(change.status);
        }
    }
    let seen: Vec<&str> = seen.into_iter().map(TaskStatus::as_str).collect();
    assert_eq!(seen, ["running", "queued", "running", "queued", "running", "succeeded"]);
    assert_eq!(bench.service.stats().retries, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempt_ends_the_task_whatever_it_comes_to() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    bench.submit(retried("t", 1)).await;
    bench.manual.next().await.exit(1);
    until_waiting(&bench, "t", 2).await;
    clock.advance(LONG);
    bench.manual.next().await.exit(2);
    let task = bench.wait("t").await;
    assert_eq!((task.status, task.attempt, task.result.unwrap().exit_code), (TaskStatus::Failed, 2, Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_kinds_that_are_named_are_tried_again_and_a_cancelled_one_never() {
    let (bench, _clock) = Bench::stopped(4, 10).await;
    let all = json!(["exited", "signaled", "timed_out", "out_of_memory", "not_started", "interrupted"]);
    let usual = json!(["exited", "signaled", "out_of_memory", "not_started"]);
    let table = [
        (Outcome::TimedOut, usual.clone(), false),
        (Outcome::TimedOut, all.clone(), true),
        (Outcome::Interrupted, usual.clone(), false),
        (Outcome::Interrupted, all.clone(), true),
        (Outcome::Signaled { signal: 9 }, usual.clone(), true),
        (Outcome::Signaled { signal: 9 }, json!(["exited"]), false),
        (Outcome::OutOfMemory, usual, true),
        (Outcome::Cancelled, all, false),
    ];
    for (number, (outcome, kinds, is_tried_again)) in table.into_iter().enumerate() {
        let name = format!("t{number}");
        bench.submit(retried_on(&name, 1, &kinds)).await;
        bench.manual.next().await.driver.finish(ended(outcome.clone()));
        let task = soon(bench.service.wait_attempt(&id(&name), 1)).await.unwrap().unwrap();
        assert_eq!(!task.status.is_terminal(), is_tried_again, "{outcome:?} with {kinds}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_failed_at_is_tried_again_and_what_will_be_the_same_is_not() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    let out_of_descriptors = 24;
    let fields = json!({"id": "host", "retries": 1, "params": {"fail": out_of_descriptors}});
    bench.submit(spec(fields)).await;
    until_waiting(&bench, "host", 2).await;
    clock.advance(LONG);
    let task = bench.wait("host").await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 2));
    assert_eq!(task.attempts[0].outcome, Outcome::NotStarted);
    assert_eq!(error_code(&task), "out_of_descriptors");
    // Refused as it is: the workspace is in use outside, and the task does not wait for that.
    let busy =
        json!({"id": "busy", "retries": 1, "on_busy": "refuse", "work_dir": "w", "params": {"busy": 99}});
    bench.submit(spec(busy)).await;
    let task = bench.wait("busy").await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Rejected, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_next_attempt_lets_its_lane_go_on_and_comes_before_younger_ones() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    for name in ["a", "b", "c"] {
        bench.submit(spec(json!({"id": name, "retries": 1, "params": {"lane": "l:1"}}))).await;
    }
    bench.manual.next().await.exit(1);
    let b = bench.manual.next().await;
    assert_eq!(b.id(), "b");
    until_waiting(&bench, "a", 2).await;
    clock.advance(LONG);
    b.exit(0);
    let a = bench.manual.next().await;
    assert_eq!((a.id().as_str(), a.order.attempt), ("a", 2));
    a.exit(0);
    assert_eq!(bench.manual.next().await.id(), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_for_its_next_attempt_is_cancelled_at_once_and_its_logs_stay() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    bench.submit(retried("t", 5)).await;
    bench.manual.next().await.exit(1);
    until_waiting(&bench, "t", 2).await;
    let task = soon(bench.service.cancel(&id("t"))).await.unwrap();
    assert_eq!((task.status, task.attempt), (TaskStatus::Cancelled, 2));
    assert_eq!(error_code(&task), "cancelled_in_queue");
    clock.advance(LONG);
    assert_eq!(log(&bench, "t", Some(1)).await.unwrap(), log_of(1));
    assert_eq!(log(&bench, "t", None).await.unwrap(), log_of(1), "the newest that has started");
    assert_eq!(log(&bench, "t", Some(2)).await, None);
    let again = soon(bench.service.cancel(&id("t"))).await.unwrap_err();
    assert_eq!(again, CancelError::AlreadyEnded(TaskStatus::Cancelled));
    assert!(bench.manual.is_idle().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_by_itself_after_its_end_was_asked_for_is_the_last() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    for name in ["cancelled", "not"] {
        bench.submit(retried(name, 5)).await;
        let started = bench.manual.next().await;
        if name == "cancelled" {
            soon(bench.service.cancel(&id(name))).await.unwrap();
        }
        // It has not heard of it.
        started.exit(3);
        let task = soon(bench.service.wait_attempt(&id(name), 1)).await.unwrap().unwrap();
        assert_eq!(task.status.is_terminal(), name == "cancelled");
    }
    clock.advance(LONG);
    let task = bench.wait("cancelled").await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 1));
    assert_eq!(log(&bench, "cancelled", None).await.unwrap(), log_of(1));
    let records = task_service::Records::open(&bench.state()).unwrap();
    assert_eq!(records.read_result(&id("cancelled")).unwrap().unwrap().exit_code, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_the_attempt_to_its_end_and_one_of_the_next_gets_that_when_it_starts() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    bench.submit(retried("t", 1)).await;
    let first = bench.manual.next().await;
    let LogSource::Log(mut follower) = soon(opened(&bench, None)).await else { panic!("it runs") };
    let early = soon(bench.service.attempt_log(&id("t"), 2)).await.unwrap_err();
    assert!(matches!(early, LogError::NoSuchAttempt { attempts: 1, .. }), "{early}");
    assert_eq!(early.to_string(), "the task 't' has no attempt 2; it has 1, counted from 1");
    first.exit(1);
    until_waiting(&bench, "t", 2).await;
    assert!(soon(follower.wait_beyond(6)).await.ended);
    // While the next one is waited for, the log is that of the one before, and whole.
    let LogSource::Log(whole) = soon(opened(&bench, None)).await else { panic!("there is one") };
    assert!(whole.progress().is_complete());
    assert_eq!(text(&whole), log_of(1));
    let LogSource::NotYet(next) = soon(bench.service.attempt_log(&id("t"), 2)).await.unwrap() else {
        panic!("it has not started");
    };
    let next = tokio::spawn(next.opened());
    clock.advance(LONG);
    let second = bench.manual.next().await;
    let LogSource::Log(mut reader) = soon(next).await.unwrap().unwrap() else { panic!("it runs") };
    assert!(!reader.progress().ended);
    second.exit(0);
    assert!(soon(reader.wait_beyond(6)).await.ended);
    bench.wait("t").await;
    assert_eq!(log(&bench, "t", Some(1)).await.unwrap(), log_of(1));
    assert_eq!(log(&bench, "t", Some(2)).await.unwrap(), log_of(2));
    for none in [0, 3] {
        let error = soon(bench.service.attempt_log(&id("t"), none)).await.unwrap_err();
        assert!(matches!(error, LogError::NoSuchAttempt { attempts: 2, .. }), "{error}");
    }
}

/// The log of a task that is about to start, once it has.
async fn opened(bench: &Bench, attempt: Option<u32>) -> LogSource {
    let source = match attempt {
        Some(attempt) => bench.service.attempt_log(&id("t"), attempt).await,
        None => bench.service.log(&id("t")).await,
    };
    match source.unwrap() {
        LogSource::NotYet(wait) => wait.opened().await.unwrap(),
        source => source,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_keeps_those_that_wait_for_an_attempt_for_its_next_start() {
    let (bench, clock) = Bench::stopped(4, 10).await;
    bench.submit(retried("t", 2)).await;
    bench.manual.next().await.exit(1);
    until_waiting(&bench, "t", 2).await;
    let report = soon(bench.service.drain(Duration::ZERO)).await;
    assert_eq!((report.cancelled.len(), report.queued), (0, 1));
    let (service, manual) = open_at(bench.folder.path(), 4, 10, clock.clock()).await;
    let delay = RetryPolicy::default().delay(&id("t"), 1);
    clock.advance(delay - Duration::from_nanos(1000));
    soon(service.submit(with_id("other"), "tester")).await.unwrap();
    let other = manual.next().await;
    assert_eq!(other.id(), "other", "what is left of the delay is waited for");
    clock.advance(Duration::from_nanos(1000));
    let second = manual.next().await;
    assert_eq!((second.id().as_str(), second.order.attempt), ("t", 2));
    second.exit(0);
    other.exit(0);
    let task = soon(service.wait(&id("t"))).await.unwrap().unwrap();
    assert_eq!((task.status, task.attempts.len()), (TaskStatus::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_be_set_aside_is_the_last_and_keeps_its_result() {
    let (bench, _clock) = Bench::stopped(4, 10).await;
    bench.submit(retried("t", 2)).await;
    let started = bench.manual.next().await;
    let in_the_way = bench.state().join("tasks/t/attempts");
    std::fs::write(&in_the_way, "no folder").unwrap();
    started.exit(4);
    let task = bench.wait("t").await;
    assert_eq!((task.status, task.attempt), (TaskStatus::Failed, 1));
    assert_eq!(task.result.as_ref().unwrap().exit_code, Some(4));
    assert_eq!(log(&bench, "t", None).await.unwrap(), log_of(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_that_is_over_before_it_is_written_is_not_missed() {
    // By the host's clock: nothing else happens that would wake the service.
    let bench = Bench::new(4, 10).await;
    bench.submit(spec(json!({"id": "t", "retries": 3, "params": {"delay_ns": 2}}))).await;
    for attempt in 1..=4 {
        let started = bench.manual.next().await;
        assert_eq!(started.order.attempt, attempt);
        started.exit(1);
    }
    assert_eq!(bench.wait("t").await.attempts.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_that_a_runner_knows_nothing_of_are_refused_and_not_left_out() {
    let bench = Bench::new(4, 10).await;
    let spec = TaskSpec { retries: Some(2), ..TaskSpec::new("instant") };
    let error = soon(bench.service.submit(spec, "tester")).await.unwrap_err();
    let SubmitError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!(refusal.code(), "invalid");
    assert!(error.to_string().contains("at most 0, what the runner 'instant' allows"), "{error}");
    let none = TaskSpec { retries: Some(0), ..TaskSpec::new("instant") };
    soon(bench.service.submit(none, "tester")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_retries_leaves_no_attempts() {
    let bench = Bench::new(4, 10).await;
    bench.submit(with_id("t")).await;
    bench.manual.next().await.driver.finish(exited(1));
    let task = bench.wait("t").await;
    assert_eq!((task.status, task.attempt, task.attempts.len()), (TaskStatus::Failed, 1, 0));
    assert!(!bench.state().join("tasks/t/attempts").exists());
}
