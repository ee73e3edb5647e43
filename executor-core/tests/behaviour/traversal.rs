//! No name that a caller chooses leads out of its folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use executor_core::{ExecuteScriptRequest, StartError};

use crate::bench::Bench;

/// What leads out of a folder somewhere, raw and in the disguises that decoders undo.
const PARTS: [&str; 26] = [
    "..",
    ".",
    "../",
    "./",
    "..\\",
    "...",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f",
    "..%c0%af",
    "%252e%252e",
    "..;",
    "\u{2025}",
    "\u{ff0e}\u{ff0e}",
    "\u{2024}\u{2024}",
    "\u{202e}..",
    "~",
    "~root",
    "$HOME",
    "C:",
    "\\\\host\\share",
    "file://",
    "\0..",
    "..\0",
    "..\n",
    "-",
];
const TARGETS: [&str; 11] = [
    "etc/passwd",
    "decoy",
    "state/decoy",
    "/etc/passwd",
    "//etc/passwd",
    "proc/self/environ",
    "dev/null",
    "dev/stdin",
    "\u{2215}etc",
    "scripts/../decoy",
    "",
];

fn hostile_names() -> Vec<String> {
    let joined = PARTS.iter().flat_map(|part| TARGETS.iter().map(move |target| format!("{part}/{target}")));
    let absolute = [
        "/",
        "/etc/passwd",
        "/dev/zero",
        "//",
        "a//b",
        "a/",
        "a/../b",
        "a/./b",
        "a/..",
        ".hidden",
        "a b",
        "a\tb",
    ];
    let long = ["x".repeat(256), "x".repeat(5000), "a/".repeat(9) + "b", "../".repeat(100)];
    joined.chain(absolute.map(str::to_owned)).chain(long).collect()
}

/// Everything below a folder with what tells a change: kind, size, times of change, and number.
fn tree(root: &Path) -> BTreeMap<String, (u32, u64, i64, i64, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let data = path.symlink_metadata().unwrap();
            let told = (data.mode(), data.size(), data.mtime(), data.mtime_nsec(), data.ino());
            found.insert(path.display().to_string(), told);
            if data.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn three_hundred_hostile_names_in_every_field_are_refused_in_the_same_words_and_change_nothing() {
    let bench = Bench::new();
    let executor = bench.executor();
    let good = bench.script("good.sh", "exit 0");
    fs::write(bench.path("decoy"), "decoy").unwrap();
    let names = hostile_names();
    assert!(names.len() >= 300, "{}", names.len());
    let before = tree(&bench.path(""));
    let mut words: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in &names {
        let requests = [
            ("script", ExecuteScriptRequest::new(name)),
            ("id", ExecuteScriptRequest::new(&good).id(name)),
            ("work_dir", ExecuteScriptRequest::new(&good).work_dir(name)),
            ("log_file", ExecuteScriptRequest::new(&good).log_file(name)),
        ];
        for (field, request) in requests {
            let error = bench.refusal(&executor, request);
            assert!(matches!(error, StartError::Invalid(_)), "{field} {name:?}: {error}");
            words.entry(field).or_default().push(error.to_string());
        }
    }
    for (field, mut told) in words {
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 1, "{field}: {told:?}");
        insta::assert_snapshot!(field, told[0]);
    }
    assert_eq!(tree(&bench.path("")), before);

    // The twin: the same look at the same folder does see what a good name makes.
    bench
        .run_on(&executor, ExecuteScriptRequest::new(&good).work_dir("good").log_file("good.txt").id("good"));
    assert_ne!(tree(&bench.path("")), before);
}

#[test]
fn a_log_file_cannot_take_the_name_of_another_file_of_the_record() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("good.sh", "exit 0");
    for file in ["result.json", "task.json", "debug.sh"] {
        let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name).log_file(file));
        assert!(error.to_string().contains("log_file"), "{error}");
    }
}

#[test]
fn an_id_is_used_once() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("good.sh", "echo first");
    bench.run_on(&executor, ExecuteScriptRequest::new(&name).id("t1"));
    let before = bench.log("t1");
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name).id("t1"));
    assert!(error.to_string().contains("id: an id that no task has had yet (unique)"), "{error}");
    assert_eq!(bench.log("t1"), before);
}

#[test]
fn every_mistake_of_a_request_is_named_at_once() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new("../x")
        .id("-")
        .work_dir("a/b")
        .args(["a\0b"])
        .env("A=", "b")
        .timeout(std::time::Duration::ZERO)
        .log_file("result.json");
    let StartError::Invalid(problems) = bench.refusal(&bench.executor(), request.clone()) else { panic!() };
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["name", "id", "work_dir", "args[0]", "env.A=", "timeout", "log_file"]);
    assert_eq!(request.check().unwrap_err(), problems);
    let long = ExecuteScriptRequest::new("x.sh").timeout(std::time::Duration::from_secs(100_000));
    let error = bench.refusal(&bench.executor(), long);
    assert!(error.to_string().contains("timeout: at most 86400s, the agent's max_timeout"), "{error}");
}
