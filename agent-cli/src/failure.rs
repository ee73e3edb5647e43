//! Why a command did not do what it was asked: what is told of it, and its exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use task_runners::{Problem, Refusal, StartError};

use crate::output::say;
use crate::terminal::{Style, escaped_line};

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
    /// The service's own name for why it refused; none where it did not.
    refusal: String,
}

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

    /// What was to be submitted has mistakes that the service need not be asked about; all of them are named.
    pub(crate) fn misspelt(problems: &[Problem]) -> Self {
        let details = problems.iter().map(Problem::to_string).collect();
        let message = "nothing was submitted; mend the following";
        Self { run_code: REFUSED, ..Self::new(message) }.with_details(details)
    }

    /// The same with details under the message, one to a line.
    pub(crate) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The same with what may help, one to a line.
    pub(crate) fn with_hints(mut self, hints: Vec<String>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// The service did not answer.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { is_unreachable: true, ..Self::new(message) }
    }

    /// The service refused what it was asked: `status` is its HTTP status, `refusal` its own name for why.
    pub(crate) fn refused(status: u16, refusal: &str, message: impl Into<String>) -> Self {
        let run_code = match status {
            404 => NOT_FOUND,
            403 | 409 | 422 => REFUSED,
            _ => AGENT_FAILED,
        };
        // What a proxy says whose service is being started again is no refusal.
        let is_unreachable = matches!(status, 502..=504);
        Self { run_code, is_unreachable, refusal: refusal.to_owned(), ..Self::new(message) }
    }

    /// Why the service refused, by its own name for that; empty where it did not.
    pub(crate) fn refusal(&self) -> &str {
        &self.refusal
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
        let (message, refusal) = (message.into(), String::new());
        Self { code, message, details, hints, run_code, is_unreachable: false, refusal }
    }

    /// Prints it and gives the exit code. What comes from files or over the network steers no terminal.
    pub(crate) fn report(&self) -> ExitCode {
        let style = Style::of_stderr();
        let message: Vec<String> = self.message.lines().map(escaped_line).collect();
        say(&format!("{} {}", style.red("error:"), message.join("\n")));
        for detail in &self.details {
            say(&format!("  {}", escaped_line(detail)));
        }
        for hint in &self.hints {
            say(&format!("{} {}", style.dim("hint:"), escaped_line(hint)));
        }
        ExitCode::from(self.code)
    }
}

/// For a line of its own; it may be the service's text.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped_line(&self.message))
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
            Refusal::NotFound { .. } | Refusal::NoNode { .. } => Self::coded(NOT_FOUND, refusal.to_string()),
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
