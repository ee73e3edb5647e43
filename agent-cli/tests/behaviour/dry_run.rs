//! `run --dry-run`: shows what would run, and neither runs it nor leaves anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::Site;

const SETTINGS: &str = "[script_executor]\npath = \"/usr/bin:/bin\"\nkill_grace = \"7s\"\nmax_log_bytes = \"5MiB\"\n\
    leftovers = \"report\"\n[script_executor.env]\nREGION = \"eu-1\"\n";

/// Leaves a mark, and prints its arguments, folder and environment, each with a null byte behind it.
const MARKS: &str = "#!/bin/sh
echo ran >>../../mark
printf '%s\\0' \"$0\" \"$@\"
printf '\\0%s\\0\\0' \"$(pwd -P)\"
cat /proc/$$/environ
";

/// Every file and folder below, with what is in it.
fn contents(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.display().to_string(), fs::read(&path).ok());
        if path.is_dir() {
            found.extend(contents(&path));
        }
    }
    found
}

#[test]
fn it_executes_nothing_and_leaves_nothing() {
    let site = Site::with_settings(SETTINGS);
    site.script("marks.sh", MARKS);
    assert_eq!(site.ended(["run", "--dry-run", "marks.sh"]).code, Some(0));
    assert!(!site.path("workspace/mark").exists(), "it was executed");
    assert!(site.records().is_empty());
    // The folders are there by now, and a run before has left its record.
    site.ended(["run", "--work-dir", "web", "marks.sh"]);
    assert!(site.path("workspace/mark").exists(), "the run leaves its mark");
    let before = contents(&site.path(""));
    for args in [&["--json"][..], &["--work-dir", "web"], &["--debug-script"]] {
        let ended = site.ended([&["run", "--dry-run"], args, &["marks.sh", "x"]].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert_eq!(contents(&site.path("")), before);
}

#[test]
fn it_shows_everything_that_a_run_would_get() {
    let site = Site::with_settings(SETTINGS);
    site.script("deploy/marks.sh", MARKS);
    let ended = site.ended([
        "run",
        "--dry-run",
        "--timeout",
        "90s",
        "--env",
        "COLOUR=\u{1b}[31m",
        "deploy/marks.sh",
        "two words",
        "\u{1b}]0;x\u{7}",
    ]);
    let shown: Vec<String> =
        ended.text().lines().filter(|line| !line.contains("/dev/shm")).map(str::to_owned).collect();
    let account =
        ["env         HOME=", "env         LOGNAME=", "env         USER=", "env         TASK_CREATED_BY="];
    let shown = shown.into_iter().filter(|line| {
        !account.iter().any(|own| line.starts_with(own))
            && !["kill scope", "env         TMPDIR", "env         TASK_OUTPUT"]
                .iter()
                .any(|own| line.starts_with(own))
    });
    assert_snapshot!(site.plain(&shown.collect::<Vec<_>>().join("\n")));
}

/// Arguments, folder and environment, as the script itself printed them.
fn of_run(stdout: &[u8]) -> (Vec<String>, String, BTreeMap<String, String>) {
    let text = String::from_utf8(stdout.to_vec()).unwrap();
    let mut parts = text.splitn(3, "\0\0");
    let words = parts.next().unwrap().split('\0').map(str::to_owned).collect();
    let folder = parts.next().unwrap().to_owned();
    let pairs = parts.next().unwrap().split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    (words, folder, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn what_it_shows_is_what_a_run_gets() {
    let site = Site::with_settings(SETTINGS);
    site.script("deploy/marks.sh", MARKS);
    let args = ["--timeout", "90s", "--env", "DEPLOY=a b", "deploy/marks.sh", "two words", "--x"];
    let shown = site.ended([&["run", "--dry-run", "--json"], &args[..]].concat()).json();
    let ran = site.ended([&["run"], &args[..]].concat());
    let (words, folder, mut env) = of_run(&ran.stdout);
    assert_eq!(shown["command"], serde_json::json!(words));
    let plain = |text: &str| site.plain(text);
    assert_eq!(plain(shown["work_dir"].as_str().unwrap()), plain(&folder));
    let mut shown_env: BTreeMap<String, String> = serde_json::from_value(shown["env"].clone()).unwrap();
    // Made anew for each execution; where the real one lies is told by the run itself.
    for name in ["TMPDIR", "TASK_OUTPUT"] {
        assert!(env.remove(name).is_some() && shown_env.remove(name).is_some(), "{name}");
    }
    for env in [&mut env, &mut shown_env] {
        env.values_mut().for_each(|value| *value = plain(value));
    }
    assert_eq!(shown_env, env);
    let result: Value =
        serde_json::from_slice(&fs::read(site.records()[0].join("result.json")).unwrap()).unwrap();
    for fact in ["script_sha256", "manifest", "kill_scope"] {
        assert_eq!(shown[fact], result[fact], "{fact}");
    }
    let limits =
        ["timeout_s", "kill_grace_s", "leftovers", "max_log_bytes"].map(|limit| shown[limit].clone());
    assert_eq!(serde_json::json!(limits), serde_json::json!([90.0, 7.0, "report", 5 << 20]));
}

#[test]
fn it_says_whether_the_script_is_verified() {
    let site = Site::new();
    site.script("marks.sh", MARKS);
    assert!(site.ended(["run", "--dry-run", "marks.sh"]).text().contains("\nverified    no\n"));
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    let shown = site.ended(["run", "--dry-run", "--json", "marks.sh"]).json();
    assert_eq!(shown["manifest"], site.task(&["marks.sh"])["result"]["manifest"]);
    assert_eq!(shown["command"], site.task(&["marks.sh"])["result"]["command"]);
}

#[test]
fn what_would_be_refused_is_refused_with_the_same_words_and_codes() {
    let site = Site::new();
    site.script("plain.sh", "echo no first line\n");
    for args in [&["no.sh"][..], &["plain.sh"], &["../x"], &["--timeout", "48h", "plain.sh"]] {
        let run = site.ended([&["run"], args].concat());
        let dry = site.ended([&["run", "--dry-run"], args].concat());
        assert_eq!((run.code, &run.stderr), (dry.code, &dry.stderr), "{args:?}");
        assert!(run.code > Some(124), "{args:?}");
    }
}
