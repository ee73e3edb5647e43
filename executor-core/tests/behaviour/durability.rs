//! A result that was told survives a loss of power, and its log too: what is flushed when, as the kernel is asked.

use std::path::Path;
use std::process::Command;

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, builder_in, write_script};
use crate::helper;

#[test]
fn log_result_and_their_folders_are_flushed_in_order_before_anybody_hears_of_the_result() {
    let bench = Bench::new();
    let trace = bench.path("trace");
    let helper = helper::command("tell when a result is there", &bench.path(""));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "200",
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir",
        "-o",
    ]);
    command.arg(&trace).arg(helper.get_program()).args(helper.get_args());
    command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
    {
        println!("TIER: STRACE IS NOT HERE OR MAY NOT TRACE: the order of flushes was not looked at");
        return;
    }
    helper::finish(command);
    let trace = std::fs::read_to_string(trace).unwrap();
    let record = "state/tasks/t1";
    let steps = [
        ("the log", "fdatasync(", format!("{record}/stdout.txt>")),
        ("the new result", "fsync(", format!("{record}/.result.json.new>")),
        ("its name", "rename", "\"result.json\"".to_owned()),
        ("the record's folder", "fsync(", format!("{record}>")),
        ("the folder of records", "fsync(", "state/tasks>".to_owned()),
        ("the news of it", "mkdir", "told\"".to_owned()),
    ];
    let lines: Vec<&str> = trace.lines().collect();
    let mut at = 0;
    for (what, call, path) in steps {
        let found = lines[at..].iter().position(|line| line.contains(call) && line.contains(&path));
        at += found.unwrap_or_else(|| panic!("{what} does not follow:\n{trace}")) + 1;
    }
    // No more of them than that: each costs as much as a start.
    let flushes = lines.iter().filter(|line| line.contains("sync(")).count();
    assert_eq!(flushes, 4, "{trace}");
}

pub(crate) fn help(folder: &Path) {
    write_script(&folder.join("scripts"), "quick.sh", "#!/bin/sh\necho hello\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    let request = ExecuteScriptRequest::new("quick.sh").id("t1");
    assert!(runtime.block_on(executor.execute(request)).unwrap().success);
    std::fs::create_dir(folder.join("told")).unwrap();
}
