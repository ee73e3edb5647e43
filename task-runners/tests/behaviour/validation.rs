//! Parameters and arguments of described scripts: what is right is bound, what is wrong is named all at once.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use task_runners::Problem;
use task_runners::description::{Effect, Form, ScriptDescription, ValueType};
use task_runners::validate::Bound;

use crate::probe::{bad_inputs, bind, described, description};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn params(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn args(bound: &Bound) -> Vec<&str> {
    bound.args.iter().map(|arg| arg.to_str().unwrap()).collect()
}

fn env(bound: &Bound) -> BTreeMap<String, String> {
    bound.env.iter().map(|(name, value)| (name.clone(), value.to_str().unwrap().to_owned())).collect()
}

#[test]
fn every_mistake_is_named_in_the_same_words_and_no_value_is_repeated() {
    let description = description();
    let mut told = String::new();
    let inputs = bad_inputs();
    assert!(inputs.len() >= 60, "{}", inputs.len());
    for (params, args) in inputs {
        let problems = bind(&description, &params, &args).unwrap_err();
        let mut shown = serde_json::to_string(&params).unwrap();
        shown.truncate(120);
        told.push_str(&format!("{shown} {args:?}\n"));
        for problem in problems {
            told.push_str(&format!("    {problem}\n"));
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn values_from_parameters_and_from_arguments_are_bound_alike() {
    let description = description();
    let given = json!({
        "service": "web", "hosts": ["a b", "-x"], "env": "prod", "replicas": 3, "ratio": "1.0", "wait": "5s",
        "tag": "a-1", "label": ["it's", "-y"], "verbose": 2, "force": true, "color": false, "only": "-z"
    });
    let by_params = bind(&description, &params(&given), &[]).unwrap();
    assert_eq!(
        args(&by_params),
        [
            "--env",
            "prod",
            "--replicas",
            "3",
            "--ratio",
            "1.0",
            "--wait",
            "5s",
            "--tag",
            "a-1",
            "--label",
            "it's",
            "--label=-y",
            "--verbose",
            "--verbose",
            "--force",
            "--no-color",
            "--only=-z",
            "web",
            "a b",
            "--",
            "-x"
        ]
    );
    let by_args = bind(&description, &Map::new(), &by_params.args).unwrap();
    assert_eq!(by_args, by_params);
    insta::assert_debug_snapshot!(env(&by_args));

    let other = ["web", "-vfeprod", "-n=7", "--tag=a-1", "--no-color", "--color", "-l", "a", "-lb"];
    let other = bind(&description, &Map::new(), &words(&other)).unwrap();
    let env = env(&other);
    let told = ["verbose", "force", "env", "replicas", "color", "label"]
        .map(|name| &env[&format!("usage_{name}")][..]);
    assert_eq!(told, ["1", "true", "prod", "7", "true", "a b"]);
}

#[test]
fn what_is_not_given_is_unset_or_its_default_and_stands_in_no_argument() {
    let bound =
        bind(&description(), &params(&json!({"service": "api", "tag": "a-1", "hosts": []})), &[]).unwrap();
    assert_eq!(args(&bound), ["--tag", "a-1", "api"]);
    let expected =
        [("color", "true"), ("env", "staging"), ("replicas", "2"), ("service", "api"), ("tag", "a-1")];
    let expected = expected.map(|(name, value)| (format!("usage_{name}"), value.to_owned()));
    assert_eq!(env(&bound), BTreeMap::from(expected));
}

#[test]
fn a_later_place_needs_the_earlier_ones_or_their_defaults() {
    let description = described("#USAGE arg \"[a]\" default=\"x\"\n#USAGE arg \"[b]\"\n#USAGE arg \"[c]\"");
    let problems = bind(&description, &params(&json!({"c": "3"})), &[]).unwrap_err();
    assert_eq!((problems[0].field.as_str(), problems[0].rule.as_str()), ("params.c", "requires"));
    let bound = bind(&description, &params(&json!({"b": "2"})), &[]).unwrap();
    assert_eq!(args(&bound), ["x", "2"]);
}

#[test]
fn what_stands_behind_a_double_dash_is_put_there_and_found_there() {
    let description = described("#USAGE arg \"[a]\"\n#USAGE arg \"[-- rest]…\"");
    let bound = bind(&description, &params(&json!({"rest": ["x", "--"]})), &[]).unwrap();
    assert_eq!(args(&bound), ["--", "x", "--"]);
    assert_eq!(bind(&description, &Map::new(), &bound.args).unwrap().env, bound.env);
    let problems = bind(&description, &Map::new(), &words(&["a", "b"])).unwrap_err();
    assert_eq!((problems[0].field.as_str(), problems[0].rule.as_str()), ("params.rest", "double_dash"));
    let problems = bind(&description, &params(&json!({"a": "-x", "rest": "y"})), &[]).unwrap_err();
    assert_eq!((problems[0].field.as_str(), problems[0].rule.as_str()), ("params.a", "double_dash"));
}

#[test]
fn unknown_flags_are_values_where_the_script_says_so() {
    let lines = "#USAGE unknown_flags \"value\"\n#USAGE arg \"[args]…\"\n#USAGE flag \"-v\"";
    let bound = bind(&described(lines), &Map::new(), &words(&["-v", "--x=1", "-vz", "y"])).unwrap();
    assert_eq!(env(&bound)["usage_args"], "'--x=1' -vz y");
    assert_eq!(env(&bound)["usage_v"], "true");
}

#[test]
fn the_effect_is_the_most_of_script_and_given_parameters() {
    let description = described("#USAGE flag \"--apply\" effect=\"destructive\"\n#TASK effect=\"read\"");
    let effect = |value| bind(&description, &params(&value), &[]).unwrap().effect;
    assert_eq!(effect(json!({})), Some(Effect::Read));
    assert_eq!(effect(json!({"apply": false})), Some(Effect::Read));
    assert_eq!(effect(json!({"apply": true})), Some(Effect::Destructive));
}

/// A value that a parameter of this type takes.
fn value_of(value_type: ValueType) -> BoxedStrategy<String> {
    match value_type {
        ValueType::String => "[^\0]{0,12}".boxed(),
        ValueType::Path => "[^\0]{1,12}".boxed(),
        ValueType::Int => (1i64..=20).prop_map(|value| value.to_string()).boxed(),
        ValueType::Number => (0.5f64..1.5).prop_map(|value| value.to_string()).boxed(),
        ValueType::Bool => any::<bool>().prop_map(|value| value.to_string()).boxed(),
        ValueType::Duration => "[1-9][0-9]{0,3}(ms|s|m)".boxed(),
    }
}

#[test]
fn what_goes_with_what_is_said_with_its_rule() {
    let description = described(RELATED);
    let mut told = String::new();
    for given in [
        json!({}),
        json!({"from": "a", "key": "k"}),
        json!({"from": "a", "stdin": true, "to": "b"}),
        json!({"from": "a", "stdin": false, "color": false, "mode": "m"}),
        json!({"stdin": true, "q": 0, "mode": "m"}),
        json!({"q": 1, "mode": "m"}),
        json!({"from": "a", "to": "b", "by": 5}),
    ] {
        told.push_str(&format!("{given}\n"));
        for problem in bind(&description, &params(&given), &[]).err().unwrap_or_default() {
            told.push_str(&format!("    {problem} ({})\n", problem.rule));
        }
    }
    insta::assert_snapshot!(told);
    insta::assert_snapshot!(
        "relations_in_the_schema",
        serde_json::to_string_pretty(&task_runners::schema::parameters(&description)["allOf"]).unwrap()
    );
}

/// Parameters for the probe, of which every value is right.
pub(crate) fn right_params(description: &ScriptDescription) -> BoxedStrategy<Map<String, Value>> {
    let one = description.parameters.iter().map(|parameter| {
        let value = match &parameter.form {
            Form::Switch { .. } => any::<bool>().prop_map(Value::from).boxed(),
            Form::Count(_) => (0u8..=3).prop_map(Value::from).boxed(),
            _ if !parameter.choices.is_empty() => {
                let choices = parameter.choices.iter().map(|choice| Value::from(choice.value.clone()));
                prop::sample::select(choices.collect::<Vec<_>>()).boxed()
            }
            _ if parameter.rules.pattern.is_some() => "[a-z]{1,4}-[0-9]{1,3}".prop_map(Value::from).boxed(),
            _ if parameter.repeat.is_some() => {
                prop::collection::vec(value_of(parameter.value_type), 2..=3).prop_map(Value::from).boxed()
            }
            _ => value_of(parameter.value_type).prop_map(Value::from).boxed(),
        };
        let name = parameter.name.clone();
        let value =
            if parameter.required { value.prop_map(Some).boxed() } else { prop::option::of(value).boxed() };
        value.prop_map(move |value| value.map(|value| (name.clone(), value)))
    });
    let values: Vec<_> = one.collect();
    values.prop_map(|values| values.into_iter().flatten().collect()).boxed()
}

/// What `usage` itself makes of these words; none where it refuses them.
fn oracle(lines: &str, args: &[String]) -> Option<BTreeMap<String, String>> {
    let text: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("#USAGE ")).collect();
    let spec: usage::Spec = text.join("\n").parse().unwrap();
    let input: Vec<String> = std::iter::once("probe".to_owned()).chain(args.iter().cloned()).collect();
    let parser = usage::Parser::new(&spec).with_env(HashMap::new()).without_running_commands();
    Some(parser.parse(&input).ok()?.as_env())
}

/// Without types and rules, of which `usage` knows nothing. Where unknown flags are mistakes, `usage` takes the value
/// in `-ex` for one, so they are values here.
const PLAIN: &str = r#"#USAGE unknown_flags "value"
#USAGE arg "<a>"
#USAGE arg "[b]" { choices "x" "5" }
#USAGE arg "[c]…"
#USAGE flag "-e --env <env>" default="x"
#USAGE flag "-t --tag <tag>" var=#true
#USAGE flag "-v --verbose" count=#true
#USAGE flag "-f --force" negate="--no-force"
#USAGE flag "--only <x>" require_equals=#true
#USAGE flag "--any <x>" allow_hyphen_values=#true
"#;

/// Parameters of every form that have to do with each other, in both notations.
const RELATED: &str = r#"#USAGE arg "[from]" conflicts="--stdin" requires="--key"
#USAGE arg "[to]"
#USAGE flag "-s --stdin" { conflicts "to" "-q" }
#USAGE flag "-k --key <key>" default="x"
#USAGE flag "-q" count=#true { requires "--out" "from" }
#USAGE flag "--out <file>" required_if="--stdin"
#USAGE flag "--mode <mode>" required_unless="from" { alias "-m" }
#USAGE flag "--color" negate="--no-color" conflicts="-m"
#USAGE flag "--by <who>" { required_if "--color" "to" }
#USAGE flag "--any <x>" { required_unless "--by" "--mode" }
"#;

fn related_words() -> impl Strategy<Value = Vec<String>> {
    let words = "x y -s --stdin -k=x --key=y -q -qq --out=x --mode=x -mx --color --no-color --by=x --any=x";
    let word = prop::sample::select(words.split(' ').collect::<Vec<_>>());
    prop::collection::vec(word.prop_map(str::to_owned), 0..7)
}

fn any_words() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec![
        "x",
        "5",
        "y",
        "",
        "-",
        "--",
        "--env",
        "--env=",
        "--env=-v",
        "-e",
        "-ex",
        "-e=x",
        "-vex",
        "--tag",
        "-tx",
        "-t=-x",
        "-v",
        "-vv",
        "-vf",
        "-f",
        "--force",
        "--no-force",
        "--only",
        "--only=x",
        "--any",
        "--any=-f",
        "--nobody",
        "-z",
        "-vz",
    ]);
    prop::collection::vec(word.prop_map(str::to_owned), 0..7)
}

proptest! {
    #[test]
    fn right_parameters_are_bound_to_arguments_that_mean_the_same(given in right_params(&description())) {
        let description = description();
        let by_params = bind(&description, &given, &[]).unwrap();
        let by_args = bind(&description, &Map::new(), &by_params.args).unwrap();
        // A flag that is off without a spelling for it, and a count of none, stand in no argument.
        let means_something = |(name, value): &(String, String)| {
            !(name == "usage_force" && value == "false" || name == "usage_verbose" && value == "0")
        };
        let expected: BTreeMap<_, _> = env(&by_params).into_iter().filter(means_something).collect();
        prop_assert_eq!(env(&by_args), expected);
    }

    #[test]
    fn arguments_are_read_as_usage_reads_them(words in any_words()) {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        static DESCRIPTION: LazyLock<Arc<ScriptDescription>> = LazyLock::new(|| described(PLAIN));
        let ours = bind(&DESCRIPTION, &Map::new(), &args);
        // Stricter than `usage`, which lets the last of two values win, and finds a flag's value behind other words.
        let is_stricter = |problems: &Vec<Problem>| {
            problems.iter().any(|problem| matches!(problem.rule.as_str(), "duplicate" | "missing_value"))
        };
        if ours.as_ref().is_err_and(is_stricter) {
            return Ok(());
        }
        let ours = ours.ok().map(|bound| env(&bound));
        prop_assert_eq!(ours, oracle(PLAIN, &words), "{:?}", words);
    }

    #[test]
    fn relations_are_read_as_usage_reads_them(words in related_words()) {
        static DESCRIPTION: LazyLock<Arc<ScriptDescription>> = LazyLock::new(|| described(RELATED));
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        let ours = bind(&DESCRIPTION, &Map::new(), &args);
        let is_stricter = |problems: &Vec<Problem>| problems.iter().any(|problem| problem.rule == "duplicate");
        if ours.as_ref().is_err_and(is_stricter) {
            return Ok(());
        }
        let ours = ours.ok().map(|bound| env(&bound));
        prop_assert_eq!(ours, oracle(RELATED, &words), "{:?}", words);
    }

    #[test]
    fn no_input_makes_the_validator_panic(
        words in prop::collection::vec(".*", 0..5),
        given in prop::collection::btree_map("service|tag|hosts|label|verbose|force", ".*", 0..4),
    ) {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        let given = given.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let _ = bind(&description(), &given, &args);
    }
}

#[test]
fn a_counted_flag_is_given_a_hundred_times_at_most_whatever_its_script_declares() {
    let description = described("#USAGE flag \"-v\" count=#true var_max=1000000000");
    let given = |count: u64| bind(&description, &params(&json!({ "v": count })), &[]);
    assert_eq!(given(100).unwrap().args.len(), 100);
    // It would be as many texts before anybody could say that they are too many.
    let problems = given(1_000_000_000).unwrap_err();
    assert_eq!((problems.len(), problems[0].rule.as_str()), (1, "maximum"));
}
