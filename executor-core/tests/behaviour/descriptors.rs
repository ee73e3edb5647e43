//! What a script inherits: three descriptors, default signals, a session of its own, its input, its working folder.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use executor_core::{BuildError, ExecuteScriptRequest};
use nix::sys::signal::{SigSet, Signal};

use crate::bench::{Bench, builder_in, write_script};
use crate::helper;

/// 3 is the folder that `ls` itself has open.
const LIST_DESCRIPTORS: &str = "ls /proc/self/fd";
const STANDARD: &str = "0\n1\n2\n3\n";
/// No shell: some of them clear the mask of blocked signals when they start.
const SHOW_SIGNALS: &str = "#!/usr/bin/env -S grep -hE ^Sig(Blk|Ign)|^ShdPnd /proc/self/status\n";
const NO_SIGNALS: &str = "ShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";

#[test]
fn a_script_has_descriptors_0_to_2_only_whatever_the_embedder_has_open() {
    let bench = Bench::new();
    let opened = fs::File::open("/").unwrap();
    // A copy without close-on-exec, as programs in other languages leave them.
    let careless = nix::fcntl::fcntl(&opened, nix::fcntl::FcntlArg::F_DUPFD(200)).unwrap();
    let (_, output) = bench.run(LIST_DESCRIPTORS);
    assert_eq!(output, STANDARD);

    // The twin: a start by the standard library hands the careless one on.
    let naive = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
    let naive = String::from_utf8(naive.stdout).unwrap();
    assert!(naive.lines().any(|line| line == careless.to_string()), "{naive}");
    nix::unistd::close(careless).unwrap();
}

#[test]
fn signals_are_at_their_defaults_though_the_embedder_ignores_and_blocks_some() {
    let bench = Bench::new();
    let body = "trap '' HUP INT USR1 PIPE; exec \"$@\"";
    let mut command = std::process::Command::new("/bin/sh");
    let helper = helper::command("run with ignored signals", &bench.path(""));
    command.args(["-c", body, "sh"]).arg(helper.get_program()).args(helper.get_args());
    command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = helper::finish(command);
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("ignored by")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    // The twin: the embedder itself does ignore and block them.
    assert!(!lines[0].contains("0000000000000000"), "{told}");
    let log = String::from_utf8(bench.log("t1")).unwrap();
    assert!(log.contains(&format!("\n\n{NO_SIGNALS}\n===")), "{log}");
}

pub(crate) fn help_with_ignored_signals(folder: &Path) {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.add(Signal::SIGUSR2);
    blocked.thread_block().unwrap();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let own = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().replace('\t', "");
    println!("ignored by the embedder: {} {}", own("SigIgn"), own("SigBlk"));
    write_script(&folder.join("scripts"), "see", SHOW_SIGNALS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    let result = runtime.block_on(executor.execute(ExecuteScriptRequest::new("see").id("t1"))).unwrap();
    assert!(result.success, "{result:?}");
}

#[test]
fn an_embedder_that_has_closed_its_own_standard_descriptors_harms_no_script() {
    let bench = Bench::new();
    helper::run("run without standard descriptors", &bench.path(""));
    assert_eq!(fs::read_to_string(bench.path("seen")).unwrap(), format!("given\n{STANDARD}"));
    assert_eq!(fs::read_to_string(bench.path("failures")).unwrap_or_default(), "");
}

pub(crate) fn help_without_standard_descriptors(folder: &Path) {
    let body = format!("#!/bin/sh\necho out\necho err >&2\n(cat; {LIST_DESCRIPTORS}) > ../../../seen\n");
    write_script(&folder.join("scripts"), "see.sh", &body);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    let kept: Vec<_> = (0..3).map(|fd| nix::unistd::dup(borrowed(fd)).unwrap()).collect();
    (0..3).for_each(|fd| nix::unistd::close(fd).unwrap());
    // Nothing may be printed from here on: the engine's own files lie at these numbers now.
    let request = ExecuteScriptRequest::new("see.sh").id("closed").stdin("given\n");
    let result = runtime.block_on(executor.execute(request));
    drop(executor);
    let log = fs::read_to_string(folder.join("state/tasks/closed/stdout.txt"));
    let good = result.as_ref().is_ok_and(|result| result.success)
        && log.as_ref().is_ok_and(|log| log.contains("\n\nout\nerr\n\n==="));
    if !good {
        fs::write(folder.join("failures"), format!("{result:?} {log:?}")).unwrap();
    }
    drop(runtime);
    std::process::exit(i32::from(kept.iter().any(|fd| fd.as_raw_fd() < 3)));
}

/// One of the standard descriptors, which are open when this is called.
fn borrowed(fd: i32) -> std::os::fd::OwnedFd {
    fs::OpenOptions::new()
        .read(true)
        .open(format!("/proc/self/fd/{fd}"))
        .map_or_else(|_| fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into(), Into::into)
}

#[test]
fn a_process_that_ignores_its_children_cannot_build_an_executor() {
    let bench = Bench::new();
    let mut command = std::process::Command::new("python3");
    let helper = helper::command("build while children are ignored", &bench.path(""));
    // A shell does not hand an ignored SIGCHLD on; Python does.
    let body = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    command.args(["-c", body]).arg(helper.get_program()).args(helper.get_args());
    command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    helper::finish(command);
    assert_eq!(
        fs::read_to_string(bench.path("seen")).unwrap(),
        "refused: this process ignores SIGCHLD, so how \
        scripts end cannot be learnt; give the signal its default disposition"
    );
}

pub(crate) fn help_while_children_are_ignored(folder: &Path) {
    let told = match builder_in(folder).build() {
        Err(error @ BuildError::ChildrenIgnored) => format!("refused: {error}"),
        other => format!("{other:?}"),
    };
    fs::write(folder.join("seen"), told).unwrap();
}

#[test]
fn a_script_leads_a_session_and_a_group_of_its_own() {
    let bench = Bench::new();
    let (_, output) = bench.run("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)");
    let ids: Vec<&str> = output.split_whitespace().collect();
    assert!(ids.len() == 3 && ids[0] == ids[1] && ids[1] == ids[2], "{output}");
}

#[test]
fn the_umask_is_022_whatever_the_embedders_is() {
    let bench = Bench::new();
    let (_, output) = bench.run("umask");
    assert_eq!(output, "0022\n");
}

#[test]
fn the_limit_of_open_files_is_the_one_that_was_set() {
    let bench = Bench::new();
    let executor = bench.builder().open_files_limit(123, 456).build().unwrap();
    let request = ExecuteScriptRequest::new(bench.script("limits.sh", "ulimit -Sn; ulimit -Hn"));
    assert_eq!(bench.run_on(&executor, request).1, "123\n456\n");
}

#[test]
fn standard_input_is_empty_or_what_was_given() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("read.sh", "wc -c; readlink /proc/$$/fd/0");
    assert_eq!(bench.run_on(&executor, ExecuteScriptRequest::new(&name)).1, "0\n/dev/null\n");
    // Far more than a pipe holds, and not read at all: neither holds anybody up.
    let large = vec![b'x'; 5 << 20];
    let given = ExecuteScriptRequest::new(&name).stdin(large.clone());
    assert!(bench.run_on(&executor, given).1.starts_with("5242880\n"));
    let unread = ExecuteScriptRequest::new(bench.script("no.sh", "exit 0")).stdin(large);
    assert_eq!(bench.run_on(&executor, unread).0.exit_code, Some(0));
}

#[test]
fn the_working_folder_is_the_tasks_own_or_the_shared_one_by_name() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("pwd.sh", "pwd -P; echo \"$TASK_WORK_DIR\"");
    let own = bench.path("workspace/tasks/t1").display().to_string();
    assert_eq!(
        bench.run_on(&executor, ExecuteScriptRequest::new(&name).id("t1")).1,
        format!("{own}\n{own}\n")
    );
    let shared = bench.path("workspace/shared/s1").display().to_string();
    let request = ExecuteScriptRequest::new(&name).work_dir("s1");
    assert_eq!(bench.run_on(&executor, request).1, format!("{shared}\n{shared}\n"));
}

#[test]
fn starting_does_not_wait_for_what_a_script_does() {
    let bench = Bench::new();
    let execution =
        bench.start_on(&bench.executor(), ExecuteScriptRequest::new(bench.script("slow.sh", "sleep 300")));
    assert_eq!(execution.result(), None);
    execution.cancel();
    assert!(bench.wait(&execution).duration_ms < Duration::from_secs(250).as_millis() as u64);
}
