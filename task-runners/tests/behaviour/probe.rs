//! A script that declares a parameter of every form, and what is wrong to give it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};
use task_runners::ScriptDescription;
use task_runners::validate::{self, Bound};
use task_runners::{Problem, Secrets, header};

/// Its header.
pub(crate) const HEADER: &str = r##"#USAGE arg "<service>" help="Service" { choices "web" "api" }
#USAGE arg "[hosts]…" var_max=3
#USAGE flag "-e --env <env>" default="staging" { choices "staging" "prod" }
#USAGE flag "-n --replicas <n>" default="2"
#USAGE flag "--ratio <r>"
#USAGE flag "--wait <time>"
#USAGE flag "--log <path>"
#USAGE flag "--enabled <truth>"
#USAGE flag "--tag <tag>" required=#true
#USAGE flag "-l --label <label>" var=#true var_min=2 var_max=3
#USAGE flag "-v --verbose" count=#true var_max=3
#USAGE flag "-f --force"
#USAGE flag "--color" negate="--no-color" default=#true
#USAGE flag "--only <x>" require_equals=#true
#TASK effect="write"
#TASK type.replicas="int" min.replicas=1 max.replicas=20
#TASK type.ratio="number" min.ratio=0.5 max.ratio=1.5
#TASK type.wait="duration" type.log="path" type.enabled="bool"
#TASK pattern.tag="[a-z]+-[0-9]+" min_length.tag=3 max_length.tag=8
"##;

/// Its description.
pub(crate) fn description() -> Arc<ScriptDescription> {
    static DESCRIPTION: LazyLock<Arc<ScriptDescription>> = LazyLock::new(|| described(HEADER));
    DESCRIPTION.clone()
}

/// Binds what holds no secret apart.
pub(crate) fn bind(
    description: &ScriptDescription,
    params: &Map<String, Value>,
    args: &[OsString],
) -> Result<Bound, Vec<Problem>> {
    validate::bind(description, params, &Secrets::default(), args)
}

/// The description of a header that is right.
pub(crate) fn described(header: &str) -> Arc<ScriptDescription> {
    header::read(format!("#!/bin/sh\n{header}\n").as_bytes()).description.unwrap().unwrap()
}

/// Parameters and arguments, each wrong in some way.
pub(crate) fn bad_inputs() -> Vec<(Map<String, Value>, Vec<OsString>)> {
    let params = |value: Value| (value.as_object().unwrap().clone(), Vec::new());
    let mut inputs: Vec<_> = bad_params().into_iter().map(params).collect();
    for words in bad_args() {
        inputs.push((Map::new(), words.iter().map(OsString::from).collect()));
    }
    let bytes = OsString::from_vec(b"\xff".to_vec());
    inputs.push((Map::new(), vec!["web".into(), "--tag".into(), bytes]));
    let both = json!({"tag": "a-1", "service": "web"}).as_object().unwrap().clone();
    inputs.push((both.clone(), vec!["--tag=b-2".into()]));
    inputs.push((both, vec!["api".into()]));
    inputs
}

fn bad_params() -> Vec<Value> {
    // What is right otherwise, with one thing put in.
    let with = |name: &str, value: Value| {
        let mut params = json!({"service": "web", "tag": "a-1"});
        params[name] = value;
        params
    };
    vec![
        json!({}),
        json!({"service": null, "tag": null}),
        json!({"service": "db", "tag": "A", "nobody": 1, "a\nb": 2, "label": ["x"], "replicas": 0.5}),
        with("service", json!("")),
        with("service", json!(1)),
        with("service", json!(["web"])),
        with("hosts", json!(["a", "b", "c", "d"])),
        with("hosts", json!(["a", 1, {}])),
        with("hosts", json!({"a": 1})),
        with("hosts", json!("nul\u{0}")),
        with("env", json!("dev")),
        with("replicas", json!(0)),
        with("replicas", json!("21")),
        with("replicas", json!("007")),
        with("replicas", json!(1.5)),
        with("replicas", json!(true)),
        with("replicas", json!("9223372036854775808")),
        with("ratio", json!(0.25)),
        with("ratio", json!("1.75")),
        with("ratio", json!("NaN")),
        with("ratio", json!([])),
        with("wait", json!("10")),
        with("wait", json!("0s")),
        with("wait", json!(10)),
        with("log", json!("")),
        with("log", json!(false)),
        with("enabled", json!("yes")),
        with("enabled", json!(1)),
        with("tag", json!("")),
        with("tag", json!("abcdefgh-1")),
        with("tag", json!("a-1\n")),
        with("tag", json!(" a-1")),
        with("label", json!(["a", "b", "c", "d"])),
        with("label", json!("a")),
        with("verbose", json!(4)),
        with("verbose", json!(-1)),
        with("verbose", json!("lots")),
        with("verbose", json!([1])),
        with("force", json!("on")),
        with("force", json!(1)),
        with("color", json!("")),
        with("only", json!("x".repeat(128 << 10))),
        with("Service", json!("web")),
        with("usage_service", json!("web")),
    ]
}

fn bad_args() -> Vec<&'static [&'static str]> {
    vec![
        &[],
        &["web"],
        &["db", "--tag", "a-1"],
        &["web", "--tag"],
        &["web", "--tag", "--force"],
        &["web", "--tag", "a-1", "--tag", "a-2"],
        &["web", "--tag=a-1", "--nobody"],
        &["web", "--tag=a-1", "--nobody=1", "-x", "-vx"],
        &["web", "--tag=a-1", "--force=yes", "--force"],
        &["web", "--tag=a-1", "-ff"],
        &["web", "--tag=a-1", "-vvvv"],
        &["web", "--tag=a-1", "--only", "x"],
        &["web", "--tag=a-1", "-n", "x", "-e", "dev", "-lone"],
        &["web", "a", "b", "c", "d", "--tag=a-1"],
        &["web", "--tag=a-1", "--help"],
        &["web", "--tag=a-1", "--replicas", "-x"],
        &["web", "--tag=a-1", "--", "a", "b", "c", "--force"],
        &["", "--tag="],
    ]
}
