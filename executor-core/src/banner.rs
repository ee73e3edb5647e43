//! The two banners that frame a log, as the seed of this project wrote them. Their lengths stand in the result,
//! so that a script that prints something alike deceives nobody.

use jiff::Timestamp;

use crate::result::{ExecutionResult, Outcome};

/// What the started banner tells.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    pub(crate) at: Timestamp,
    pub(crate) work_dir: &'a str,
    pub(crate) script: &'a str,
    pub(crate) metadata: &'a [(&'static str, String)],
}

/// The banner above the script's own output.
pub(crate) fn started(banner: &Started<'_>) -> String {
    let metadata: Vec<String> =
        banner.metadata.iter().map(|(name, value)| format!("{name}={}", value.escape_debug())).collect();
    format!(
        "\n=== Execution Started ===\nTime: {}\nWorkDir: {}\nScript: {}\nMetadata: {}\n\n",
        time(banner.at),
        banner.work_dir.escape_debug(),
        banner.script.escape_debug(),
        metadata.join(" "),
    )
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

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
