//! What a run tells and leaves behind: the summary, the record, and the task as JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Site, write};

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A summary without its times.
fn timeless(site: &Site, text: &str) -> String {
    let plain = site.plain(text);
    let lines = plain.lines().map(|line| match line.split_once(" after ") {
        Some((before, _)) => format!("{before} after [time]\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_summary_names_outcome_output_parameters_and_record() {
    let site = Site::with_settings("[script_executor]\nmax_log_bytes = \"1KiB\"\n");
    let text = "#!/bin/sh\nprintf 'TAG=v1\\nTEXT<<END\\ntwo\\nlines \\033[31m\\nEND\\n' >>\"$TASK_OUTPUT\"
setsid sleep 600 >/dev/null 2>&1 &
head -c 5000 /dev/zero
exit 4
";
    site.script("deploy/web.sh", text);
    let ended = site.ended(["run", "deploy/web.sh"]);
    assert_snapshot!(timeless(&site, &ended.stderr));
    let named = ended.stderr.rsplit("record ").next().unwrap().trim();
    let result = json(PathBuf::from(named).join("result.json"));
    assert_eq!(result["exit_code"], 4);
    assert_eq!(result["output_params"]["TAG"], "v1");
}

#[test]
fn bad_output_parameters_are_reported_and_do_not_change_the_exit_code() {
    let site = Site::new();
    site.script("bad.sh", "#!/bin/sh\necho 'not a pair' >\"$TASK_OUTPUT\"\n");
    let ended = site.ended(["run", "bad.sh"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("no output parameters: "), "{}", ended.stderr);
}

#[test]
fn the_record_holds_what_was_asked_the_log_and_the_result() {
    let site = Site::new();
    site.script("hello.sh", "#!/bin/sh\necho hello \"$1\"\n");
    site.ended(["run", "--env", "DEPLOY=x", "--timeout", "90s", "--work-dir", "web", "hello.sh", "you"]);
    let [record] = site.records().try_into().unwrap();
    assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o700);
    let task = json(record.join("task.json"));
    assert_eq!((&task["name"], &task["args"][0]), (&"hello.sh".into(), &"you".into()));
    assert_eq!(task["spec"]["args"], task["args"]);
    assert_eq!(task["spec"]["env"]["DEPLOY"], "x");
    assert_eq!(task["spec"]["timeout"], "1m 30s");
    assert_eq!(task["spec"]["work_dir"], "web");
    let log = fs::read_to_string(record.join("stdout.txt")).unwrap();
    assert!(log.contains("=== Execution Started ===") && log.contains("\nhello you\n"), "{log}");
    assert_eq!(json(record.join("result.json"))["success"], true);
}

#[test]
fn json_is_the_task_with_its_result_and_its_record() {
    let site = Site::new();
    site.script("hello.sh", "#!/bin/sh\necho hello\necho KEY=value >>\"$TASK_OUTPUT\"\nexit 3\n");
    let ended = site.ended(["run", "--json", "hello.sh", "a b"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""));
    let task = ended.json();
    assert_eq!((&task["name"], &task["status"]), (&"hello.sh".into(), &"failed".into()));
    assert_eq!(task["spec"]["args"], serde_json::json!(["a b"]));
    let record = PathBuf::from(task["record"].as_str().unwrap());
    assert_eq!(record.file_name().unwrap().to_str(), task["id"].as_str());
    assert_eq!(json(record.join("result.json")), task["result"]);
    assert_eq!(json(record.join("task.json"))["created_at"], task["created_at"]);
    assert_eq!(task["result"]["output_params"]["KEY"], "value");
    assert_eq!(task["log_bytes"], task["result"]["log"]["bytes"]);
    let names: Vec<&str> = task.as_object().unwrap().keys().map(String::as_str).collect();
    assert_snapshot!(names.join(" "), @"id name spec status node attempt attempts created_by created_at started_at ended_at log_bytes unreachable_since result late_result record");
}

#[test]
fn a_record_that_cannot_be_made_starts_nothing() {
    let site = Site::new();
    site.script("marks.sh", "#!/bin/sh\necho ran >../../../mark\n");
    // A file stands where the folder of records should be.
    write(&site.path("state/tasks"), "", 0o644);
    let ended = site.ended(["run", "marks.sh"]);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("make the state folder"), "{}", ended.stderr);
    assert!(!site.path("mark").exists());
    fs::remove_file(site.path("state/tasks")).unwrap();
    assert_eq!(site.ended(["run", "marks.sh"]).code, Some(0));
    assert!(site.path("mark").exists());
}
