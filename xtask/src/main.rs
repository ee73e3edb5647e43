//! One command for checks, tests and everything else that is done to this repository: `cargo xtask <command>`.
//!
//! Each command is a module and a line in [`COMMANDS`]; the help is made from that table.

mod bench;
mod check;
mod docs;
mod failure;
mod licences;
mod programs;
mod step;
mod test;
mod tools;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::Failure;

/// One command.
struct Command {
    name: &'static str,
    /// What it takes and does, for the help.
    help: &'static str,
    /// Does it, with the arguments behind its name, in the repository's top folder.
    run: fn(&Path, &[String]) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        help: "[nextest args]  get what tests need, build, run all tests",
        run: test::run,
    },
    Command { name: "check", help: "formatting, lints, documentation, shell scripts", run: check::run },
    Command { name: "bench", help: bench::HELP, run: bench::run },
    Command {
        name: "docs",
        help: "[--check]  make docs/configuration.md from etc/application.toml",
        run: docs::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            step::say(&format!("xtask: {failure}"));
            failure.exit_code()
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let (name, rest) = arguments.split_first().ok_or_else(|| Failure::Usage { help: help() })?;
    let command = COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Failure::Usage { help: help() })?;
    (command.run)(&top_folder(), rest)
}

/// The repository's top folder, whatever the current folder is. Cargo says at run time which checkout it works in; what
/// was compiled in may be another one, where several share their build folder.
fn top_folder() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn help() -> String {
    let lines =
        COMMANDS.iter().map(|command| format!("\n  cargo xtask {:<6} {}", command.name, command.help));
    format!("expected one of these commands:{}", lines.collect::<String>())
}
