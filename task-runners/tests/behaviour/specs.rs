//! Task specs from JSON: what is right is read back as it was, what is wrong is named all at once.

use proptest::prelude::*;
use serde_json::{Value, json};
use task_runners::TaskSpec;

#[test]
fn every_mistake_of_a_spec_is_named_at_once() {
    let problems = TaskSpec::from_json(json!({
        "name": "../etc/passwd",
        "id": "a/b",
        "args": ["right", 5, "nul\u{0}"],
        "env": {"LD_PRELOAD": "x", "A=B": "x", "COUNT": 3},
        "work_dir": "..",
        "timeout": "10",
        "debug_script": "yes",
        "labels": [],
        "on_busy": "perhaps",
        "stdin": {},
        "target": {"node": "../db-1"},
        "retries": -3,
        "cpu": 4,
    }))
    .unwrap_err();
    insta::assert_json_snapshot!(problems);
}

#[test]
fn a_body_that_is_no_object_is_one_problem() {
    for body in [json!(null), json!([]), json!("x"), json!(1)] {
        let problems = TaskSpec::from_json(body).unwrap_err();
        assert_eq!((problems.len(), problems[0].field.as_str()), (1, "body"));
    }
}

#[test]
fn a_whole_spec_is_read_and_written_back_the_same() {
    let text = json!({
        "name": "deploy/web.sh", "id": "d-1", "params": {"env": "prod"}, "args": ["a b", ""], "env": {"A": "1"},
        "work_dir": "web", "timeout": "10m", "debug_script": true, "labels": {"team": "web"},
        "on_behalf_of": "someone", "stdin": "in", "on_busy": "refuse", "retries": 0,
        "confirm": "deploy/web.sh"
    });
    let spec = TaskSpec::from_json(text).unwrap();
    let written = serde_json::to_value(&spec).unwrap();
    assert_eq!(TaskSpec::from_json(written).unwrap(), spec);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_reading_a_spec_panic(value in any_json()) {
        let _ = TaskSpec::from_json(value);
    }

    #[test]
    fn fields_of_any_type_are_read_or_named(field in "name|id|params|args|env|timeout|stdin|on_busy", value in any_json()) {
        let mut spec = json!({"name": "a.sh"});
        spec[&field] = value;
        if let Err(problems) = TaskSpec::from_json(spec) {
            prop_assert!(problems.iter().all(|problem| problem.field.starts_with(&field)), "{:?}", problems);
        }
    }
}
