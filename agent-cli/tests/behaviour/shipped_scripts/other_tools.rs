//! The scripts run unchanged where people have them without the agent: under `usage bash`, and as file tasks of mise. What
//! is harmless is run by all three, and they see the same.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Place, Ran, SEARCH_PATH, SHIPPED, checkout, run, shipped_folder, write_program};

/// How a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Agent,
    Usage,
    Mise,
}

/// A harmless call of a script: what is prepared for it, giving its arguments.
type Prepare = fn(&Place) -> Vec<String>;

const CALLS: [(&str, Prepare); 14] = [
    ("backup_dir.sh", |place| {
        place.write("data/file", "content\n");
        words(&["--keep=2", "--name", "mine", "data", "kept"])
    }),
    ("backup_dir.sh", |_| words(&["absent", "kept"])),
    ("disk_usage.sh", |place| {
        place.write("data/two words/file", "content\n");
        words(&["--threshold", "100", "--top", "1", "data"])
    }),
    ("disk_usage.sh", |_| words(&["--threshold=0"])),
    ("git_checkout.sh", |place| vec!["--ref=v1".to_owned(), checkout::origin(place)]),
    ("http_check.sh", |_| {
        words(&["--retries=1", "--interval", "0", "--status", "2xx", "http://127.0.0.1:1/"])
    }),
    ("log_cleanup.sh", |place| {
        place.write("logs/new.log", "content\n");
        words(&["--days", "1", "--action=compress", "logs"])
    }),
    ("port_check.sh", |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // It listens for as long as the test runs.
        std::mem::forget(listener);
        vec!["--timeout=0".to_owned(), "127.0.0.1".to_owned(), port.to_string()]
    }),
    ("port_check.sh", |_| words(&["--state", "open", "--timeout", "0", "127.0.0.1", "1"])),
    ("service_restart.sh", |_| words(&["--settle=0", "nothing-here"])),
    ("system_info.sh", |_| Vec::new()),
    ("task_debug.sh", |_| words(&["two words", "--flag", "it's"])),
    ("task_debug.sh", |_| Vec::new()),
    ("log_cleanup.sh", |_| words(&["--pattern", "no such name", "absent"])),
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Where a program lies that `cargo xtask test` gets from a registry: beside what is built.
fn tool(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_agent-cli")).parent().and_then(Path::parent).unwrap();
    let path = built.join("tools/bin").join(name);
    assert!(
        path.exists(),
        "{} is not there; `cargo xtask test` gets it, or says why it cannot",
        path.display()
    );
    path
}

/// Runs a script and gives how it ended and what it said, as it was said.
fn run_by(by: By, script: &str, arguments: &[String], place: &Place, search_path: &str) -> Ran {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = match by {
        By::Agent => return run(script, &arguments, place, search_path),
        By::Usage => usage(script),
        By::Mise => mise(script, place),
    };
    command.args(arguments).current_dir(place.workspace()).stdin(Stdio::null());
    command.env("PATH", search_path).env("LANG", "C.UTF-8").env("HOME", place.scratch.path());
    let output = command.output().expect("sh can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ran { code: output.status.code(), text, params: Default::default() }
}

/// A program with both its outputs in one, in their order.
fn both_outputs(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 2>&1; exec \"$@\"", "sh"]).arg(program).env_clear();
    command
}

fn usage(script: &str) -> Command {
    let mut command = both_outputs(&tool("usage"));
    command.arg("bash").arg(shipped_folder().join(script));
    command
}

/// The folder of scripts as mise's file tasks; all that it keeps goes into temporary folders, and it stays offline.
fn mise(script: &str, place: &Place) -> Command {
    let folder = shipped_folder().canonicalize().unwrap();
    let settings = format!("[task_config]\nincludes = ['{}']\n", folder.display());
    fs::write(place.path("mise.toml"), settings).unwrap();
    let mut command = both_outputs(&tool("mise"));
    command.args(["run", "--quiet", "--output", "interleave", script.strip_suffix(".sh").unwrap()]);
    for folder in ["DATA", "CACHE", "CONFIG", "STATE"] {
        command.env(format!("MISE_{folder}_DIR"), place.scratch.path().join(folder));
    }
    command.env("MISE_TRUSTED_CONFIG_PATHS", place.workspace()).env("MISE_OFFLINE", "1");
    command.env("MISE_CEILING_PATHS", place.site.path("")).env("MISE_HIDE_UPDATE_WARNING", "1");
    command
}

/// What was said, without what differs by nature: folders, numbers and digests, and mise's own last word.
fn plain(script: &str, ran: &Ran, place: &Place) -> String {
    let scratch = place.scratch.path().display().to_string();
    let site = place.site.path("").display().to_string();
    let text = ran.text.replace(&scratch, "[scratch]").replace(&site, "[site]/");
    let lines =
        text.lines().filter(|line| !line.starts_with("mise ") && !line.contains("] ERROR task failed"));
    let lines = lines.map(|line| match script {
        // What a host is like changes while one looks.
        "system_info.sh" => line.split("  ").next().unwrap_or_default().to_owned(),
        _ => without_numbers(line),
    });
    match script {
        // The environment is another one by nature.
        "task_debug.sh" => lines.take_while(|line| line != "environment:").collect::<Vec<_>>().join("\n"),
        "system_info.sh" => lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"),
        _ => lines.collect::<Vec<_>>().join("\n"),
    }
}

/// A line with a mark for each number and digest, and one blank where there are several.
fn without_numbers(line: &str) -> String {
    let is_digest = |word: &&str| word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = line.split_whitespace().map(|word| if is_digest(&word) { "0" } else { word });
    let mut plain = String::new();
    for c in words.collect::<Vec<_>>().join(" ").chars() {
        match (c.is_ascii_digit(), plain.ends_with('#')) {
            (true, true) => {}
            (true, false) => plain.push('#'),
            (false, _) => plain.push(c),
        }
    }
    plain
}

/// A `systemctl` that knows nothing, so that nothing of this host is restarted.
fn search_path(place: &Place) -> String {
    place.stand_in("systemctl", "#!/bin/sh\nexit 1\n")
}

/// What a call comes to: exit code and text.
fn outcome(by: By, script: &str, prepare: Prepare) -> (Option<i32>, String) {
    let place = Place::new();
    let arguments = prepare(&place);
    let ran = run_by(by, script, &arguments, &place, &search_path(&place));
    (ran.code, plain(script, &ran, &place))
}

fn sees_the_same_as_the_agent(by: By) {
    for (script, prepare) in CALLS {
        let agent = outcome(By::Agent, script, prepare);
        assert_eq!(outcome(by, script, prepare), agent, "{script} by {by:?}");
        assert!(!agent.1.is_empty(), "{script}");
    }
}

#[test]
fn every_shipped_script_has_a_call() {
    let called = |script: &&str| CALLS.iter().any(|(known, _)| known == script);
    assert_eq!(SHIPPED.iter().filter(|script| !called(script)).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn scripts_run_under_usage_as_they_run_under_the_agent() {
    sees_the_same_as_the_agent(By::Usage);
}

#[test]
fn scripts_run_as_tasks_of_mise_as_they_run_under_the_agent() {
    sees_the_same_as_the_agent(By::Mise);
}

#[test]
fn a_script_that_sees_where_it_runs_is_noticed() {
    let place = Place::new();
    let weakened = place.scratch.path().join("seeing.sh");
    write_program(&weakened, "#!/usr/bin/env bash\necho ${TASK_ID:+by the agent}\n");
    let mut command = both_outputs(&tool("usage"));
    command.arg("bash").arg(&weakened).env("PATH", SEARCH_PATH);
    let by_usage = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let site = &place.site;
    site.script("seeing.sh", fs::read(&weakened).unwrap());
    assert_ne!(by_usage, site.ended(["run", "seeing.sh"]).text());
}
