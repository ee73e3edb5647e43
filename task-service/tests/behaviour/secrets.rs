//! Secret parameters: the runner gets their values, and nothing that is written or answered holds them.

use std::path::Path;

use serde_json::json;
use task_service::{Outcome, SubmitError, TaskSpec, TaskStatus};

use crate::support::{Bench, Started, error_code, exited, soon, spec};

/// Found nowhere by accident.
const CANARY: &str = "c4n4ry-\u{e4}\n\u{1f426}-end";

fn with_token(id: &str, token: &str) -> TaskSpec {
    spec(json!({"id": id, "params": {"token": token, "env": "prod"}}))
}

fn value(started: &Started) -> &str {
    use task_runners::ExposeSecret;
    started.order.spec.secrets.get("token").expect("the runner gets the value").expose_secret()
}

/// The files below a folder that hold these bytes.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_secret_reaches_the_runner_and_no_file_or_answer() {
    let bench = Bench::new(1, 10).await;
    let task = bench.submit(with_token("a", CANARY)).await;
    let waiting = bench.submit(with_token("b", CANARY)).await;
    assert_eq!(waiting.status, TaskStatus::Queued);
    for task in [&task, &waiting] {
        let shown = format!("{} {task:?}", serde_json::to_string(task).unwrap());
        assert!(shown.contains(r#""secrets":["token"]"#) && shown.contains("prod"), "{shown}");
        assert!(!shown.contains("c4n4ry"), "{shown}");
    }
    for _ in 0..2 {
        let started = bench.manual.next().await;
        assert_eq!(value(&started), CANARY);
        assert!(!started.order.spec.params.contains_key("token"));
        assert!(!format!("{:?}", started.order).contains("c4n4ry"));
        started.exit(0);
    }
    bench.wait("a").await;
    let ended = bench.wait("b").await;
    assert!(!serde_json::to_string(&ended).unwrap().contains("c4n4ry"));
    assert_eq!(holding(&bench.state(), b"c4n4ry"), Vec::<String>::new());
    // The twin: what is no secret is found by the same search.
    assert!(!holding(&bench.state(), b"prod").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_secrets_are_kept_than_memory_is_set_aside_for() {
    let bench = Bench::new(1, 100).await;
    let large = "x".repeat(20 << 20);
    for id in ["a", "b", "c"] {
        bench.submit(with_token(id, &large)).await;
    }
    let error = soon(bench.service.submit(with_token("d", &large), "tester")).await.unwrap_err();
    assert_eq!(error.code(), "secrets_full");
    // Whoever brings none, or few, is not held up by that.
    bench.submit(spec(json!({"id": "plain"}))).await;
    bench.submit(with_token("small", CANARY)).await;
    // What has ended makes room.
    soon(bench.service.cancel(&"b".parse().unwrap())).await.unwrap();
    bench.submit(with_token("d", &large)).await;
    bench.manual.next().await.exit(0);
}

#[tokio::test]
async fn a_task_that_is_put_back_gets_its_secret_again() {
    let bench = Bench::new(1, 10).await;
    let mut asked = with_token("a", CANARY);
    asked.params.insert("busy".to_owned(), 1.into());
    bench.submit(asked).await;
    bench.manual.begun(2).await;
    let started = bench.manual.next().await;
    assert_eq!(value(&started), CANARY);
    started.exit(0);
}

#[tokio::test]
async fn the_same_task_is_known_again_whatever_its_secret() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_token("a", CANARY)).await;
    let shown = bench.service.task(&"a".parse().unwrap()).await.unwrap().unwrap();
    let as_shown = TaskSpec::from_json(serde_json::to_value(&*shown.spec).unwrap()).unwrap();
    let without = spec(json!({"id": "a", "params": {"env": "prod"}}));
    for same in [with_token("a", CANARY), with_token("a", "another"), without, as_shown] {
        assert!(!soon(bench.service.submit(same, "tester")).await.unwrap().created);
    }
    let other = spec(json!({"id": "a", "params": {"token": CANARY, "env": "test"}}));
    let error = soon(bench.service.submit(other, "tester")).await.unwrap_err();
    assert!(matches!(error, SubmitError::Conflict { .. }), "{error}");
    bench.submit(spec(json!({"id": "b", "params": {"env": "prod"}}))).await;
    let error = soon(bench.service.submit(with_token("b", CANARY), "tester")).await.unwrap_err();
    assert!(matches!(error, SubmitError::Conflict { .. }), "{error}");
    bench.manual.next().await.exit(0);
    bench.manual.next().await.exit(0);
}

#[tokio::test]
async fn what_the_runner_does_not_keep_secret_is_no_task() {
    let bench = Bench::new(1, 10).await;
    let asked = spec(json!({"params": {"env": "c4n4ry"}, "secrets": ["env"]}));
    let error = soon(bench.service.submit(asked, "tester")).await.unwrap_err();
    assert!(error.to_string().contains("secrets.env") && !error.to_string().contains("c4n4ry"), "{error}");
    assert_eq!(holding(&bench.state(), b"c4n4ry"), Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_task_whose_secret_went_with_the_agent_is_interrupted() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "holder"}))).await;
    let holder = bench.manual.next().await;
    bench.submit(with_token("a", CANARY)).await;
    bench.submit(spec(json!({"id": "b"}))).await;
    let end_holder = async {
        soon(holder.driver.cancelled()).await;
        holder.driver.finish(exited(1));
    };
    let (bench, ()) = tokio::join!(bench.reopen(1, 10), end_holder);
    let ended = bench.wait("a").await;
    assert_eq!((ended.status, error_code(&ended)), (TaskStatus::Interrupted, "secret_gone"));
    assert_eq!(ended.result.as_ref().unwrap().outcome, Outcome::Interrupted);
    assert!(bench.state().join("tasks/a/result.json").exists());
    // One without secrets goes on.
    let started = bench.manual.next().await;
    assert_eq!(started.id(), "b");
    started.exit(0);
}

#[tokio::test]
async fn another_attempt_gets_the_secret_again_and_after_a_restart_there_is_none() {
    let bench = Bench::new(1, 10).await;
    let mut asked = with_token("a", CANARY);
    asked.retries = Some(2);
    asked.params.insert("delay_ns".to_owned(), 1.into());
    bench.submit(asked).await;
    for attempt in [1, 2] {
        let started = bench.manual.next().await;
        assert_eq!((started.order.attempt, value(&started)), (attempt, CANARY));
        if attempt == 1 {
            started.exit(1);
        } else {
            let (bench, ()) = tokio::join!(bench.reopen(1, 10), async {
                soon(started.driver.cancelled()).await;
                started.driver.finish(exited(1));
            });
            let ended = bench.wait("a").await;
            assert!(ended.status.is_terminal());
            assert!(bench.manual.is_idle().await, "nothing is started without its secret");
            return;
        }
    }
}
