//! `cargo xtask bench`: the figures, as ratios to a floor that is measured in the same run, and the system calls and
//! flushes that a task costs; and what nodes, a large log, a large scripts folder and a long history cost. Those of these
//! that are held to bounds fail where they miss one.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::step::{Steps, cargo, say};

/// A memory file system that every Linux has.
const MEMORY: &str = "/dev/shm";
/// Tasks whose system calls are counted; what a start costs once is taken off.
const COUNTED: u64 = 200;
/// System calls that wait for a disk.
const FLUSHES: [&str; 4] = ["fsync", "fdatasync", "syncfs", "sync_file_range"];

/// Tasks of a long history.
const TASKS: &str = "1000000";

/// What it takes and does. The words in brackets are what can be measured.
pub(crate) const HELP: &str = "[engine] [calls] [http] [fleet] [logs] [catalogue] [history]  \
    measure the named, or all, in memory and on disk";

/// Measures the named parts, or everything, in memory and on disk.
pub(crate) fn run(folder: &Path, arguments: &[String]) -> Result<(), Failure> {
    let parts: Vec<&str> = parts().collect();
    if let Some(unknown) = arguments.iter().find(|argument| !parts.contains(&argument.as_str())) {
        let parts = parts.join(", ");
        return Err(Failure::Usage { help: format!("bench takes any of {parts}, not '{unknown}'") });
    }
    let wants = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let disk = folder.join("target/bench");
    make_folder(&disk)?;
    let mut steps = Steps::new(folder);
    for place in [Path::new(MEMORY), &disk] {
        let place = place.to_string_lossy();
        if wants("engine") {
            steps.cargo(&["bench", "--package", "executor-core", "--bench", "engine", "--", &place]);
        }
        if wants("calls") {
            steps.add("counting system calls", count_calls(folder, &place));
        }
        if wants("http") {
            steps.cargo(&["bench", "--package", "agent-http", "--bench", "http", "--", &place]);
        }
        if wants("fleet") {
            steps.cargo(&["bench", "--package", "agent-http", "--bench", "fleet", "--", &place]);
        }
        if wants("logs") {
            steps.cargo(&["bench", "--package", "agent-http", "--bench", "logs", "--", &place]);
        }
        if wants("catalogue") {
            steps.cargo(&["bench", "--package", "task-runners", "--bench", "catalogue", "--", &place]);
        }
        if wants("history") {
            history(&mut steps, folder, &place);
        }
    }
    steps.finish()
}

/// What can be measured.
fn parts() -> impl Iterator<Item = &'static str> {
    HELP.split_whitespace().filter_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// A long history, and the start of the service on it.
fn history(steps: &mut Steps, folder: &Path, place: &str) {
    let program = folder.join("target/release/agent-http").to_string_lossy().into_owned();
    if steps.cargo(&["build", "--release", "--package", "agent-http"]) {
        let words = ["bench", "--package", "task-service", "--bench", "history", "--"];
        steps.cargo(&[&words[..], &[place, TASKS, &program]].concat());
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| failed("making the folder", path, &error))
}

/// Counts what the engine itself calls for one task in this place; the script's own calls are not its.
fn count_calls(folder: &Path, place: &str) -> Result<(), Failure> {
    let program = engine_program(folder)?;
    let none = trace(folder, &program, place, 0)?;
    let some = trace(folder, &program, place, COUNTED)?;
    let per_task = |calls: u64, before: u64| calls.saturating_sub(before) as f64 / COUNTED as f64;
    let total = per_task(some.values().sum(), none.values().sum());
    say(&format!("place               {place}"));
    say(&format!("system calls a task {total:.1}"));
    for name in FLUSHES {
        let count = |calls: &BTreeMap<String, u64>| calls.get(name).copied().unwrap_or(0);
        let flushes = per_task(count(&some), count(&none));
        if flushes > 0.0 {
            say(&format!("  {name:<17} {flushes:.1}"));
        }
    }
    Ok(())
}

/// The bench's program, which cargo names when it has built it.
fn engine_program(folder: &Path) -> Result<PathBuf, Failure> {
    let arguments = ["bench", "--package", "executor-core", "--bench", "engine", "--no-run"];
    let built = cargo().args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let built = built.map_err(|error| failed("starting", Path::new("cargo"), &error))?;
    let said = String::from_utf8_lossy(&built.stderr);
    let path = said.lines().find_map(|line| line.trim().strip_prefix("Executable")?.split(['(', ')']).nth(1));
    match path {
        Some(path) => Ok(folder.join(path)),
        None => Err(failed("building", Path::new("the bench of executor-core"), &said)),
    }
}

/// Runs so many tasks in a place under strace(1), and counts the calls of the program's own threads by name.
fn trace(folder: &Path, program: &Path, place: &str, tasks: u64) -> Result<BTreeMap<String, u64>, Failure> {
    let log = folder.join("target/bench-calls.strace");
    let status = Command::new("strace")
        .args(["-f", "-q", "-o"])
        .arg(&log)
        .arg(program)
        .args([place, &tasks.to_string()])
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed("tracing", program, &status)),
        Err(error) => return Err(failed("starting", Path::new("strace"), &error)),
    }
    let text = std::fs::read(&log).map_err(|error| failed("reading", &log, &error))?;
    Ok(own_calls(&String::from_utf8_lossy(&text)))
}

/// Calls by name of all threads but those that executed another program.
fn own_calls(trace: &str) -> BTreeMap<String, u64> {
    let calls: Vec<(&str, &str)> = trace.lines().filter_map(call).collect();
    let first = calls.first().map(|(thread, _)| *thread);
    let others: HashSet<&str> = calls
        .iter()
        .filter(|(thread, name)| *name == "execve" && Some(*thread) != first)
        .map(|(thread, _)| *thread)
        .collect();
    let mut counts = BTreeMap::new();
    for (_, name) in calls.iter().filter(|(thread, _)| !others.contains(thread)) {
        *counts.entry((*name).to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Thread and name of the call that begins on a line.
fn call(line: &str) -> Option<(&str, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name.then_some((thread, name))
}

fn failed(action: &'static str, what: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Step { action, what: what.to_path_buf(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_own_calls_are_not_counted() {
        let trace = "10 execve(\"bench\") = 0\n10 fsync(3) = 0\n11 execve(\"a.sh\") = 0\n11 fsync(3) = 0\n\
            12 fsync(4 <unfinished ...>\n12 <... fsync resumed>) = 0\n";
        let counts = own_calls(trace);
        assert_eq!((counts["fsync"], counts["execve"]), (2, 1));
    }
}
