//! A script that cannot be executed is refused with a code and a hint of its own, and leaves no record.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::bench::{Bench, Mounted, write_script};
use executor_core::{ExecuteScriptRequest, ScriptExecutor, ScriptFault};

#[test]
fn each_way_to_be_broken_has_its_own_code_and_hint() {
    let bench = Bench::new();
    let scripts = bench.path("scripts");
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(scripts.join(name), Permissions::from_mode(mode)).unwrap();
    };
    bench.script("good.sh", "exit 0");
    write_script(&scripts, "crlf.sh", "#!/bin/sh\r\nexit 0\r\n");
    write_script(&scripts, "missing-interpreter.sh", "#!/opt/nowhere/python9\n");
    write_script(&scripts, "relative-interpreter.sh", "#!python3\n");
    write_script(&scripts, "folder-as-interpreter.sh", "#!/etc\n");
    write_script(&scripts, "empty.sh", "");
    write_script(&scripts, "no-shebang.sh", "echo hello\n");
    bench.script("no-x.sh", "exit 0");
    mode("no-x.sh", 0o644);
    bench.script("group-writable.sh", "exit 0");
    mode("group-writable.sh", 0o775);
    bench.script("world-writable.sh", "exit 0");
    mode("world-writable.sh", 0o757);
    symlink("good.sh", scripts.join("link.sh")).unwrap();
    fs::create_dir(scripts.join("real")).unwrap();
    bench.script("real/in-folder.sh", "exit 0");
    symlink("real", scripts.join("link")).unwrap();
    nix::unistd::mkfifo(&scripts.join("pipe.sh"), nix::sys::stat::Mode::from_bits_truncate(0o755)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scripts.join("socket.sh")).unwrap();
    fs::write(scripts.join("truncated-elf"), b"\x7fELF").unwrap();
    mode("truncated-elf", 0o755);

    let executor = bench.executor();
    let names = [
        "absent.sh",
        "good.sh/below",
        "crlf.sh",
        "missing-interpreter.sh",
        "relative-interpreter.sh",
        "folder-as-interpreter.sh",
        "empty.sh",
        "no-shebang.sh",
        "no-x.sh",
        "group-writable.sh",
        "world-writable.sh",
        "link.sh",
        "link/in-folder.sh",
        "real",
        "pipe.sh",
        "socket.sh",
        "truncated-elf",
    ];
    let mut told: Vec<String> = names.iter().map(|name| tell(&bench, &executor, name)).collect();
    told.push(tell_device(&bench, &executor));
    told.push(tell_noexec(&bench));
    insta::assert_snapshot!(told.join("\n"));
    assert!(executor.running().is_empty());
    // What is found out before a start leaves no record; what only the kernel finds out has one that says so.
    let records: Vec<_> = fs::read_dir(bench.path("state/tasks")).unwrap().collect();
    assert_eq!(records.len(), 1);
}

fn tell(bench: &Bench, executor: &ScriptExecutor, name: &str) -> String {
    let error = bench.refusal(executor, ExecuteScriptRequest::new(name));
    assert!(!error.is_retriable(), "{error}");
    let text = error.to_string().replace(bench.path("").to_str().unwrap(), "/HERE/");
    format!("{name}: [{} {}] {text}", error.code(), error.command_line_code())
}

/// A device cannot be made by everybody.
fn tell_device(bench: &Bench, executor: &ScriptExecutor) -> String {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let path = bench.path("scripts/device.sh");
    if mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o755), makedev(1, 3)).is_err() {
        println!("TIER: DEVICES CANNOT BE MADE HERE: a pipe stands for one");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o755)).unwrap();
    }
    tell(bench, executor, "device.sh")
}

/// A scripts folder on a file system that executes nothing.
fn tell_noexec(bench: &Bench) -> String {
    let folder = bench.path("noexec");
    let Some(_mounted) = Mounted::tmpfs(&folder, "noexec,size=64k,mode=755") else {
        return format!(
            "noexec.sh: [script_on_noexec 126] cannot run the script 'noexec.sh': {}",
            ScriptFault::OnNoexec
        );
    };
    write_script(&folder, "noexec.sh", "#!/bin/sh\n");
    let executor = bench.builder().script_dir(&folder).build().unwrap();
    tell(bench, &executor, "noexec.sh")
}

#[test]
fn an_interpreter_that_env_does_not_find_is_told_by_the_script_itself() {
    let bench = Bench::new();
    write_script(&bench.path("scripts"), "env.sh", "#!/usr/bin/env no-such-interpreter\n");
    let (result, output) = bench.run_on(&bench.executor(), ExecuteScriptRequest::new("env.sh"));
    assert_eq!(result.exit_code, Some(127));
    assert!(output.contains("no-such-interpreter"), "{output}");
}

#[test]
fn a_working_folder_that_is_none_is_refused() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("good.sh", "exit 0");
    fs::write(bench.path("workspace/shared/file"), "a file").unwrap();
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name).work_dir("file"));
    assert!(
        error.to_string().ends_with("there is a link or a file of that name where a folder should be"),
        "{error}"
    );
    fs::remove_dir_all(bench.path("workspace")).unwrap();
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name));
    assert_eq!((error.code(), error.command_line_code()), ("host_failed", 125));
    assert!(error.to_string().contains("make the working folder"), "{error}");
    assert!(!bench.path("state/tasks").read_dir().unwrap().any(|_| true), "a record was made");
}

#[test]
fn a_scripts_folder_that_is_not_there_is_the_hosts_fault_and_may_come_back() {
    let bench = Bench::new();
    let executor = bench.executor();
    fs::remove_dir_all(bench.path("scripts")).unwrap();
    let error = bench.refusal(&executor, ExecuteScriptRequest::new("good.sh"));
    assert_eq!((error.code(), error.is_retriable()), ("host_failed", true));
    assert!(error.to_string().contains("open the scripts folder"), "{error}");
    let name = bench.script("good.sh", "exit 0");
    assert!(bench.run_on(&executor, ExecuteScriptRequest::new(name)).0.success);
}

#[test]
fn check_tells_the_same_without_starting_anything() {
    let bench = Bench::new();
    let executor = bench.executor();
    write_script(&bench.path("scripts"), "empty.sh", "");
    let name = bench.script("good.sh", "touch ../../../ran");
    let request = ExecuteScriptRequest::new("empty.sh");
    assert_eq!(
        executor.check(&request).unwrap_err().to_string(),
        bench.refusal(&executor, request).to_string()
    );
    let resolved = executor.check(&ExecuteScriptRequest::new(name)).unwrap();
    assert_eq!(resolved.path, bench.path("scripts/good.sh"));
    assert!(!bench.path("ran").exists());
}
