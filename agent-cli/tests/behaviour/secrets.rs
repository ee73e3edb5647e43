//! Secrets on the command line: by a file or standard input, to the byte, and seen by nobody.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use serde_json::json;

use crate::service::Service;
use crate::support::{Ended, Live, Site};

/// Says where its secrets are, and waits at the pipe that it is given.
const SCRIPT: &str = r##"#!/bin/sh
#TASK effect="write" secret="token" secret="key" min_length.token=3
#USAGE arg "[gate]"
#USAGE flag "--token <token>" required=#true help="What proves who asks"
#USAGE flag "--key <key>" requires="--token" conflicts="--plain"
#USAGE flag "--plain <text>"
echo "$usage_token_file ${usage_key_file-none}"
[ -z "$usage_gate" ] || read -r line < "$usage_gate"
sha256sum < "$usage_token_file"
"##;

fn site() -> Site {
    let site = Site::new();
    site.script("secret.sh", SCRIPT);
    site
}

fn canary() -> String {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    format!("c4n4ry-{}", uuid.trim())
}

fn holds(bytes: &[u8], canary: &str) -> bool {
    bytes.windows(canary.len()).any(|window| window == canary.as_bytes())
}

/// Where the canary is seen: in arguments and variables of processes, and in files below a folder.
fn places_with(canary: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for name in ["cmdline", "environ"] {
            // One that has gone meanwhile shows nothing to anybody.
            if holds(&fs::read(process.path().join(name)).unwrap_or_default(), canary) {
                found.push(name.to_owned());
            }
        }
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && holds(&fs::read(entry.path()).unwrap(), canary) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    found
}

/// Runs the command line with this standard input.
fn with_input(mut command: Command, input: &[u8]) -> Ended {
    let mut live = Live::start(command.stdin(Stdio::piped()));
    live.child.stdin.take().unwrap().write_all(input).unwrap();
    live.ended()
}

fn sha256(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_secret_of_a_run_is_in_the_scripts_own_file_only() {
    let (site, canary) = (site(), canary());
    let gate = site.fifo("gate");
    let options = ["run", "--debug-script", "--secret", "token=@-", "secret.sh", &gate];
    let mut command = site.agent(options);
    let mut live = Live::start(command.env("RUST_LOG", "trace").stdin(Stdio::piped()));
    live.child.stdin.take().unwrap().write_all(canary.as_bytes()).unwrap();
    let line = live.line();
    let file = PathBuf::from(line.split(' ').next().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), canary);
    assert_eq!(places_with(&canary, &site.path("")), [""; 0]);
    fs::OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"go\n").unwrap();
    let ended = live.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!file.exists());
    assert!(!ended.stderr.contains(&canary), "{}", ended.stderr);
    assert_eq!(ended.text(), sha256(canary.as_bytes()));
    assert_eq!(places_with(&canary, &site.path("")), [""; 0]);
}

/// The twin: what is no secret is found where the canary is looked for.
#[test]
fn a_parameter_of_a_run_is_found_where_a_secret_is_not() {
    let (site, canary) = (site(), canary());
    fs::write(site.path("token"), "abc").unwrap();
    let gate = site.fifo("gate");
    let param = format!("plain={canary}");
    let mut live = site.live(["run", "--secret", "token=@token", "--param", &param, "secret.sh", &gate]);
    live.line();
    let found = places_with(&canary, &site.path(""));
    for place in ["cmdline", "environ", "task.json"] {
        assert!(found.iter().any(|found| found == place), "{place}: {found:?}");
    }
    fs::OpenOptions::new().write(true).open(&gate).unwrap().write_all(b"go\n").unwrap();
    assert_eq!(live.ended().code, Some(0));
}

#[test]
fn a_secret_arrives_to_the_byte_from_a_file_a_pipe_and_standard_input() {
    let site = site();
    for value in ["abc", "abc\n", "\n\nabc", "ä\u{1f426}\r\n\0 x"] {
        fs::write(site.path("token"), value).unwrap();
        let ran = site.ended(["run", "--secret", "token=@token", "secret.sh"]);
        assert_eq!(ran.text().lines().nth(1).unwrap(), sha256(value.as_bytes()).trim(), "{}", ran.stderr);
        let ran = with_input(site.agent(["run", "--secret", "token=@-", "secret.sh"]), value.as_bytes());
        assert_eq!(ran.text().lines().nth(1).unwrap(), sha256(value.as_bytes()).trim(), "{}", ran.stderr);
    }
    let gate = site.fifo("pipe");
    let live = site.live(["run", "--secret", "token=@pipe", "secret.sh"]);
    fs::write(gate, "by a pipe").unwrap();
    assert_eq!(live.ended().text().lines().nth(1).unwrap(), sha256(b"by a pipe").trim());
}

#[test]
fn every_wrong_way_to_give_a_secret_is_named_and_runs_nothing() {
    let site = site();
    fs::write(site.path("token"), "hunter2").unwrap();
    fs::write(site.path("short"), "x").unwrap();
    fs::write(site.path("bytes"), b"\xff\xfe").unwrap();
    fs::write(site.path("large"), "x".repeat((1 << 20) + 1)).unwrap();
    let mut told = String::new();
    for words in [
        "secret.sh --token hunter2",
        "secret.sh --token=hunter2",
        "--param token=hunter2 secret.sh",
        "--param token=hunter2 --secret token=@token secret.sh",
        "--secret token=@token --secret token=@short secret.sh",
        "--secret token=@- --secret key=@- secret.sh",
        "--secret token=@short secret.sh",
        "--secret token=@bytes secret.sh",
        "--secret token=@large secret.sh",
        "--secret plain=@token --secret token=@token secret.sh",
        "--secret token=@token --secret key=@token --param plain=x secret.sh",
        "--secret key=@token secret.sh",
        "secret.sh",
    ] {
        let ended = site.ended([&["run"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
        assert_eq!(ended.code, Some(126), "{words}");
        assert!(!ended.stderr.contains("hunter2"), "{words}: {}", ended.stderr);
        told.push_str(&format!("{words}\n{}", ended.stderr));
    }
    assert!(site.records().is_empty());
    assert_snapshot!(told);
}

#[test]
fn a_dry_run_and_help_and_json_show_where_a_secret_goes_and_not_what_it_is() {
    let site = site();
    fs::write(site.path("token"), "hunter2").unwrap();
    let dry = site.ended(["run", "--dry-run", "--secret", "token=@token", "secret.sh"]);
    assert!(dry.text().contains("usage_token_file=") && !dry.text().contains("hunter2"), "{}", dry.text());
    let task = site.task(&["--secret", "token=@token", "secret.sh"]);
    assert_eq!(task["spec"]["secrets"], json!(["token"]));
    assert!(!task.to_string().contains("hunter2"), "{task}");
    assert_snapshot!(site.ended(["run", "secret.sh", "--help"]).text());
}

#[test]
fn a_secret_is_submitted_by_a_file_and_one_that_was_seen_is_told() {
    let (site, _service) = Service::on_a_free_port();
    site.script("secret.sh", SCRIPT);
    site.script("plain.sh", "#!/bin/sh\n");
    fs::write(site.path("token"), "hunter2").unwrap();
    let sent = site.ended(["task", "submit", "--json", "-f", "--secret", "token=@token", "secret.sh"]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    assert!(sent.text().contains(sha256(b"hunter2").trim()), "{}", sent.text());
    let sent = site.ended(["task", "submit", "--json", "--secret", "token=@token", "secret.sh"]);
    assert_eq!(sent.json()["spec"]["secrets"], json!(["token"]));
    for words in [
        ["--secret", "plain=@token", "--secret=token=@token", "secret.sh"],
        ["--secret", "token=@token", "--", "plain.sh"],
        ["--secret", "token=@token", "--param=token=hunter2", "secret.sh"],
        ["--", "secret.sh", "--token", "hunter2"],
    ] {
        let ended = site.ended([["task", "submit"].as_slice(), &words].concat());
        assert_ne!(ended.code, Some(0), "{words:?}");
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    let seen = site.ended(["task", "submit", "--param", "token=hunter2", "secret.sh"]);
    assert!(seen.stderr.contains("--secret token=@FILE does not"), "{}", seen.stderr);
    assert!(!seen.stderr.contains("hunter2"), "{}", seen.stderr);
}
