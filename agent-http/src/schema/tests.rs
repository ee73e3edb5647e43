//! The description against what the crates that own the types really write.

use super::script::{BrokenReason, ScriptOutput, ScriptVersion, Verification};
use super::*;
use std::collections::BTreeSet;
use std::time::Duration;

use task_runners::description::ValueType;
use task_service::{ExecutionResult, Outcome as CoreOutcome, Refusal, TaskStatus};
use utoipa::PartialSchema;

use crate::auth::Caller;
use crate::error::ApiError;

/// The properties that a schema describes, and those of them that must be there.
fn described<T: PartialSchema>() -> (BTreeSet<String>, BTreeSet<String>) {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let properties = schema["properties"].as_object().unwrap().keys().cloned().collect();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let required = required.iter().map(|name| name.as_str().unwrap().to_owned());
    (properties, required.collect())
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn whole_result() -> ExecutionResult {
    ExecutionResult::without_run(CoreOutcome::Exited { code: 0 }, "code", "message")
}

fn whole_task() -> Value {
    let spec = task_service::TaskSpec {
        id: Some("a".parse().unwrap()),
        params: [("p".to_owned(), Value::from(1))].into_iter().collect(),
        secrets: serde_json::from_str("[\"s\"]").unwrap(),
        args: vec!["x".to_owned()],
        env: [("E".to_owned(), "v".to_owned())].into(),
        work_dir: Some("w".parse().unwrap()),
        timeout: Some(Duration::from_secs(1)),
        debug_script: true,
        labels: [("l".to_owned(), "v".to_owned())].into(),
        on_behalf_of: Some("o".to_owned()),
        stdin: Some("s".to_owned()),
        on_busy: task_service::OnBusy::Refuse,
        target: Some(task_runners::Target::Node("n".to_owned())),
        unreachable_after: Some(Duration::from_secs(1)),
        retries: Some(1),
        confirm: Some("c".to_owned()),
        ..task_service::TaskSpec::new("n")
    };
    let task = task_service::Task {
        id: "a".parse().unwrap(),
        name: "n".to_owned(),
        spec: spec.into(),
        status: TaskStatus::Succeeded,
        node: None,
        attempt: 2,
        attempts: vec![task_service::Attempt {
            attempt: 1,
            started_at: None,
            ended_at: None,
            outcome: task_service::Outcome::Exited { code: 1 },
            exit_code: Some(1),
            log_bytes: 0,
        }],
        created_by: "t".to_owned(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        started_at: None,
        ended_at: None,
        log_bytes: 0,
        unreachable_since: None,
        result: Some(whole_result().into()),
        late_result: None,
    };
    serde_json::to_value(task).unwrap()
}

#[test]
fn the_documented_task_has_the_fields_of_the_real_one() {
    let task = whole_task();
    let (properties, required) = described::<Task>();
    assert_eq!(properties, keys(&task));
    assert_eq!(required, keys(&task));
    let (properties, required) = described::<Attempt>();
    assert_eq!(properties, keys(&task["attempts"][0]));
    assert_eq!(required, keys(&task["attempts"][0]));
    let (properties, required) = described::<TaskResult>();
    assert_eq!(properties, keys(&task["result"]));
    assert_eq!(required, keys(&task["result"]));
    assert_eq!(described::<LogSummary>().1, keys(&task["result"]["log"]));
    assert_eq!(described::<Usage>().1, keys(&task["result"]["usage"]));
    assert_eq!(described::<ErrorReport>().1, keys(&task["result"]["error"]));
    assert!(keys(&task["result"]["outcome"]).is_subset(&described::<Outcome>().0));
}

#[test]
fn the_documented_spec_has_the_fields_of_the_real_one_and_only_its_name_is_required() {
    let (properties, required) = described::<TaskSpec>();
    assert_eq!(properties, keys(&whole_task()["spec"]));
    assert_eq!(required, BTreeSet::from(["name".to_owned()]));
}

#[test]
fn every_documented_status_is_one_and_every_one_is_documented() {
    let schema = serde_json::to_value(Status::schema()).unwrap();
    assert_eq!(schema["enum"], serde_json::json!(TaskStatus::ALL));
}

#[test]
fn the_documented_error_has_the_fields_of_the_real_one() {
    let (properties, required) = described::<ProblemDetails>();
    let invalid = ApiError::from(Refusal::invalid("f", "r", "e")).to_json();
    let unverified = Refusal::Unverified { problems: vec!["p".to_owned()], mend: "m".to_owned() };
    let unverified = ApiError::refused(unverified, &Caller::admin()).to_json();
    let [invalid, unverified]: [Value; 2] =
        [invalid, unverified].map(|json| serde_json::from_str(&json).unwrap());
    assert_eq!(properties, &keys(&invalid) | &keys(&unverified));
    assert!(required.is_subset(&keys(&invalid)) && required.is_subset(&keys(&unverified)));
    assert_eq!(described::<FieldProblem>().1, keys(&invalid["errors"][0]));
}

#[test]
fn the_documented_script_has_the_fields_of_the_real_one() {
    let reason = task_runners::header::BrokenReason { line: None, reason: "r".to_owned() };
    let warning = task_runners::header::Warning { line: None, reason: "r".to_owned() };
    let output = task_runners::description::Output {
        name: "n".to_owned(),
        description: "d".to_owned(),
        value_type: ValueType::String,
    };
    let entry = task_runners::ScriptEntry {
        broken: vec![reason],
        warnings: vec![warning],
        outputs: vec![output],
        ..task_runners::ScriptEntry::default()
    };
    let entry = serde_json::to_value(entry).unwrap();
    assert_eq!(described::<Script>().1, keys(&entry));
    assert_eq!(described::<BrokenReason>().1, keys(&entry["broken"][0]));
    assert_eq!(described::<BrokenReason>().1, keys(&entry["warnings"][0]));
    assert_eq!(described::<ScriptOutput>().1, keys(&entry["outputs"][0]));
    let version = agent_fleet::controller::ScriptVersion {
        sha256: String::new(),
        count: 1,
        nodes: vec!["n".to_owned()],
    };
    assert_eq!(described::<ScriptVersion>().1, keys(&serde_json::to_value(version).unwrap()));
    let status = serde_json::to_value(task_runners::ScriptsStatus::default()).unwrap();
    assert_eq!(described::<Verification>().1, keys(&status));
}
