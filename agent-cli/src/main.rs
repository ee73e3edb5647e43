//! The agent as a command line: runs scripts here, keeps their manifest, and talks to the HTTP service.
//!
//! Data goes to standard output, talk to standard error.

mod about;
mod address;
mod args;
mod asked;
mod backup;
mod client;
mod complete;
mod context;
mod describe;
mod dry_run;
mod failure;
mod follow;
mod hint;
mod lint;
mod listener;
mod local;
mod man;
mod manifest;
mod new;
mod node;
mod output;
mod prompt;
mod run;
mod scripts;
mod secrets;
mod signals;
mod summary;
mod task;
mod terminal;
mod token;
mod trust;
mod unseen;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::output::Talk;

/// Exit code of `run` when the command line itself is wrong: every code below 125 may be the script's own.
const RUN_USAGE_CODE: u8 = 125;
/// Warnings that are left out: problems of the scripts folder are reported by the commands themselves, and how the end of
/// all processes is made sure stands in each result.
const QUIET: &str = "warn,task_runners::scripts=off,executor_core::builder=error";
/// Exit code of the other commands in that case.
const USAGE_CODE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // Somebody is typing: nothing else may be said.
    if let Command::Complete(args) = &cli.command {
        return complete::answer(args);
    }
    log_warnings();
    // Secrets and tokens shall be in no core file, and read by no other process of this user.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        output::say(&format!(
            "note: a core file of this process cannot be forbidden, and would hold secrets: {error}"
        ));
    }
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Run(args) => run::run(&cli.global, &args),
        Command::List(args) => scripts::list(&cli.global, &args),
        Command::Show(args) => scripts::show(&cli.global, &args),
        Command::Manifest(command) => manifest::run(&cli.global, command),
        Command::Task(command) => task::run(&cli.global, *command),
        Command::Node(command) => node::run(&cli.global, command),
        Command::Token(command) => token::run(&command),
        Command::Backup(args) => backup::back_up_state(&cli.global, &args),
        Command::Restore(args) => backup::restore(&cli.global, &args),
        Command::Lint(args) => lint::lint(&cli.global, &args),
        Command::New(args) => new::new(&cli.global, &args),
        Command::Man(args) => man::man(&args),
        Command::Completions(args) => Ok(complete::print_functions(&args)),
        Command::Complete(args) => Ok(complete::answer(&args)),
    }
}

/// Help and version are no failures; anything else is, with a code that no script of `run` can have.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when even this cannot be printed.
    let _ = error.print();
    match error.use_stderr() {
        false => ExitCode::SUCCESS,
        true if is_run(std::env::args_os()) => ExitCode::from(RUN_USAGE_CODE),
        true => ExitCode::from(USAGE_CODE),
    }
}

/// Whether the command is `run`: the first word that is neither an option nor the value of one.
fn is_run(words: impl Iterator<Item = OsString>) -> bool {
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            // Only options that hold for all commands can stand before the command.
            Some("--config" | "--scripts" | "--state") => drop(words.next()),
            Some(option) if option.starts_with('-') => {}
            command => return command == Some("run"),
        }
    }
    false
}

/// Warnings and errors of the libraries go to standard error, but for those that a command reports itself; `RUST_LOG`
/// asks for more.
fn log_warnings() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Talk)
        .with_ansi(terminal::stderr_has_colour())
        .without_time()
        .with_target(false)
        .init();
}
