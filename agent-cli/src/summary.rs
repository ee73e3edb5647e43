//! What people are told about a run that has ended.

use jiff::Timestamp;
use task_runners::{Containment, ExecutionResult, Outcome};

use crate::output::{count, say};
use crate::terminal::{Style, escaped_line};

/// Says how it ended, what a person should know beside that, what the script handed back, and where its record is.
pub(crate) fn say_end(name: &str, id: &str, result: &ExecutionResult, record: &str) {
    say_outcome(name, result);
    for (name, value) in &result.output_params {
        say(&format!("  {name}={}", value.escape_debug()));
    }
    for note in notes(result) {
        say(&format!("  {}", escaped_line(&note)));
    }
    say(&Style::of_stderr().dim(&format!("  task {id}, record {record}")));
}

/// Says in one line how it ended.
pub(crate) fn say_outcome(name: &str, result: &ExecutionResult) {
    let style = Style::of_stderr();
    let end = outcome(&result.outcome);
    let end = if result.success { style.green(&end) } else { style.red(&end) };
    say(&format!("{}: {end} after {}", name.escape_debug(), duration(result.duration_ms)));
}

/// An outcome in a few words.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exit code {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::OutOfMemory => "out of memory".to_owned(),
        Outcome::NotStarted => "not started".to_owned(),
        Outcome::Interrupted => "interrupted".to_owned(),
    }
}

/// What a person should know beside the outcome.
fn notes(result: &ExecutionResult) -> Vec<String> {
    let mut notes = Vec::new();
    if result.leftovers_killed > 0 {
        let what = match result.containment {
            Some(Containment::Waived) => "left running",
            _ => "ended",
        };
        let (processes, were) = match result.leftovers_killed {
            1 => ("1 process".to_owned(), "was"),
            many => (format!("{many} processes"), "were"),
        };
        notes.push(format!("{processes} that it left behind {were} {what}"));
    }
    if result.log.truncated_bytes > 0 {
        let dropped = count(result.log.truncated_bytes, "byte");
        notes.push(format!("output above the limit was dropped: {dropped}"));
    }
    notes.extend(result.log.incomplete.iter().map(|why| format!("the log is incomplete: {why}")));
    notes.extend(result.output_error.iter().map(|why| format!("no output parameters: {why}")));
    notes.extend(result.error.iter().map(|error| error.message.clone()));
    notes
}

/// A time for people, in the way of all lists: to the second, in UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// The same where there is little room.
pub(crate) fn brief_moment(at: Timestamp) -> String {
    at.strftime("%m-%d %H:%M").to_string()
}

/// A duration for people.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{:01} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}
