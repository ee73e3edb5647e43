//! What the commands print, and how they fail.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use task_runners::{Problem, Refusal, StartError};

use crate::terminal::{self, Style};

/// Why a command did not do what it was asked, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    /// The exit code where those below 125 may be a script's own.
    run_code: u8,
    is_unreachable: bool,
}

/// Exit code when the agent itself failed.
const AGENT_FAILED: u8 = 125;
/// Exit code when a script was refused.
const REFUSED: u8 = 126;
/// Exit code when there is no such script.
const NOT_FOUND: u8 = 127;
/// Exit code of commands that run no script.
const FAILED: u8 = 1;
/// Exit code when somebody asked for the end.
pub(crate) const CANCELLED: u8 = 130;
/// Takes the line away that the cursor stands in, and goes to its beginning (ECMA-48: CR, EL).
const WIPE: &str = "\r\x1b[2K";

/// Whether a status line stands on the terminal. It is changed under the lock of standard error only.
static STATUS_STANDS: AtomicBool = AtomicBool::new(false);

impl Failure {
    /// A command that runs no script failed.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::coded(FAILED, message)
    }

    /// The agent failed before or beside the script.
    pub(crate) fn agent(message: impl Into<String>) -> Self {
        Self::coded(AGENT_FAILED, message)
    }

    /// The input was refused; all problems are named.
    pub(crate) fn problems(problems: &[Problem]) -> Self {
        let details = problems.iter().map(Problem::to_string).collect();
        Self::coded(REFUSED, "nothing was run; mend the following").with_details(details)
    }

    /// The same with details under the message, one to a line.
    pub(crate) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The same with what may help, one to a line.
    pub(crate) fn with_hints(mut self, hints: Vec<String>) -> Self {
        self.hints = hints;
        self
    }

    /// The service did not answer.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { is_unreachable: true, ..Self::new(message) }
    }

    /// The service refused what it was asked: `status` is its HTTP status.
    pub(crate) fn refused(status: u16, message: impl Into<String>) -> Self {
        let run_code = match status {
            404 => NOT_FOUND,
            403 | 409 | 422 => REFUSED,
            _ => AGENT_FAILED,
        };
        Self { run_code, ..Self::new(message) }
    }

    /// Whether the service did not answer; trying again may help.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// The same for a command whose exit code is otherwise that of a script.
    pub(crate) fn beside_a_script(mut self) -> Self {
        self.code = self.run_code;
        self
    }

    fn coded(code: u8, message: impl Into<String>) -> Self {
        let run_code = code.max(AGENT_FAILED);
        let (details, hints) = (Vec::new(), Vec::new());
        Self { code, message: message.into(), details, hints, run_code, is_unreachable: false }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let style = Style::of_stderr();
        say(&format!("{} {}", style.red("error:"), self.message));
        for detail in &self.details {
            say(&format!("  {detail}"));
        }
        for hint in &self.hints {
            say(&format!("{} {hint}", style.dim("hint:")));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(problems) => Self::problems(&problems),
            Refusal::Unverified { problems, mend } => {
                let hint = format!("when all of it is as you want it: {mend}");
                Self::coded(REFUSED, "the scripts folder does not verify, so nothing of it is run or shown")
                    .with_details(problems)
                    .with_hints(vec![hint])
            }
            Refusal::NotFound { .. } => Self::coded(NOT_FOUND, refusal.to_string()),
            Refusal::Broken { .. } => Self::coded(REFUSED, refusal.to_string()),
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
                Self::coded(code, error.to_string())
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

/// Prints data as it is; false when nobody reads any more.
pub(crate) fn write(bytes: &[u8]) -> bool {
    if is_terminal() {
        wipe_status(&mut io::stderr().lock());
    }
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
    let _ = Talk.write_all(format!("{text}\n").as_bytes());
}

/// Shows a line that goes away before anything else is written. Only where both outputs are a terminal: behind a pipe
/// stands a program that may draw on the same screen. It must not be wider than any terminal.
pub(crate) fn status(text: &str) {
    if !is_terminal() || !terminal::stderr_moves() {
        return;
    }
    let mut err = io::stderr().lock();
    let style = Style::of_stderr();
    STATUS_STANDS.store(true, Ordering::Relaxed);
    // As in `say`.
    let _ = write!(err, "{WIPE}{}", style.dim(text)).and_then(|()| err.flush());
}

/// Standard error for everybody who says something there: a status line goes first.
#[derive(Debug)]
pub(crate) struct Talk;

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        wipe_status(&mut err);
        // Whole lines at once: two that speak at the same time are not mixed.
        err.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Takes a status line away. The lock keeps others from drawing one in between.
fn wipe_status(err: &mut io::StderrLock<'_>) {
    if STATUS_STANDS.swap(false, Ordering::Relaxed) {
        // As in `say`.
        let _ = err.write_all(WIPE.as_bytes());
    }
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
