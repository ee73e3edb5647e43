//! `agent-cli backup` and `agent-cli restore`: copies of the state folder, and what is made from them.

use std::process::ExitCode;

use task_runners::error_chain;
use task_service::{Backup, back_up, restore as restore_state};

use crate::args::{BackupArgs, Global};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, count, say};

/// What is no part of a state folder, and is to be kept in another way.
const LEFT_OUT: &str = "not in it: the configuration, the scripts folder, keys of TLS and of manifests, working folders, \
    scratch folders";

/// Copies the state folder, while a service may work on it.
pub(crate) fn back_up_state(global: &Global, args: &BackupArgs) -> Result<ExitCode, Failure> {
    let state = context::settings(global)?.script_executor.state_dir;
    let backup = back_up(&state, &args.folder).map_err(|error| failed(&error))?;
    output::print(&args.folder.display().to_string());
    say(&format!("{} of {}", summary(&backup), state.display()));
    say(LEFT_OUT);
    say(&format!("to use it on a new state folder: agent-cli restore {}", args.folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// Makes the state folder from a backup.
pub(crate) fn restore(global: &Global, args: &BackupArgs) -> Result<ExitCode, Failure> {
    let state = context::settings(global)?.script_executor.state_dir;
    let backup = restore_state(&args.folder, &state).map_err(|error| failed(&error))?;
    output::print(&state.display().to_string());
    say(&format!("{}, as of {}", summary(&backup), backup.created_at));
    say("tasks that ran then are interrupted at the next start, tasks that waited start");
    Ok(ExitCode::SUCCESS)
}

fn summary(backup: &Backup) -> String {
    let (tasks, files) = (count(backup.tasks, "task"), count(backup.files, "file"));
    format!("{tasks}, {files}, {} bytes", backup.bytes)
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(error_chain(error))
}
