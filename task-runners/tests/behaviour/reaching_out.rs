//! Reading a header opens, runs and reads nothing, seen by strace.

use std::path::Path;
use std::process::Command;

use task_runners::header;

/// Where the helper process finds the script; unset, this binary is an ordinary test.
const SCRIPT: &str = "TASK_RUNNERS_TRACED_SCRIPT";
/// How the helper reads it.
const READER: &str = "TASK_RUNNERS_TRACED_READER";

/// The process that is watched.
#[test]
fn helper_process_that_reads_a_header() {
    let Ok(script) = std::env::var(SCRIPT) else {
        return;
    };
    if std::env::var(READER).unwrap() == "ours" {
        assert!(header::read(script.as_bytes()).description.is_err());
    } else {
        let text: String = script.lines().filter_map(|line| line.strip_prefix("#USAGE ")).collect();
        let spec: usage::Spec = text.parse().unwrap();
        let _ = usage::Parser::new(&spec).parse(&["x".to_owned(), "y".to_owned()]);
    }
}

/// The system calls of a process that reads the script, if strace can be had.
fn calls(folder: &Path, script: &str, reader: &str) -> Option<String> {
    let trace = folder.join("trace");
    let ran = Command::new("strace")
        .args(["-f", "-s", "200", "-e", "trace=execve,execveat,open,openat,openat2,socket", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "reaching_out::helper_process_that_reads_a_header", "--nocapture"])
        .env(SCRIPT, script)
        .env(READER, reader)
        .env("CANARY_VARIABLE", "canary-value")
        .output();
    let Ok(ran) = ran else {
        println!("THERE IS NO strace ON THIS HOST: what a header reaches out for was not looked at");
        return None;
    };
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    Some(std::fs::read_to_string(&trace).unwrap())
}

/// The calls that a header could have caused: a program beside the test itself, or the canary.
fn caused(calls: &str) -> Vec<&str> {
    let is_caused = |line: &&str| {
        line.contains("canary") || (line.contains("execve") && !line.contains("reaching_out::helper"))
    };
    calls.lines().filter(is_caused).collect()
}

#[test]
fn a_header_that_asks_for_commands_files_or_variables_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    std::fs::write(&canary, "about \"included\"\n").unwrap();
    let canary = canary.display();
    let lines = [
        format!("#USAGE include file=\"{canary}\""),
        format!("#USAGE mount run=\"cat {canary}\""),
        format!("#USAGE output {{ schema file=\"{canary}\" }}"),
        format!("#USAGE config {{ file \"{canary}\" }}"),
        format!("#USAGE complete \"x\" run=\"cat {canary}\""),
        format!("#USAGE arg \"<x>\" {{ choices run=\"cat {canary}\" }}"),
        "#USAGE arg \"<x>\" env=\"CANARY_VARIABLE\"".to_owned(),
    ];
    let mut scripts: Vec<String> = lines.iter().map(|line| format!("#!/bin/sh\n{line}\n")).collect();
    scripts.push(format!("#!/bin/sh\n{}\n", lines.join("\n")));
    for script in scripts {
        let Some(calls) = calls(folder.path(), &script, "ours") else { return };
        assert_eq!(caused(&calls), Vec::<&str>::new(), "{script}");
    }
}

#[test]
fn a_reader_that_reaches_out_would_be_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let canary = folder.path().join("canary");
    std::fs::write(&canary, "about \"included\"\n").unwrap();
    let canary = canary.display();
    for line in
        [format!("include file=\"{canary}\""), format!("arg \"<x>\" {{ choices run=\"cat {canary}\" }}")]
    {
        let Some(calls) = calls(folder.path(), &format!("#USAGE {line}\n"), "usage") else { return };
        assert_ne!(caused(&calls), Vec::<&str>::new(), "{line}");
    }
}
