//! Runners: the registry, scripts by name and through the runner, `task_debug`, and those of embedders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use executor_integrity::VerificationMode;
use serde_json::json;
use task_runners::registry::RegisterError;
use task_runners::{
    Completion, FunctionLimits, FunctionRunner, Outcome, Records, Refusal, RunnerRegistry, TaskDebugRunner,
    TaskHandle, TaskOrder, TaskRunner, TaskSpec,
};

use crate::place::{Place, body, order};

fn counting(name: &str, records: Records) -> FunctionRunner {
    FunctionRunner::new(name, "Counts.", records, |order: TaskOrder, task: TaskHandle| async move {
        task.write("counting\n").await;
        match order.spec.params.get("to").and_then(serde_json::Value::as_u64) {
            Some(0) => {
                task.cancelled().await;
                Completion::failed("was told to stop")
            }
            Some(to) => {
                let output_params = BTreeMap::from([("SUM".to_owned(), (to * (to + 1) / 2).to_string())]);
                Completion { output_params, failure: None }
            }
            None => Completion::failed("expected params.to"),
        }
    })
}

#[test]
fn names_outside_the_grammar_or_that_are_taken_are_not_registered() {
    let place = Place::new();
    let records = Records::open(place.path()).unwrap();
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(counting("count", records.clone()))).unwrap();
    for name in ["", "a.sh", "a/b", "ä", &"a".repeat(65)] {
        let refused = registry.register(Arc::new(counting(name, records.clone())));
        assert_eq!(refused, Err(RegisterError::BadName(name.to_owned())));
    }
    let again = registry.register(Arc::new(counting("count", records)));
    assert_eq!(again, Err(RegisterError::Taken("count".to_owned())));
    assert_eq!(registry.list().map(|runner| runner.name()).collect::<Vec<_>>(), ["count"]);
    assert!(registry.get("nobody").is_none());
}

#[tokio::test]
async fn a_runner_that_is_no_script_has_log_result_and_output_parameters_too() {
    let place = Place::new();
    let records = Records::open(place.path()).unwrap();
    let runner = counting("count", records.clone());
    let mut spec = TaskSpec::new("count");
    spec.params.insert("to".to_owned(), json!(4));
    let execution = runner.start(order(&runner, spec)).await.unwrap();
    let result = execution.wait().await;
    assert!(result.success);
    assert_eq!(result.output_params["SUM"], "10");
    assert_eq!(body(execution.log_path(), &result.log), "counting\n");
    assert_eq!(records.read_result(execution.id()).unwrap().as_ref(), Some(&*result));
}

#[tokio::test]
async fn a_runner_that_is_no_script_can_fail_and_be_cancelled() {
    let place = Place::new();
    let runner = counting("count", Records::open(place.path()).unwrap());
    let failed = runner.start(order(&runner, TaskSpec::new("count"))).await.unwrap().wait().await;
    assert_eq!((failed.success, failed.exit_code), (false, Some(1)));
    assert_eq!(failed.error.as_ref().unwrap().message, "expected params.to");

    let mut spec = TaskSpec::new("count");
    spec.params.insert("to".to_owned(), json!(0));
    let execution = runner.start(order(&runner, spec)).await.unwrap();
    execution.cancel();
    assert_eq!(execution.wait().await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_runner_that_panics_leaves_a_result_that_says_so() {
    let place = Place::new();
    let records = Records::open(place.path()).unwrap();
    let runner = FunctionRunner::new("panic", "Panics.", records, |order: TaskOrder, _| async move {
        assert!(order.spec.name.is_empty(), "a defect of the embedder");
        Completion::default()
    });
    let result = runner.start(order(&runner, TaskSpec::new("panic"))).await.unwrap().wait().await;
    assert_eq!(result.outcome, Outcome::Interrupted);
}

/// A function that ignores that it is asked to end; it blocks its thread for as long as the lock is held, where it gets
/// one.
fn deaf(records: Records, lock: Option<Arc<Mutex<()>>>, limits: FunctionLimits) -> FunctionRunner {
    let work = move |_: TaskOrder, task: TaskHandle| {
        let lock = lock.clone();
        async move {
            task.write("begun\n").await;
            if let Some(lock) = lock {
                drop(lock.lock());
            }
            std::future::pending().await
        }
    };
    FunctionRunner::new("deaf", "Never ends.", records, work).limits(limits)
}

// A thread for each function that blocks one, and some for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
#[expect(clippy::await_holding_lock, reason = "this is what blocks the functions")]
async fn a_function_that_ignores_its_time_limit_or_a_cancel_ends_all_the_same() {
    let place = Place::new();
    let records = Records::open(place.path()).unwrap();
    let (soon, never) = (Duration::from_millis(50), Duration::from_secs(3600));
    let limits = |default_timeout, grace| FunctionLimits { default_timeout, grace, max_timeout: never };
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    for blocks in [None, Some(lock.clone())] {
        // Its time is over, it is asked to end, and given up.
        let runner = deaf(records.clone(), blocks.clone(), limits(soon, soon));
        let execution = runner.start(order(&runner, TaskSpec::new("deaf"))).await.unwrap();
        let result = execution.wait().await;
        assert_eq!(result.outcome, Outcome::TimedOut);
        assert_eq!(records.read_result(execution.id()).unwrap().as_ref(), Some(&*result));
        // It is cancelled, and given up after the grace period; a second time at once.
        for (grace, cancels) in [(soon, 1), (never, 2)] {
            let runner = deaf(records.clone(), blocks.clone(), limits(never, grace));
            let execution = runner.start(order(&runner, TaskSpec::new("deaf"))).await.unwrap();
            (0..cancels).for_each(|_| execution.cancel());
            assert_eq!(execution.wait().await.outcome, Outcome::Cancelled);
        }
    }
    drop(held);
}

#[tokio::test]
async fn a_function_whose_time_is_over_is_asked_to_end_and_has_timed_out_whatever_it_says() {
    let place = Place::new();
    let records = Records::open(place.path()).unwrap();
    let work = |_: TaskOrder, task: TaskHandle| async move {
        task.cancelled().await;
        task.write("cleaned up\n").await;
        Completion::default()
    };
    let runner = FunctionRunner::new("polite", "Ends when asked.", records, work);
    let spec = TaskSpec { timeout: Some(Duration::from_millis(50)), ..TaskSpec::new("polite") };
    let execution = runner.start(order(&runner, spec)).await.unwrap();
    let result = execution.wait().await;
    assert_eq!((&result.outcome, result.success), (&Outcome::TimedOut, false));
    assert!(result.duration_ms >= 50);
    assert_eq!(body(execution.log_path(), &result.log), "cleaned up\n");
}

#[test]
fn what_a_function_cannot_be_given_is_refused_and_not_ignored() {
    let place = Place::new();
    let runner = counting("count", Records::open(place.path()).unwrap());
    let spec = json!({"name": "count", "env": {"A": "1"}, "work_dir": "w", "stdin": "text", "debug_script": true,
        "timeout": "25h"});
    let Err(Refusal::Invalid(problems)) = runner.check(&TaskSpec::from_json(spec).unwrap()) else {
        panic!("it was accepted")
    };
    let found: Vec<_> = problems.iter().map(|p| (p.field.as_str(), p.rule.as_str())).collect();
    let unsupported = ["env", "work_dir", "stdin", "debug_script"].map(|field| (field, "unsupported"));
    assert_eq!(found, [&unsupported[..], &[("timeout", "maximum")]].concat());
    runner.check(&TaskSpec { timeout: Some(Duration::from_secs(60)), ..TaskSpec::new("count") }).unwrap();
}

#[tokio::test]
async fn a_script_runs_by_its_name_and_through_the_runner_alike() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho \"hello $1 $GREETING\"; cat\n");
    let runner = place.runner(VerificationMode::Auto);
    let common = json!({"args": ["you"], "env": {"GREETING": "there"}, "stdin": "input\n"});
    for own in [json!({"name": "hello.sh"}), json!({"name": "script", "params": {"script": "hello.sh"}})] {
        let mut spec = own;
        spec.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        let spec = TaskSpec::from_json(spec).unwrap();
        let execution = runner.start(order(&runner, spec)).await.unwrap();
        let result = execution.wait().await;
        assert_eq!(body(execution.log_path(), &result.log), "hello you there\ninput\n");
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() {
    let place = Place::new();
    place.script("torn.sh", "echo no first line\n");
    place.script("fine.sh", "#!/bin/sh\n");
    let runner = place.runner(VerificationMode::Auto);
    let refused = |spec: serde_json::Value| runner.check(&TaskSpec::from_json(spec).unwrap()).unwrap_err();
    assert_eq!(refused(json!({"name": "gone.sh"})).code(), "not_found");
    assert_eq!(refused(json!({"name": "torn.sh"})).code(), "script_broken");
    assert_eq!(refused(json!({"name": "script"})).code(), "invalid");
    let Refusal::Invalid(problems) =
        refused(json!({"name": "fine.sh", "params": {"a": 1}, "timeout": "999h"}))
    else {
        panic!("it was not found invalid")
    };
    let found: Vec<_> = problems.iter().map(|p| (p.field.as_str(), p.rule.as_str())).collect();
    assert_eq!(found, [("params.a", "undeclared"), ("timeout", "maximum")]);
}

#[tokio::test]
async fn task_debug_runs_its_script_and_leaves_a_reproduction() {
    let place = Place::new();
    place.script("task_debug.sh", "#!/bin/sh\necho \"$@\"\n");
    let runner = TaskDebugRunner::new(place.runner(VerificationMode::Auto));
    let spec = TaskSpec::from_json(json!({"name": "task_debug", "args": ["x"]})).unwrap();
    let execution = runner.start(order(&runner, spec)).await.unwrap();
    let result = execution.wait().await;
    let debug = execution.log_path().with_file_name("debug.sh");
    let output = std::process::Command::new(debug).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), body(execution.log_path(), &result.log));
}
