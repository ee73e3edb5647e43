//! Arguments arrive as they were sent, whatever bytes they hold, and `debug.sh` sends the same ones.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use executor_core::{ExecuteScriptRequest, StartError};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::bench::Bench;

/// Cases in all, and how many of them are sent in one start.
const CASES: usize = 10_000;
const BATCH: usize = 250;
/// Writes its arguments, each with a closing null, to the file that TASK_OUTPUT stands beside; a blank run may differ.
const DUMP: &str = "for word do printf '%s\\0' \"$word\"; done > ../../../received";

/// What shells, terminals and parsers stumble over.
const NASTY: [&[u8]; 24] = [
    b"",
    b" ",
    b"'",
    b"\"",
    b"\\",
    b"$HOME",
    b"$(touch /tmp/pwned)",
    b"`id`",
    b";",
    b"&",
    b"|",
    b">x",
    b"*",
    b"~",
    b"-",
    b"--",
    b"-e",
    b"#",
    b"\n",
    b"\n\n",
    b"a\nb\n",
    b"\x1b[2J",
    b"\xff\xfe",
    b"'\\''",
];

#[test]
fn any_bytes_but_null_arrive_and_debug_sh_reproduces_them() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("dump.sh", DUMP);
    let mut runner = TestRunner::deterministic();
    let word = prop_oneof![
        4 => proptest::collection::vec(1u8..=255, 0..24),
        1 => proptest::sample::select(NASTY.to_vec()).prop_map(<[u8]>::to_vec),
    ];
    for round in 0..CASES / BATCH {
        let words: Vec<OsString> =
            (0..BATCH).map(|_| OsString::from_vec(word.new_tree(&mut runner).unwrap().current())).collect();
        let id = format!("t{round}");
        let request = ExecuteScriptRequest::new(&name).id(&id).args(words.clone()).debug_script(true);
        let (result, output) = bench.run_on(&executor, request);
        assert!(result.success, "{output}");
        assert_eq!(received(&bench), words);
        assert_eq!(made_of_the_record(&bench, &id), file(&bench, &id), "by the record");
        // The rest is the shell's own work and slow; a tenth of the cases shows what there is to show.
        if round % 10 == 0 {
            reproduce(&bench, &id);
            assert_eq!(received(&bench), words, "by debug.sh");
        }
    }
}

fn received(bench: &Bench) -> Vec<OsString> {
    let path = bench.path("received");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let mut words: Vec<OsString> =
        bytes.split(|&b| b == 0).map(|w| OsStr::from_bytes(w).to_owned()).collect();
    assert_eq!(words.pop(), Some(OsString::new()));
    words
}

/// The reproduction script as the record tells it, and as it was written at the start.
fn made_of_the_record(bench: &Bench, id: &str) -> Vec<u8> {
    bench.records().debug_script(&id.parse().unwrap()).unwrap().expect("the task was started")
}

fn file(bench: &Bench, id: &str) -> Vec<u8> {
    std::fs::read(bench.records().folder(&id.parse().unwrap()).join("debug.sh")).unwrap()
}

fn reproduce(bench: &Bench, id: &str) -> String {
    let script = bench.records().folder(&id.parse().unwrap()).join("debug.sh");
    let output = Command::new(script).env("LEAKED", "yes").current_dir("/").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn debug_sh_reproduces_variables_input_and_working_folder_as_well() {
    let bench = Bench::new();
    // SHLVL, OLDPWD and the like are the shell's own.
    let body = "env | grep -E '^(TASK_|CALLERS|PATH|HOME|LANG|LEAKED)' | grep -v '^TASK_OUTPUT' | sort; pwd; od -c; umask; \
        echo A=1 > \"$TASK_OUTPUT\"; ls \"$TMPDIR\"";
    let request = ExecuteScriptRequest::new(bench.script("show.sh", body))
        .id("t1")
        .env("CALLERS", "it's \"quoted\" $HOME \\ \n end")
        .stdin(&b"in\0put\n'\\x41' %s\xff"[..])
        .debug_script(true);
    let (result, output) = bench.run_on(&bench.executor(), request);
    assert!(result.success);
    assert_eq!(made_of_the_record(&bench, "t1"), file(&bench, "t1"));
    assert_eq!(reproduce(&bench, "t1"), output);
    assert!(output.contains("CALLERS=it's") && output.contains("377"), "{output}");
}

#[test]
fn a_task_that_asked_for_no_debug_sh_has_one_in_its_record_all_the_same_unless_that_is_damaged() {
    let bench = Bench::new();
    let id = "t1".parse().unwrap();
    let name = bench.script("echo.sh", "echo \"$1\"");
    bench.run_on(&bench.executor(), ExecuteScriptRequest::new(&name).id("t1").args(["it's"]));
    let path = bench.path("made.sh");
    std::fs::write(&path, made_of_the_record(&bench, "t1")).unwrap();
    let output = Command::new("sh").arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "it's\n", "{output:?}");

    let task = bench.records().folder(&id).join("task.json");
    let whole = std::fs::read(&task).unwrap();
    std::fs::write(&task, &whole[..whole.len() / 2]).unwrap();
    let error = bench.records().debug_script(&id).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    assert!(bench.records().debug_script(&"t2".parse().unwrap()).unwrap().is_none());
}

#[test]
fn debug_sh_says_when_the_script_changed_or_is_gone() {
    let bench = Bench::new();
    let name = bench.script("once.sh", "echo one");
    bench.run_on(&bench.executor(), ExecuteScriptRequest::new(&name).id("t1").debug_script(true));
    let debug = bench.records().folder(&"t1".parse().unwrap()).join("debug.sh");
    bench.script("once.sh", "echo two");
    let output = Command::new(&debug).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "two\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has changed since the run"));
    std::fs::remove_file(bench.path("scripts/once.sh")).unwrap();
    assert_eq!(Command::new(&debug).output().unwrap().status.code(), Some(126));
}

#[test]
fn a_null_byte_and_an_argument_that_is_too_long_are_refused_by_their_place() {
    let bench = Bench::new();
    let executor = bench.executor();
    let longest = OsString::from_vec(vec![b'x'; (128 << 10) - 1]);
    let name = bench.script("count.sh", "printf %s \"$1\" | wc -c");
    let request = ExecuteScriptRequest::new(&name).args([longest]);
    assert_eq!(bench.run_on(&executor, request).1.trim(), "131071");

    let words =
        [OsString::from("good"), OsString::from_vec(b"a\0b".to_vec()), OsString::from("x".repeat(128 << 10))];
    // A variable shares its string with its name.
    let variable = |length: usize| "x".repeat((128 << 10) - "LONG=".len() - 1 + length);
    let request = ExecuteScriptRequest::new(&name).env("LONG", variable(0));
    assert!(bench.run_on(&executor, request).0.success);
    let request = ExecuteScriptRequest::new(&name).args(words).env("LONG", variable(1));
    let error = bench.refusal(&executor, request);
    let StartError::Invalid(problems) = &error else { panic!("{error}") };
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "args[1]: text without a null byte (no_nul)",
            "args[2]: less than 128 KiB (length)",
            "env.LONG: less than 128 KiB (length)"
        ]
    );
}

#[test]
fn arguments_that_are_too_long_together_are_told_as_such() {
    let bench = Bench::new();
    let words = vec!["x".repeat(100 << 10); 40];
    let error = bench
        .refusal(&bench.executor(), ExecuteScriptRequest::new(bench.script("a.sh", "exit 0")).args(words));
    assert_eq!(
        (error.code(), error.is_retriable(), error.command_line_code()),
        ("arguments_too_long", false, 126)
    );
}
