//! Scripts that describe themselves, as the runner runs them: what is right reaches the script as given, what is wrong
//! starts nothing, and lists say what there is.

use std::collections::BTreeMap;
use std::time::Duration;

use executor_integrity::VerificationMode;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use task_runners::{Lane, Problem, Refusal, ScriptRunner, StartError, TaskRunner, TaskSpec};

use crate::place::{Place, body, order};
use crate::probe;
use crate::validation::right_params;

/// Prints its arguments and declared variables, each with a null byte behind it.
const PROBE_BODY: &str = "printf '%s\\0' \"$@\"; printf 'ENV\\0'; env -0 | grep -z ^usage_ || :\n";

fn spec(value: Value) -> TaskSpec {
    TaskSpec::from_json(value).unwrap()
}

fn place(header: &str, body: &str) -> (Place, ScriptRunner) {
    let place = Place::new();
    place.script("probe.sh", &format!("#!/bin/sh\n{header}\n{body}"));
    let runner = place.runner(VerificationMode::Auto);
    (place, runner)
}

/// Runs a spec and gives the arguments and `usage_` variables that the script found.
async fn found(runner: &ScriptRunner, spec: TaskSpec) -> (Vec<String>, BTreeMap<String, String>) {
    let execution = runner.start(order(runner, spec)).await.unwrap();
    let result = execution.wait().await;
    assert!(result.success, "{result:?}");
    let output = body(execution.log_path(), &result.log);
    let (args, env) = output.split_once("ENV\0").unwrap();
    let split = |text: &str| text.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>();
    let env = split(env).into_iter().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    (split(args), env.collect())
}

fn problems(runner: &ScriptRunner, value: Value) -> Vec<(String, String)> {
    match runner.check(&spec(value)) {
        Err(Refusal::Invalid(problems)) => problems.into_iter().map(|p| (p.field, p.rule)).collect(),
        other => panic!("it was not found invalid: {other:?}"),
    }
}

#[test]
fn every_value_that_is_right_reaches_the_script_through_arguments_and_environment() {
    let (_place, runner) = place(probe::HEADER, PROBE_BODY);
    let description = probe::description();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cases = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let outcome = cases.run(&right_params(&description), |params| {
        let bound = probe::bind(&description, &params, &[]).unwrap();
        let text = |value: &std::ffi::OsString| value.to_str().unwrap().to_owned();
        let expected_args: Vec<String> = bound.args.iter().map(text).collect();
        let expected_env: BTreeMap<String, String> =
            bound.env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let by_params = TaskSpec { params, ..TaskSpec::new("probe.sh") };
        assert_eq!(runtime.block_on(found(&runner, by_params)), (expected_args.clone(), expected_env));

        let by_args = TaskSpec { args: expected_args.clone(), ..TaskSpec::new("probe.sh") };
        assert_eq!(runtime.block_on(found(&runner, by_args)).0, expected_args);
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn several_values_in_a_variable_are_read_back_by_a_shell() {
    let script = "eval \"set -- $usage_hosts\"; printf '%s\\0' \"$@\"; printf 'ENV\\0'";
    let (_place, runner) = place("#USAGE arg \"[hosts]…\"", script);
    let hosts =
        ["a b", "", "it's", "$(id)", "`id`", "*", "~", "{a,b}", "a\nb", "\\", "\"", "#x", "!!", "a=b"];
    let found = found(&runner, spec(json!({"name": "probe.sh", "params": {"hosts": hosts}}))).await;
    assert_eq!(found.0, hosts);
}

#[test]
fn the_plan_of_a_script_holds_its_lane_and_its_retries_and_a_caller_may_ask_for_fewer() {
    let header = "#TASK effect=\"read\" concurrency=2 queue=5 retries=3 retry_delay=\"1s\"";
    let (_place, runner) = place(header, "exit 0\n");
    let plan = |retries: Value| {
        runner
            .check(&spec(json!({"name": "probe.sh", "retries": retries})))
            .map(|plan| (plan.lane, plan.retry))
    };
    let (lane, retry) = plan(Value::Null).unwrap();
    assert_eq!(lane, Some(Lane { name: "probe.sh".to_owned(), concurrency: 2, queue: Some(5) }));
    assert_eq!((retry.retries, retry.delay), (3, Duration::from_secs(1)));
    assert_eq!(plan(json!(0)).unwrap().1.retries, 0);
    assert_eq!(plan(json!(3)).unwrap().1.retries, 3);
    let Err(Refusal::Invalid(problems)) = plan(json!(4)) else { panic!("it is more than declared") };
    let expected = "at most 3, which the script declares by `#TASK retries=3`";
    assert_eq!(problems, [Problem::new("retries", "maximum", expected)]);
    // By the runner's name it is the same script, and so the same lane.
    let by_runner = runner.check(&spec(json!({"name": "script", "params": {"script": "probe.sh"}}))).unwrap();
    assert_eq!(by_runner.lane, lane);
}

#[test]
fn who_declares_no_retries_gets_none_and_who_declares_nothing_up_to_ten() {
    let of = |header: &str, retries: u32| {
        let (_place, runner) = place(header, "exit 0\n");
        match runner.check(&spec(json!({"name": "probe.sh", "retries": retries}))) {
            Ok(plan) => Ok(plan.retry.retries),
            Err(Refusal::Invalid(problems)) => {
                Err(problems.into_iter().map(|p| p.expected).collect::<String>())
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(of("", 10), Ok(10));
    assert_eq!(of("", 11), Err("at most 10, where no script's header declares more".to_owned()));
    let none = "0 or left out: the script declares no retries by `#TASK retries=N`";
    assert_eq!(of("#TASK effect=\"read\"", 1), Err(none.to_owned()));
    assert_eq!(of("#TASK effect=\"read\"", 0), Ok(0));
}

#[test]
fn sixty_bad_inputs_start_nothing_and_are_told_in_the_words_of_the_validator() {
    let (_place, runner) = place(probe::HEADER, PROBE_BODY);
    for (params, args) in probe::bad_inputs() {
        let expected = probe::bind(&probe::description(), &params, &args).unwrap_err();
        let spec = TaskSpec { params, ..TaskSpec::new("probe.sh") };
        assert_eq!(runner.request(&spec, args).unwrap_err(), Refusal::Invalid(expected));
    }
}

#[tokio::test]
async fn undescribed_scripts_take_any_arguments_and_no_parameters() {
    let (_place, runner) = place("", PROBE_BODY);
    let (args, env) = found(&runner, spec(json!({"name": "probe.sh", "args": ["--x", "--", ""]}))).await;
    assert_eq!(args, ["--x", "--", ""]);
    assert_eq!(env, BTreeMap::new());
    let undeclared = problems(&runner, json!({"name": "probe.sh", "params": {"x": 1}}));
    assert_eq!(undeclared, [("params.x".to_owned(), "undeclared".to_owned())]);
}

#[test]
fn what_cannot_be_undone_needs_the_scripts_name_again() {
    let header = "#USAGE flag \"--apply\" effect=\"destructive\"\n#TASK effect=\"read\"";
    let (_place, runner) = place(header, "");
    let confirm = [("confirm".to_owned(), "confirm".to_owned())];
    runner.check(&spec(json!({"name": "probe.sh"}))).unwrap();
    assert_eq!(problems(&runner, json!({"name": "probe.sh", "params": {"apply": true}})), confirm);
    assert_eq!(
        problems(&runner, json!({"name": "probe.sh", "args": ["--apply"], "confirm": "yes"})),
        confirm
    );
    let by_runner =
        json!({"name": "script", "params": {"script": "probe.sh", "apply": true}, "confirm": "script"});
    assert_eq!(problems(&runner, by_runner), confirm);
    let confirmed = json!({"name": "probe.sh", "params": {"apply": true}, "confirm": "probe.sh"});
    runner.check(&spec(confirmed)).unwrap();
}

#[tokio::test]
async fn the_headers_time_limit_is_default_and_ceiling() {
    let (_place, runner) = place("#TASK timeout=\"48h\" grace=\"3s\"", "echo $TASK_TIMEOUT_S");
    let refused = problems(&runner, json!({"name": "probe.sh", "timeout": "49h"}));
    assert_eq!(refused, [("timeout".to_owned(), "maximum".to_owned())]);
    for (asked, expected) in [(json!(null), "172800\n"), (json!("47h"), "169200\n"), (json!("1m"), "60\n")] {
        let order = order(&runner, spec(json!({"name": "probe.sh", "timeout": asked})));
        let execution = runner.start(order).await.unwrap();
        let result = execution.wait().await;
        assert_eq!(body(execution.log_path(), &result.log), expected);
    }
    let (request, _) = runner.request(&TaskSpec::new("probe.sh"), Vec::new()).unwrap();
    assert_eq!(runner.executor().preview(&request).unwrap().kill_grace, Duration::from_secs(3));
}

#[tokio::test]
async fn a_task_is_checked_again_at_its_start_against_what_the_script_says_then() {
    let (place, runner) = place("#USAGE flag \"--old\"", "");
    let waiting = order(&runner, spec(json!({"name": "probe.sh", "args": ["--old"]})));
    place.script("probe.sh", "#!/bin/sh\n#USAGE flag \"--new\"\n");
    let Err(StartError::Invalid(problems)) = runner.start(waiting.clone()).await else {
        panic!("it started")
    };
    assert_eq!((problems[0].field.as_str(), problems[0].rule.as_str()), ("args[0]", "unexpected_argument"));
    place.script("probe.sh", "#!/bin/sh\n#TASK run_as=\"root\"\n");
    let Err(error) = runner.start(waiting).await else { panic!("it started") };
    assert_eq!(error.code(), "script_header");
}

#[tokio::test]
async fn a_verified_task_keeps_the_description_that_it_was_accepted_with() {
    let (place, _) = place("#USAGE flag \"--old\"", PROBE_BODY);
    place.manifest();
    let runner = place.runner(VerificationMode::Auto);
    let waiting = order(&runner, spec(json!({"name": "probe.sh", "params": {"old": true}})));
    place.script("probe.sh", "#!/bin/sh\n#USAGE flag \"--new\"\n");
    place.manifest();
    assert!(runner.check(&waiting.spec).is_err());
    let result = runner.start(waiting).await.unwrap().wait().await;
    assert!(result.success);
}

#[test]
fn lists_carry_what_scripts_say_and_why_others_are_broken() {
    let (place, _) = place(probe::HEADER, "");
    place.script("plain.sh", "#!/bin/sh\n");
    place.script("hidden.sh", "#!/bin/sh\n#TASK hidden=#true effect=\"read\"\n");
    place.script(
        "full.sh",
        "#!/bin/sh\n#TASK description=\"All of it\" group=\"g\" effect=\"read\" tag=\"t\" output.X=\"An x\"\n# USAGE arg \"<x>\"\n",
    );
    place.script("broken.sh", "#!/bin/sh\n#USAGE mount run=\"id\"\n\n#TASK run_as=\"root\"\n");
    for manifest in [false, true] {
        if manifest {
            place.manifest();
        }
        let scripts = place.scripts(VerificationMode::Auto);
        let mut entries = serde_json::to_value(scripts.list().unwrap()).unwrap();
        for entry in entries.as_array_mut().unwrap() {
            let entry = entry.as_object_mut().unwrap();
            entry.shift_remove("sha256");
            assert_eq!(entry.shift_remove("verified").unwrap(), manifest);
        }
        insta::assert_json_snapshot!("the_list", entries);
        // Hidden is not secret.
        assert!(scripts.get(&"hidden.sh".parse().unwrap()).unwrap().unwrap().described);
    }
}

#[test]
fn broken_scripts_are_refused_with_lines_and_reasons() {
    let (_place, runner) = place("#USAGE mount run=\"id\"\n#TASK run_as=\"root\"", "");
    let Err(Refusal::Broken { name, code, message }) = runner.check(&TaskSpec::new("probe.sh")) else {
        panic!("it was not found broken")
    };
    assert_eq!((name.as_str(), code.as_str()), ("probe.sh", "script_header"));
    assert!(message.contains("line 2: `mount`") && message.contains("line 3: `run_as`"), "{message}");
}

#[tokio::test]
async fn declared_outputs_are_there_and_of_their_type_or_the_result_says_so() {
    let header = "#USAGE arg \"<lines>\"\n#USAGE arg \"[code]\"\n#TASK effect=\"read\" output.TEXT=\"t\" output.COUNT=\"c\"\n\
        #TASK output.FOR=\"f\" output_type.COUNT=\"int\" output_type.FOR=\"duration\"";
    let (_place, runner) = place(header, "printf \"$1\" > \"$TASK_OUTPUT\"; exit ${2-0}\n");
    let all = ["COUNT", "FOR", "TEXT"].as_slice();
    for (args, kept, error) in [
        (vec!["TEXT=\\nCOUNT=5\\nFOR=10m\\n"], all, None),
        (vec!["TEXT=\\nCOUNT=5\\nFOR=10m\\nMORE=x\\n"], &["COUNT", "FOR", "MORE", "TEXT"], None),
        (vec!["TEXT=x\\n"], &["TEXT"], Some("COUNT is missing, which the script declares; FOR is missing")),
        (vec!["TEXT=x\\n", "3"], &["TEXT"], None),
        (vec!["TEXT=x\\nCOUNT=hunter2\\n", "3"], &[], Some("COUNT is not a whole number")),
        (vec!["TEXT=x\\nCOUNT=\\nFOR=5\\n"], &[], Some("COUNT is not a whole number")),
        (vec!["TEXT\\n"], &[], Some("line 1")),
    ] {
        let spec = spec(json!({"name": "probe.sh", "args": args}));
        let result = runner.start(order(&runner, spec)).await.unwrap().wait().await;
        assert_eq!(result.output_params.keys().collect::<Vec<_>>(), *kept, "{args:?}");
        match (result.output_error.as_deref(), error) {
            (None, None) => {}
            (Some(told), Some(error)) => {
                assert!(told.contains(error) && !told.contains("hunter2"), "{args:?}: {told}");
            }
            other => panic!("{args:?}: {other:?}"),
        }
        assert_eq!(result.success, args.len() == 1, "what the exit code says stands");
    }
}

#[tokio::test]
async fn a_secret_comes_as_a_file_and_neither_as_argument_nor_as_variable() {
    let header = "#USAGE arg \"[hosts]…\"\n#USAGE flag \"--token <t>\"\n#USAGE flag \"--env <e>\" default=\"x\"\n\
        #TASK effect=\"read\" secret=\"token\" type.token=\"int\"";
    let (_place, runner) = place(header, PROBE_BODY);
    for (given, args) in [
        (json!({"params": {"token": 47_110_815}}), vec![""]),
        (json!({"params": {"token": "47110815"}, "args": ["a", "--env", "y"]}), vec!["a", "--env", "y"]),
        (json!({"params": {"token": 47_110_815, "env": "z", "hosts": ["b"]}}), vec!["--env", "z", "b"]),
        (json!({"params": {"token": 47_110_815, "env": "z"}, "secrets": ["token"]}), vec!["--env", "z"]),
    ] {
        let mut given = given;
        given["name"] = "probe.sh".into();
        let (found, env) = found(&runner, spec(given)).await;
        assert_eq!(found, args);
        assert!(env["usage_token_file"].ends_with("/usage_token_file"), "{env:?}");
        assert!(!env.contains_key("usage_token") && !format!("{env:?}").contains("4711"), "{env:?}");
    }
    let entry = runner.scripts().get(&"probe.sh".parse().unwrap()).unwrap().unwrap();
    let schema = task_runners::schema::parameters(&entry.declared.unwrap());
    assert_eq!(schema["properties"]["token"]["writeOnly"], true);
    assert!(schema["properties"]["env"]["writeOnly"].is_null());
}
