//! An agent that is the first process of a container: what loses its parent there becomes the agent's child.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, builder_in, write_script};
use crate::helper;

/// Scripts, and processes that lose their parent by each.
const SCRIPTS: usize = 200;
const ORPHANS: usize = 50;

/// Each leaves processes that end by themselves, without a parent that would wait for them, and ends with its own code.
const LEAVING: &str = r#"#!/usr/bin/env python3
import os, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
sys.exit(int(sys.argv[2]))
"#;

#[test]
fn the_first_process_of_a_container_leaves_no_zombies_and_takes_no_script_its_exit_code() {
    let Some(told) = as_the_first_process("reap") else { return };
    assert!(told.contains("zombies: 0\n"), "{told}");
}

#[test]
fn without_being_told_to_it_would_be_full_of_zombies() {
    // The twin.
    let Some(told) = as_the_first_process("do not") else { return };
    assert!(told.contains("zombies: ") && !told.contains("zombies: 0\n"), "{told}");
}

fn as_the_first_process(how: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        println!("TIER: NOT ROOT HERE: an agent as the first process of a container was not tried");
        return None;
    }
    let bench = Bench::new();
    fs::write(bench.path("how"), how).unwrap();
    let helper = helper::command("run as the first process", &bench.path(""));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(helper.get_program());
    command.args(helper.get_args()).envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(helper::finish(command))
}

pub(crate) fn help_as_the_first_process(folder: &Path) {
    assert_eq!(std::process::id(), 1);
    write_script(&folder.join("scripts"), "leave.py", LEAVING);
    let reap = fs::read_to_string(folder.join("how")).unwrap() == "reap";
    let executor = builder_in(folder).reap_orphans(reap).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut scripts = tokio::task::JoinSet::new();
        for number in 0..if reap { SCRIPTS } else { SCRIPTS / 20 } {
            let code = i32::try_from(number % 100).unwrap();
            let request = ExecuteScriptRequest::new("leave.py").args([ORPHANS.to_string(), code.to_string()]);
            let executor = executor.clone();
            scripts.spawn(async move { (executor.execute(request).await.unwrap(), code) });
        }
        while let Some(ended) = scripts.join_next().await {
            let (result, code) = ended.unwrap();
            assert_eq!(result.exit_code, Some(code), "{result:?}");
        }
        // None may be older than a second; those that have ended since are younger.
        let before = zombies();
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("zombies: {}", zombies().intersection(&before).count());
    });
}

/// Those that there are. A pid is not used again before all the others were.
fn zombies() -> BTreeSet<OsString> {
    let is_zombie = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| is_zombie(&stat)))
        .map(|entry| entry.file_name())
        .collect()
}
