//! Runners: the registry, scripts by name and through the runner, `task_debug`, and those of embedders.

use std::collections::BTreeMap;
use std::sync::Arc;

use executor_integrity::VerificationMode;
use serde_json::json;
use task_runners::registry::RegisterError;
use task_runners::{
    Completion, FunctionRunner, Outcome, Records, Refusal, RunnerRegistry, TaskDebugRunner, TaskOrder,
    TaskRunner, TaskSpec,
};

use crate::place::{Place, body, order};

fn counting(name: &str, records: Records) -> FunctionRunner {
    FunctionRunner::new(name, "Counts.", records, |order: TaskOrder, mut recorder| async move {
        recorder.write(b"counting\n");
        match order.spec.params.get("to").and_then(serde_json::Value::as_u64) {
            Some(0) => {
                recorder.cancelled().await;
                recorder.finish(Completion::failed("was told to stop"));
            }
            Some(to) => {
                let output_params = BTreeMap::from([("SUM".to_owned(), (to * (to + 1) / 2).to_string())]);
                recorder.finish(Completion { output_params, failure: None });
            }
            None => recorder.finish(Completion::failed("expected params.to")),
        }
    })
}

#[test]
fn names_that_a_script_could_have_or_that_are_taken_are_not_registered() {
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
    let runner = FunctionRunner::new("panic", "Panics.", records, |order: TaskOrder, recorder| async move {
        let _held = recorder;
        assert!(order.spec.name.is_empty(), "a defect of the embedder");
    });
    let result = runner.start(order(&runner, TaskSpec::new("panic"))).await.unwrap().wait().await;
    assert_eq!(result.outcome, Outcome::Interrupted);
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
