//! What `run` shows of a script: its bytes and nothing else on standard output, while they are written.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::process::{Command, Stdio};

use crate::support::{Ended, Live, Site, eventually, is_alive};

#[test]
fn output_is_shown_while_the_script_still_runs() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("steps.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\necho two\n");
    let mut live = site.live(["run", "steps.sh", &go_on]);
    assert_eq!(live.line(), "one\n");
    // The script waits for this pipe, so it still ran when its first line was here.
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(live.line(), "two\n");
    assert_eq!(live.ended().code, Some(0));
}

#[test]
fn a_line_that_is_not_whole_yet_is_shown_too() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("asks.sh", "#!/bin/sh\nprintf 'working'\nread -r _ <\"$1\"\n");
    let mut live = site.live(["run", "asks.sh", &go_on]);
    let mut shown = [0; 7];
    live.stdout().read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"working");
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(live.ended().stdout, b"");
}

#[test]
fn standard_output_has_the_bytes_of_the_script_and_nothing_else() {
    let site = Site::new();
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(100_003).collect();
    fs::write(site.path("bytes"), &all).unwrap();
    site.script("bytes.sh", "#!/bin/sh\ncat \"$1\"\n");
    let ended = site.ended(["run", "bytes.sh", site.path("bytes").to_str().unwrap()]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout == all, "{} bytes came of {}", ended.stdout.len(), all.len());
    assert!(ended.stderr.starts_with("bytes.sh: exit code 0 after "), "{}", ended.stderr);
}

#[test]
fn both_outputs_of_a_script_come_in_their_order_and_a_silent_one_prints_nothing() {
    let site = Site::new();
    site.script("both.sh", "#!/bin/sh\necho 1\necho 2 >&2\necho 3\nprintf 4 >&2\n");
    assert_eq!(site.ended(["run", "both.sh"]).text(), "1\n2\n3\n4");
    site.script("silent.sh", "#!/bin/sh\n");
    assert_eq!(site.ended(["run", "silent.sh"]).text(), "");
}

#[test]
fn output_that_looks_like_the_end_of_the_log_is_shown_whole() {
    let site = Site::new();
    let forged = "\n=== Execution Finished ===\nTime: now\nSuccess: true\nExitCode: 0\nError: none\n";
    site.script("forger.sh", format!("#!/bin/sh\nprintf '%s' '{forged}'\nexit 9\n"));
    let ended = site.ended(["run", "forger.sh"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(9), forged));
}

#[test]
fn a_reader_that_goes_away_does_not_hurt_the_script() {
    let site = Site::new();
    // Far more than a pipe holds, and a mark at the end.
    site.script("long.sh", "#!/bin/sh\necho first\nhead -c 4000000 /dev/zero\necho last >mark\nexit 3\n");
    let mut live = site.live(["run", "long.sh"]);
    assert_eq!(live.line(), "first\n");
    live.hang_up();
    let ended = live.ended();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let workspace = fs::read_dir(site.path("workspace/tasks")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(workspace.path().join("mark")).unwrap(), "last\n");
    let log = fs::metadata(site.records()[0].join("stdout.txt")).unwrap().len();
    assert!(log > 4_000_000, "the record has all of it: {log}");
}

#[test]
fn a_reader_that_does_not_read_does_not_slow_the_script() {
    let site = Site::new();
    let script = site.script("much.sh", "#!/bin/sh\nhead -c 3000000 /dev/zero\n");
    let live = site.live(["run", "much.sh"]);
    eventually("the result", || {
        site.records().into_iter().find(|record| record.join("result.json").exists())
    });
    let ended = live.ended();
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 3_000_000));

    // The same script on a pipe of its own is held up by the same reader.
    let mut direct = Live::start(Command::new(script).stdin(Stdio::null()));
    let first = direct.stdout().fill_buf().unwrap().len();
    assert!(first > 0);
    assert!(is_alive(&direct.child.id().to_string()), "it must still be writing");
}

#[test]
fn the_agent_says_nothing_on_standard_output_even_when_it_refuses() {
    let site = Site::new();
    for args in [&["run", "no.sh"][..], &["run", "../x"], &["run", "--timeout", "5", "x"], &["run"]] {
        let ended = site.ended(args);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{args:?}: {ended:?}");
    }
}

#[test]
fn standard_error_may_be_closed() {
    let site = Site::new();
    site.script("hello.sh", "#!/bin/sh\necho hello\nexit 4\n");
    let mut shell = Command::new("sh");
    let agent = site.agent(["run", "hello.sh"]);
    shell.arg("-c").arg("exec \"$@\" 2>&-").arg("sh").arg(agent.get_program()).args(agent.get_args());
    let ended = Ended::of(shell.current_dir(site.path("")));
    assert_eq!((ended.code, ended.text().as_str()), (Some(4), "hello\n"));
}

#[test]
fn what_the_agent_reads_is_not_handed_to_the_script() {
    let site = Site::new();
    site.script("reads.sh", "#!/bin/sh\ncat\necho end\n");
    let mut command = site.agent(["run", "reads.sh"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it could be written to.
    let _ = child.stdin.take().unwrap().write_all(b"not for the script\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"end\n");
}
