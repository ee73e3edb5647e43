//! The exit code of `run` says how the script ended, or why it did not start.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Site, write};

#[test]
fn the_exit_code_is_the_one_of_the_script() {
    let site = Site::new();
    site.script("code.sh", "#!/bin/sh\nexit \"$1\"\n");
    for code in [0, 1, 2, 3, 77, 124, 125, 126, 127, 130, 200, 255] {
        let ended = site.ended(["run", "code.sh", &code.to_string()]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("exit code {code}")), "{}", ended.stderr);
    }
}

#[test]
fn a_script_that_a_signal_ends_gives_128_and_its_number() {
    let site = Site::new();
    site.script("dies.sh", "#!/bin/sh\nkill -\"$1\" $$\n");
    for signal in [1, 2, 6, 9, 11, 15] {
        let ended = site.ended(["run", "dies.sh", &signal.to_string()]);
        assert_eq!(ended.code, Some(128 + signal), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("ended by signal {signal}")), "{}", ended.stderr);
    }
}

#[test]
fn a_script_that_takes_too_long_gives_124() {
    let site = Site::new();
    site.script("slow.sh", "#!/bin/sh\nexec sleep 600\n");
    let ended = site.ended(["run", "--timeout", "300ms", "slow.sh"]);
    assert_eq!(ended.code, Some(124), "{}", ended.stderr);
    assert!(ended.stderr.contains("timed out"), "{}", ended.stderr);
    // A script that takes less is not touched.
    site.script("quick.sh", "#!/bin/sh\n");
    assert_eq!(site.ended(["run", "--timeout", "10m", "quick.sh"]).code, Some(0));
}

#[test]
fn the_configured_time_limits_hold_where_the_command_line_says_nothing_or_too_much() {
    let site = Site::with_settings("[script_executor]\ndefault_timeout = \"300ms\"\nmax_timeout = \"1m\"\n");
    site.script("slow.sh", "#!/bin/sh\nexec sleep 600\n");
    assert_eq!(site.ended(["run", "slow.sh"]).code, Some(124));
    let ended = site.ended(["run", "--timeout", "61s", "slow.sh"]);
    assert_eq!(ended.code, Some(126));
    assert!(ended.stderr.contains("timeout: at most 60s"), "{}", ended.stderr);
}

#[test]
fn a_script_that_is_not_there_gives_127_and_names_what_may_have_been_meant() {
    let site = Site::new();
    site.script("deploy/web.sh", "#!/bin/sh\n");
    for name in ["web.sh", "web", "deploy/wbe.sh", "scripts/deploy/web.sh"] {
        let ended = site.ended(["run", name]);
        assert_eq!(ended.code, Some(127), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: did you mean deploy/web.sh?"), "{name}: {}", ended.stderr);
    }
    let ended = site.ended(["run", "nothing-like-it"]);
    assert_eq!(ended.code, Some(127));
    assert!(ended.stderr.contains("agent-cli list") && !ended.stderr.contains("mean"), "{}", ended.stderr);
}

/// Files that cannot be run as they are: content, mode, and what is said.
const BROKEN: [(&str, &[u8], u32, &str); 8] = [
    ("mode.sh", b"#!/bin/sh\n", 0o644, "chmod +x"),
    ("plain.sh", b"echo hello\n", 0o755, "#!/usr/bin/env bash"),
    ("crlf.sh", b"#!/bin/sh\r\necho hello\r\n", 0o755, "sed -i 's/\\r$//'"),
    ("empty.sh", b"", 0o755, "it is empty"),
    ("gone.sh", b"#!/opt/no/such/shell\n", 0o755, "/opt/no/such/shell does not exist"),
    ("relative.sh", b"#!sh\n", 0o755, "no absolute path"),
    ("group.sh", b"#!/bin/sh\n", 0o775, "chmod go-w"),
    ("all.sh", b"#!/bin/sh\n", 0o777, "chmod go-w"),
];

#[test]
fn a_file_that_cannot_be_run_gives_126_and_says_what_mends_it() {
    let site = Site::new();
    for (name, text, mode, said) in BROKEN {
        write(&site.path("scripts").join(name), text, mode);
        let ended = site.ended(["run", name]);
        assert_eq!(ended.code, Some(126), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{name}: {}", ended.stderr);
    }
    assert!(site.records().is_empty(), "a file that cannot be run leaves no record");
    // Mended as it was said, it runs.
    fs::set_permissions(site.path("scripts/mode.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(site.ended(["run", "mode.sh"]).code, Some(0));
}

#[test]
fn an_interpreter_that_goes_away_while_it_starts_gives_126() {
    let site = Site::new();
    // A file of its own kind: named by the first line, there, and not executable.
    let interpreter = site.path("interpreter");
    write(&interpreter, "#!/bin/sh\n", 0o644);
    site.script("odd.sh", format!("#!{}\n", interpreter.display()));
    let ended = site.ended(["run", "odd.sh"]);
    assert_eq!(ended.code, Some(126), "{}", ended.stderr);
}

#[test]
fn what_the_agent_itself_cannot_do_gives_125() {
    let site = Site::new();
    site.script("ok.sh", "#!/bin/sh\n");
    fs::write(site.path("file"), "").unwrap();
    let ended = site.ended(["--state", "file/state", "run", "ok.sh"]);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot") && ended.stderr.contains("file/state"), "{}", ended.stderr);
    let ended = site.ended(["--scripts", "no/such/folder", "run", "ok.sh"]);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("no/such/folder"), "{}", ended.stderr);
}

#[test]
fn a_command_line_that_is_wrong_gives_125_for_run_and_2_for_the_others() {
    let site = Site::new();
    for args in [&["run"][..], &["run", "--timeout"], &["--state", "list", "run", "--env"]] {
        assert_eq!(site.ended(args).code, Some(125), "{args:?}");
    }
    for args in [&["list", "--no"][..], &["show", "run", "more"], &["no"], &["--state", "run", "show"], &[]] {
        assert_eq!(site.ended(args).code, Some(2), "{args:?}");
    }
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert_eq!(site.ended(args).code, Some(0), "{args:?}");
    }
}
