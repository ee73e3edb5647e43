//! What the commands print, and how they fail.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;
use task_runners::{Problem, Refusal, StartError};

use crate::terminal::Style;

/// Why a command did not do what it was asked, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    details: Vec<String>,
}

/// Exit code when the agent itself failed.
const AGENT_FAILED: u8 = 125;
/// Exit code when a script was refused.
const REFUSED: u8 = 126;
/// Exit code when there is no such script.
const NOT_FOUND: u8 = 127;
/// Exit code of commands that run no script.
const FAILED: u8 = 1;

impl Failure {
    /// A command that runs no script failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), details: Vec::new() }
    }

    /// The agent failed before or beside the script.
    pub(crate) fn agent(message: impl Into<String>) -> Self {
        Self { code: AGENT_FAILED, message: message.into(), details: Vec::new() }
    }

    /// The input was refused; all problems are named.
    pub(crate) fn problems(problems: &[Problem]) -> Self {
        let details = problems.iter().map(Problem::to_string).collect();
        Self { code: REFUSED, message: "nothing was run; mend the following".to_owned(), details }
    }

    /// The same with details under the message, one to a line.
    pub(crate) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let style = Style::of_stderr();
        say(&format!("{} {}", style.red("error:"), self.message));
        for detail in &self.details {
            say(&format!("  {detail}"));
        }
        ExitCode::from(self.code)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(problems) => Self::problems(&problems),
            Refusal::Unverified { mut problems, mend } => {
                problems.push(format!("when all of it is as you want it: {mend}"));
                let message = "the scripts folder does not verify; nothing was run".to_owned();
                Self { code: REFUSED, message, details: problems }
            }
            Refusal::NotFound { .. } => {
                Self { code: NOT_FOUND, message: refusal.to_string(), details: Vec::new() }
            }
            Refusal::Broken { .. } => {
                Self { code: REFUSED, message: refusal.to_string(), details: Vec::new() }
            }
            Refusal::Unavailable(_) => Self::agent(refusal.to_string()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Invalid(problems) => Self::problems(problems),
            _ => {
                let code = u8::try_from(error.command_line_code()).unwrap_or(AGENT_FAILED);
                Self { code, message: error.to_string(), details: Vec::new() }
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::agent(error.to_string())
    }
}

/// Prints data, a line. A reader that went away is no failure: it has what it wanted.
pub(crate) fn print(text: &str) {
    write(format!("{text}\n").as_bytes());
}

/// Prints data as it is.
pub(crate) fn write(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Prints JSON, readable.
pub(crate) fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Says something to the person in front of it.
pub(crate) fn say(text: &str) {
    // Nobody listens: nothing to be done about it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Columns for people: each as wide as its widest cell, the last one as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}
