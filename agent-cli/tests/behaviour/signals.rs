//! Ctrl-C and its kind: the first asks the script to end, the second ends it at once.

use std::fs;
use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Live, Site, eventually, is_alive};

/// Says its number and ends in order when it is asked to.
const ORDERLY: &str = "#!/bin/sh
trap 'echo cleaned up; exit 5' TERM
sleep 600 &
echo $$
wait
";
/// Says its number and does not care.
const STUBBORN: &str = "#!/bin/bash
trap '' TERM
echo $$
while :; do sleep 0.05; done
";

#[test]
fn the_first_signal_lets_the_script_end_in_order() {
    let site = Site::new();
    site.script("orderly.sh", ORDERLY);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut live = site.live(["run", "orderly.sh"]);
        let pid = live.line();
        live.signal(signal);
        let ended = live.ended();
        assert_eq!((ended.code, ended.text().as_str()), (Some(130), "cleaned up\n"), "{}", ended.stderr);
        assert!(ended.stderr.contains("cancelling; once more kills it at once"), "{}", ended.stderr);
        assert!(!is_alive(pid.trim()));
    }
}

#[test]
fn the_second_signal_ends_a_script_that_does_not_care() {
    let site = Site::with_settings("[script_executor]\nkill_grace = \"10m\"\n");
    site.script("stubborn.sh", STUBBORN);
    let mut live = site.live(["run", "stubborn.sh"]);
    let pid = live.line();
    live.signal(Signal::SIGINT);
    live.talk("once more kills it at once");
    assert!(is_alive(pid.trim()), "the first one leaves it its grace");
    let began = Instant::now();
    live.signal(Signal::SIGTERM);
    let ended = live.ended();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(began.elapsed() < Duration::from_secs(300), "the grace was not waited for");
    assert!(!is_alive(pid.trim()));
}

#[test]
fn a_script_that_does_not_care_is_killed_after_its_grace() {
    let site = Site::with_settings("[script_executor]\nkill_grace = \"200ms\"\n");
    site.script("stubborn.sh", STUBBORN);
    let mut live = site.live(["run", "stubborn.sh"]);
    let pid = live.line();
    live.signal(Signal::SIGINT);
    let ended = live.ended();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(!is_alive(pid.trim()));
}

#[test]
fn everything_that_a_cancelled_script_started_ends_with_it() {
    let site = Site::new();
    let daemons = "#!/bin/bash
trap '' TERM
for n in 1 2 3; do setsid bash -c 'trap \"\" TERM; echo $$; exec sleep 600' & done
wait
";
    site.script("daemons.sh", daemons);
    let mut live = site.live(["run", "daemons.sh"]);
    let pids: Vec<String> = (0..3).map(|_| live.line().trim().to_owned()).collect();
    assert!(pids.iter().all(|pid| is_alive(pid)));
    live.signal(Signal::SIGINT);
    live.talk("once more");
    live.signal(Signal::SIGINT);
    assert_eq!(live.ended().code, Some(130));
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
}

#[test]
fn a_signal_ends_the_printing_of_what_nobody_reads() {
    let site = Site::new();
    site.script("much.sh", "#!/bin/sh\nhead -c 3000000 /dev/zero\nexit 6\n");
    let mut live = site.live(["run", "much.sh"]);
    // The pipe is full, and stays so; the script has ended all the same.
    live.stdout().fill_buf().unwrap();
    eventually("the result", || {
        site.records().into_iter().find(|record| record.join("result.json").exists())
    });
    live.signal(Signal::SIGINT);
    loop {
        let heard = live.talk("");
        if heard.contains("the rest of its output is in the record") {
            break;
        }
        // The result was on disk before the agent heard of it.
        assert!(heard.contains("once more") || heard.contains("killing it"), "{heard}");
        live.signal(Signal::SIGINT);
    }
    let code = live.child.wait().unwrap().code();
    assert_eq!(code, Some(6), "it had ended by itself");
}

/// The site's command line, started by another program.
fn started_by(site: &Site, program: &[&str], args: &[&str]) -> Live {
    let agent = site.agent(args);
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(agent.get_program()).args(agent.get_args());
    Live::start(command.current_dir(site.path("")).stdin(Stdio::null()))
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored_and_the_others_cancel() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("asks.sh", "#!/bin/sh\ntrap 'exit 5' TERM\necho $$\nread -r _ <\"$1\"\nexit 6\n");
    let in_background = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"];
    for (program, ignored) in [(&["nohup"][..], Signal::SIGHUP), (&in_background, Signal::SIGINT)] {
        let mut live = started_by(&site, program, &["run", "asks.sh", &go_on]);
        live.line();
        live.signal(ignored);
        fs::write(&go_on, "on\n").unwrap();
        let ended = live.ended();
        assert_eq!(ended.code, Some(6), "{ignored}: {}", ended.stderr);
        assert!(!ended.stderr.contains("cancelling"), "{ignored}: {}", ended.stderr);

        let mut live = started_by(&site, program, &["run", "asks.sh", &go_on]);
        live.line();
        live.signal(ignored);
        live.signal(Signal::SIGTERM);
        assert_eq!(live.ended().code, Some(130), "{ignored}");
    }
}

#[test]
fn a_cancelled_run_leaves_a_record_that_says_so() {
    let site = Site::new();
    site.script("orderly.sh", ORDERLY);
    let mut live = site.live(["run", "orderly.sh"]);
    live.line();
    live.signal(Signal::SIGINT);
    live.ended();
    let result = fs::read_to_string(site.records()[0].join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["outcome"]["kind"], "cancelled");
    assert_eq!(result["exit_code"], serde_json::Value::Null);
}
