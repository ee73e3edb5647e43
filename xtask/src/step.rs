//! Runs one program after another, says which, and remembers what failed.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// Steps of one command, in the repository's top folder.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    folder: &'a Path,
    failed: Vec<String>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, failed: Vec::new() }
    }

    /// Runs cargo, the same one that runs this.
    pub(crate) fn cargo(&mut self, arguments: &[&str]) -> bool {
        self.run(cargo().args(arguments))
    }

    /// Runs a program without input and says how it is called; whether it succeeded.
    pub(crate) fn run(&mut self, command: &mut Command) -> bool {
        let name = name_of(command);
        say(&format!("xtask: {name}"));
        let succeeded = match command.current_dir(self.folder).stdin(Stdio::null()).status() {
            Ok(status) => status.success(),
            Err(error) => {
                say(&format!("xtask: starting {name}: {error}"));
                false
            }
        };
        if !succeeded {
            self.failed.push(name);
        }
        succeeded
    }

    /// Remembers a step that did its work by itself.
    pub(crate) fn add(&mut self, name: &str, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            say(&format!("xtask: {failure}"));
            self.failed.push(name.to_owned());
        }
    }

    /// Success when every step succeeded.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.failed.is_empty() { Ok(()) } else { Err(Failure::Steps { names: self.failed }) }
    }
}

/// Cargo, the same one that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Talks to people. What cannot be said because nobody listens any more is lost, which harms nothing.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
