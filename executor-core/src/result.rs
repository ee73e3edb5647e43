//! What an execution ended with: the outcome, and everything that the record says about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{command_line_code, is_host_fault};

/// How the main process ended, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// It ended by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that the agent did not send ended it.
    Signaled {
        /// The signal's number (signal(7)).
        signal: i32,
    },
    /// The agent ended it because its time was over.
    TimedOut,
    /// The agent ended it because somebody asked for that.
    Cancelled,
    /// The kernel ended it for want of memory.
    OutOfMemory,
    /// It could not be started.
    NotStarted,
    /// The agent died while it ran.
    Interrupted,
}

/// By which means the agent made sure that nothing of the execution is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillScope {
    /// A cgroup of its own (cgroups(7), version 2), ended by `cgroup.kill`.
    Cgroup,
    /// The session, and processes that carry the execution's mark in their environment.
    Marker,
}

/// How sure it is that nothing of the execution is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containment {
    /// The kernel vouches for it.
    Guaranteed,
    /// A process that left the session and cleared its environment may have been missed.
    BestEffort,
    /// Leftovers were found and left alone, as the settings say, or could not be killed.
    Waived,
}

impl Containment {
    /// How sure it is, for a scope in which nothing was found any more, or in which something was.
    pub(crate) fn of(scope: KillScope, is_empty: bool) -> Self {
        match scope {
            _ if !is_empty => Self::Waived,
            KillScope::Cgroup => Self::Guaranteed,
            KillScope::Marker => Self::BestEffort,
        }
    }
}

/// What kept the script from harming the host. This version has no confinement to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// Nothing: the script has all rights of the agent's user.
    #[default]
    None,
}

/// The log file in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogSummary {
    /// Length of the file in bytes, with both banners.
    pub bytes: u64,
    /// Length of the started banner.
    pub header_bytes: u64,
    /// Length of the finished banner.
    pub footer_bytes: u64,
    /// Bytes that the script wrote behind the cap and that were dropped.
    pub truncated_bytes: u64,
    /// Why bytes are missing for another reason than the cap, such as a full disk.
    pub incomplete: Option<String>,
}

impl LogSummary {
    /// Brings what is said of a log into line with how much of it there is.
    pub fn fit(&mut self, bytes: u64) {
        if self.bytes > bytes {
            let missing =
                format!("the log ends at byte {bytes} of {}: the rest of it is not there", self.bytes);
            self.incomplete.get_or_insert(missing);
        }
        if self.bytes != bytes {
            (self.bytes, self.footer_bytes) = (bytes, 0);
        }
        self.header_bytes = self.header_bytes.min(bytes);
        self.footer_bytes = self.footer_bytes.min(bytes - self.header_bytes);
    }
}

/// What the main process and those that it waited for used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode, milliseconds.
    pub user_ms: u64,
    /// CPU time in the kernel, milliseconds.
    pub system_ms: u64,
    /// Peak resident memory in KiB; none where the agent's own peak hides it (getrusage(2), `ru_maxrss`).
    pub max_rss_kib: Option<u64>,
}

/// Why an execution has no ordinary outcome, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Stable, `snake_case`.
    pub code: String,
    /// What happened and what would be right.
    pub message: String,
}

/// The result of one execution, as `result.json` and every front show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it exited with code 0.
    pub success: bool,
    /// The exit code; none unless it exited.
    pub exit_code: Option<i32>,
    /// Time from just before the start to the end of the main process, milliseconds, monotonic clock.
    pub duration_ms: u64,
    /// What was executed: path and arguments.
    pub command: Vec<String>,
    /// SHA-256 of the script's file, hexadecimal.
    pub script_sha256: Option<String>,
    /// Digest of the manifest that vouched for the file; none when it ran unverified.
    pub manifest: Option<String>,
    /// Output parameters that the script wrote.
    pub output_params: BTreeMap<String, String>,
    /// What is wrong with the output parameters: their file breaks a rule, or one has not the declared type, and there are
    /// none; or a declared one is missing.
    pub output_error: Option<String>,
    /// How the end of all its processes was made sure; none when nothing was started.
    pub kill_scope: Option<KillScope>,
    /// How sure that is; none when nothing was started.
    pub containment: Option<Containment>,
    /// What confined the script.
    pub confinement: Confinement,
    /// Live processes, the main one aside, when the sweep began.
    pub leftovers_killed: u64,
    /// Whether somebody else still held the output open when the main process ended.
    pub leaked_output: bool,
    /// The log in numbers.
    pub log: LogSummary,
    /// What it used.
    pub usage: Usage,
    /// Set when there is no ordinary outcome.
    pub error: Option<ErrorReport>,
}

impl ExecutionResult {
    /// A result in which nothing ran: `outcome` with the reason, everything else empty.
    pub fn without_run(outcome: Outcome, code: &str, message: impl Into<String>) -> Self {
        Self {
            outcome,
            success: false,
            exit_code: None,
            duration_ms: 0,
            command: Vec::new(),
            script_sha256: None,
            manifest: None,
            output_params: BTreeMap::new(),
            output_error: None,
            kill_scope: None,
            containment: None,
            confinement: Confinement::None,
            leftovers_killed: 0,
            leaked_output: false,
            log: LogSummary::default(),
            usage: Usage::default(),
            error: Some(ErrorReport { code: code.to_owned(), message: message.into() }),
        }
    }

    /// Whether nothing was started for a reason of the host's, which may pass.
    pub fn may_start_later(&self) -> bool {
        let code = self.error.as_ref().map_or("", |error| &error.code);
        self.outcome == Outcome::NotStarted && is_host_fault(code)
    }

    /// The exit code for a command line: the script's own; 124 timed out, 125 the agent failed, 126 could not be
    /// executed, 127 no such script, 128+n ended by signal n, 130 cancelled.
    pub fn command_line_code(&self) -> i32 {
        match self.outcome {
            Outcome::Exited { code } => code,
            Outcome::Signaled { signal } => 128 + signal,
            Outcome::TimedOut => 124,
            Outcome::Cancelled => 130,
            Outcome::OutOfMemory => 137,
            Outcome::NotStarted => command_line_code(self.error.as_ref().map_or("", |error| &error.code)),
            Outcome::Interrupted => 125,
        }
    }
}
