//! What was acknowledged survives a power cut: the system calls come in the order that this takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use executor_integrity::{CreateOptions, SnapshotStore, create_manifest};

use crate::support::{Area, other_process, policy, run};

const PART: &str = "DURABILITY_PART_OF_TEST";

#[test]
fn files_are_flushed_before_they_get_their_name_and_the_folder_is_flushed_then() {
    if let Some(area) = std::env::var_os(PART) {
        return create_and_take(Path::new(&area));
    }
    let area = Area::without_manifest();
    let test = "durability::files_are_flushed_before_they_get_their_name_and_the_folder_is_flushed_then";
    let traced = other_process(test, (PART, &area.path("")));
    let trace = area.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2", "-o"]);
    strace.arg(&trace).arg(traced.get_program()).args(traced.get_args()).env(PART, area.path(""));
    let output = run(&mut strace, "strace");
    assert!(output.status.success(), "{output:?}");

    let trace = fs::read_to_string(trace).unwrap();
    let calls: Vec<String> = trace.lines().filter_map(call).collect();
    let expected = [
        "fsync",
        "name MANIFEST.sha256",
        "fsync", // the manifest
        "fsync",
        "name ratchet",
        "fsync", // the version is remembered before the snapshot can be used
        "syncfs",
        "name snapshot",
        "fsync",
    ];
    assert_eq!(calls, expected, "{trace}");
}

/// The traced process.
fn create_and_take(area: &Path) {
    let scripts = area.join("scripts");
    create_manifest(&scripts, &CreateOptions::default()).unwrap();
    let store = SnapshotStore::at(&area.join("store")).unwrap();
    store.take(&scripts, &policy()).unwrap();
}

/// A line of the trace in short: which call, and of a renaming the new name.
fn call(line: &str) -> Option<String> {
    let (_, call) = line.split_once(' ')?;
    let (function, arguments) = call.trim().split_once('(')?;
    if !function.starts_with("rename") {
        return Some(function.to_owned());
    }
    let name = arguments.split('"').nth(3)?;
    let is_digest = name.len() == 64;
    Some(format!("name {}", if is_digest { "snapshot" } else { name }))
}
