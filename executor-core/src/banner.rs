//! The two banners that frame a log, as the seed of this project wrote them. Their lengths stand in the result,
//! so that a script that prints something alike deceives nobody.

use std::fmt::{Display, Result, Write};

use jiff::Timestamp;

use crate::result::{ExecutionResult, Outcome};

/// How the started banner begins.
const STARTED: &str = "\n=== Execution Started ===\n";
/// Room for a started banner of usual length.
const STARTED_BYTES: usize = 512;

/// What the started banner tells.
pub(crate) struct Started<'a> {
    pub(crate) at: Timestamp,
    pub(crate) work_dir: &'a str,
    pub(crate) script: &'a str,
    pub(crate) metadata: &'a [(&'static str, &'a dyn Display)],
}

/// The banner above the script's own output.
pub(crate) fn started(banner: &Started<'_>) -> String {
    let mut text = Escaped { text: String::with_capacity(STARTED_BYTES) };
    text.raw(STARTED);
    text.raw("Time: ");
    text.escaped(&time(banner.at));
    text.raw("\nWorkDir: ");
    text.escaped(&banner.work_dir);
    text.raw("\nScript: ");
    text.escaped(&banner.script);
    text.raw("\nMetadata:");
    for (name, value) in banner.metadata {
        text.raw(" ");
        text.raw(name);
        text.raw("=");
        text.escaped(value);
    }
    text.raw("\n\n");
    text.text
}

/// A text in the making whose values are escaped as they are written.
struct Escaped {
    text: String,
}

impl Escaped {
    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn escaped(&mut self, value: &dyn Display) {
        // Writing into a string cannot fail.
        let _ = write!(self, "{value}");
    }
}

impl Write for Escaped {
    fn write_str(&mut self, text: &str) -> Result {
        let is_plain = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'\\' | b'\'' | b'"');
        if text.bytes().all(is_plain) {
            self.text.push_str(text);
            return Ok(());
        }
        write!(self.text, "{}", text.escape_debug())
    }
}

/// Length of the started banner at the beginning of a log whose result is lost. The agent escapes what it writes there,
/// so that it ends at the first empty line behind its title; 0 when it was not written whole.
pub(crate) fn started_length(log: &[u8]) -> u64 {
    let is_end = |pair: &[u8]| pair == b"\n\n";
    let end = log.starts_with(STARTED.as_bytes()).then(|| log.windows(2).position(is_end)).flatten();
    end.map_or(0, |end| end as u64 + 2)
}

/// The banner below it.
pub(crate) fn finished(at: Timestamp, result: &ExecutionResult) -> String {
    let code = result.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    format!(
        "\n=== Execution Finished ===\nTime: {}\nDuration: {}ms\nSuccess: {}\nExitCode: {code}\nError: {}\n",
        time(at),
        result.duration_ms,
        result.success,
        outcome(&result.outcome),
    )
}

/// An outcome in a few words; `none` where all went well.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code: 0 } => "none".to_owned(),
        Outcome::Exited { code } => format!("exit code {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::OutOfMemory => "out of memory".to_owned(),
        Outcome::NotStarted => "not started".to_owned(),
        Outcome::Interrupted => "the agent stopped while it ran".to_owned(),
    }
}

fn time(at: Timestamp) -> impl Display {
    at.strftime("%Y-%m-%d %H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_started_banner_is_found_again() {
        let values: [(_, &dyn Display); 1] = [("created_by", &"two\n\nlines")];
        let at = Timestamp::UNIX_EPOCH;
        let banner = started(&Started { at, work_dir: "/w", script: "/s\n\n", metadata: &values });
        assert_eq!(started_length(format!("{banner}\n\noutput\n\n").as_bytes()), banner.len() as u64);
        assert_eq!(started_length(&banner.as_bytes()[..banner.len() - 1]), 0);
        assert_eq!(started_length(b"a\n\n"), 0);
    }
}
