//! This test program again, as another process that embeds the engine: one that can be killed, run out of things, or
//! be measured without disturbing other tests. What it does is told by its environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{
    clean_end, clock, descriptors, durability, exhaustion, folder_bytes, orphans, output, recovery, removal,
    secrets, workspaces,
};

/// The variable that says what to do.
const TASK: &str = "EXECUTOR_CORE_HELPER";
/// What `nobody` is called by number.
pub(crate) const NOBODY: u32 = 65_534;
/// The variable that names the folder to do it in.
const FOLDER: &str = "EXECUTOR_CORE_HELPER_FOLDER";

#[test]
fn the_test_program_acts_as_another_agent_when_told_to() {
    let (Ok(task), Some(folder)) = (std::env::var(TASK), std::env::var_os(FOLDER)) else {
        return;
    };
    let folder = PathBuf::from(folder);
    match task.as_str() {
        "run many until killed" => recovery::help_with_many(&folder),
        "run until killed" => recovery::help(&folder),
        "run with few descriptors" => exhaustion::help_with_few_descriptors(&folder),
        "run with few processes" => exhaustion::help_with_few_processes(&folder),
        "measure memory" => output::help(&folder),
        "end at once" => clean_end::help(&folder),
        "tell when a result is there" => durability::help(&folder),
        "hold a secret" => secrets::help(&folder),
        "hold a workspace" => workspaces::help(&folder),
        "run without standard descriptors" => descriptors::help_without_standard_descriptors(&folder),
        "run with ignored signals" => descriptors::help_with_ignored_signals(&folder),
        "run while the clock steps" => clock::help_while_the_clock_steps(&folder),
        "run as the first process" => orphans::help_as_the_first_process(&folder),
        "remove with few descriptors and little stack" => removal::help(&folder),
        "tell the bytes with few descriptors and little stack" => folder_bytes::help(&folder),
        "tell the bytes of what is closed" => folder_bytes::help_with_closed_folders(&folder),
        "remove what is closed" => removal::help_with_closed_folders(&folder),
        "build while children are ignored" => descriptors::help_while_children_are_ignored(&folder),
        other => panic!("nobody knows how to {other}"),
    }
}

/// The command that starts this program as such a process.
pub(crate) fn command(task: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "helper::the_test_program_acts_as_another_agent_when_told_to", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdin(Stdio::null());
    command
}

/// Runs one to its end, which must be a good one; gives what it wrote.
pub(crate) fn run(task: &str, folder: &Path) -> String {
    finish(command(task, folder))
}

/// The same command as the user `nobody`; only root may do so.
pub(crate) fn as_nobody(helper: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
    command.arg(helper.get_program()).args(helper.get_args());
    command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Runs a command to its end, which must be a good one; gives what it wrote.
pub(crate) fn finish(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

/// A helper that is killed when the test is done with it.
pub(crate) struct Helper(Child);

impl Helper {
    pub(crate) fn start(task: &str, folder: &Path) -> Self {
        Self(command(task, folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Kills it as `kill -9` does, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It has ended already where the test killed it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
