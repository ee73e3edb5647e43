//! What JSON looks like, for the OpenAPI document. The crates that own these types know nothing of OpenAPI; the tests below
//! keep the two descriptions equal.
#![expect(dead_code, reason = "these types describe what other crates write; nobody makes one")]

mod attempt;
mod node;
mod script;

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use attempt::Attempt;
pub(crate) use node::{Drain, Node, NodePage, Target};
pub(crate) use script::{Script, ScriptPage};

/// What is asked: a script or runner by name, with everything that shapes its run. Unknown fields are refused.
#[derive(ToSchema)]
pub(crate) struct TaskSpec {
    /// The script's or runner's name.
    #[schema(example = "task_debug.sh", max_length = 255)]
    name: String,
    /// The wanted id. The same id with the same spec gives the task that exists; with another spec 409.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    id: Option<String>,
    /// Parameters by name.
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    params: Option<BTreeMap<String, Value>>,
    /// Secret parameters. In a submission those that must be declared so, with their values in `params`; in a task all that
    /// were given, whose values are shown nowhere.
    secrets: Option<Vec<String>>,
    /// Arguments, passed as they are.
    #[schema(max_items = 1024)]
    args: Option<Vec<String>>,
    /// Variables; the token lists those that it may set.
    env: Option<BTreeMap<String, String>>,
    /// A shared workspace; without one the task has a folder of its own.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    work_dir: Option<String>,
    /// Time limit, above zero and with its unit.
    #[schema(example = "10m")]
    timeout: Option<String>,
    /// Whether to leave a script that reproduces the run.
    debug_script: Option<bool>,
    /// Free labels for filters.
    labels: Option<BTreeMap<String, String>>,
    /// For whom the caller asks; kept, never trusted.
    on_behalf_of: Option<String>,
    /// What the script reads from its standard input.
    stdin: Option<String>,
    /// What to do when the shared workspace is in use.
    on_busy: Option<OnBusy>,
    /// Where it is to run; without it here.
    target: Option<Target>,
    /// For how long its node may be away, with its unit, before the task is given up and ends as `lost`; without it until
    /// somebody gives it up. Only with a target.
    #[schema(example = "2h")]
    unreachable_after: Option<String>,
    /// How often it is tried again; at most what its script declares, and that when left out.
    retries: Option<u32>,
    /// The script's name again, where it is destructive.
    confirm: Option<String>,
}

/// What to do when the shared workspace is in use.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum OnBusy {
    /// Wait in the queue. The default.
    Wait,
    /// Refuse the submission with 409.
    Refuse,
}

/// A task spec without a name: in the document it is made of that.
#[derive(ToSchema)]
pub(crate) struct RunSpec {}

/// What is given beside a task that is run again.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rerun {
    /// The script's name, where it is destructive.
    confirm: Option<String>,
}

/// A task: a spec that was accepted, with its state and, in the end, its result.
#[derive(ToSchema)]
pub(crate) struct Task {
    /// Its id; a UUID version 7 where the spec named none.
    id: String,
    /// The script's or runner's name.
    name: String,
    /// What was asked.
    spec: TaskSpec,
    /// Where it is in its life.
    status: Status,
    /// The node that it runs on; null means this agent.
    #[schema(required)]
    node: Option<String>,
    /// The attempt that runs, ran last, or is waited for, counted from 1.
    attempt: u32,
    /// The attempts before it, oldest first.
    attempts: Vec<Attempt>,
    /// The name of the token that asked.
    created_by: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was started.
    #[schema(required, format = DateTime)]
    started_at: Option<String>,
    /// When it reached its end.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// Length of the log file so far, bytes.
    log_bytes: u64,
    /// Since when its node has been away.
    #[schema(required, format = DateTime)]
    unreachable_since: Option<String>,
    /// The result, once it ended.
    #[schema(required)]
    result: Option<TaskResult>,
    /// What came of it after all, where it was given up before; lists leave it out.
    #[schema(required)]
    late_result: Option<TaskResult>,
}

/// Where a task is in its life. All but `queued` and `running` are terminal: reached once, never left.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Rejected,
    Interrupted,
    Lost,
}

/// How a task ended.
#[derive(ToSchema)]
pub(crate) struct TaskResult {
    /// How the main process ended, or why there was none.
    outcome: Outcome,
    /// Whether it exited with code 0.
    success: bool,
    /// The exit code; null unless it exited.
    #[schema(required)]
    exit_code: Option<i32>,
    /// Milliseconds from just before the start to the end of the main process.
    duration_ms: u64,
    /// What was executed: path and arguments.
    command: Vec<String>,
    /// SHA-256 of the script's file.
    #[schema(required)]
    script_sha256: Option<String>,
    /// Digest of the manifest that vouched for the file; null when it ran unverified.
    #[schema(required)]
    manifest: Option<String>,
    /// Output parameters that the script wrote.
    output_params: BTreeMap<String, String>,
    /// What is wrong with the output parameters: their file breaks a rule, or one has not the declared type, and there are
    /// none; or a declared one is missing.
    #[schema(required)]
    output_error: Option<String>,
    /// How the end of all its processes was made sure: `cgroup` or `marker`; null when nothing was started.
    #[schema(required)]
    kill_scope: Option<String>,
    /// How sure that is: `guaranteed`, `best_effort` or `waived`; null when nothing was started.
    #[schema(required)]
    containment: Option<String>,
    /// What confined the script.
    #[schema(example = "none")]
    confinement: String,
    /// Live processes, the main one aside, when the sweep began.
    leftovers_killed: u64,
    /// Whether somebody else still held the output open when the main process ended.
    leaked_output: bool,
    /// The log in numbers.
    log: LogSummary,
    /// What it used.
    usage: Usage,
    /// Set when there is no ordinary outcome.
    #[schema(required)]
    error: Option<ErrorReport>,
}

/// How the main process ended, or why there was none.
#[derive(ToSchema)]
pub(crate) struct Outcome {
    kind: OutcomeKind,
    /// The exit code, where it exited.
    code: Option<i32>,
    /// The signal's number, where one ended it.
    signal: Option<i32>,
}

/// Kinds of ends.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum OutcomeKind {
    Exited,
    Signaled,
    TimedOut,
    Cancelled,
    OutOfMemory,
    NotStarted,
    Interrupted,
}

/// The log file in numbers, bytes.
#[derive(ToSchema)]
pub(crate) struct LogSummary {
    /// Length of the file, with both banners.
    bytes: u64,
    /// Length of the started banner.
    header_bytes: u64,
    /// Length of the finished banner.
    footer_bytes: u64,
    /// What the script wrote behind the cap and was dropped.
    truncated_bytes: u64,
    /// Why bytes are missing for another reason than the cap.
    #[schema(required)]
    incomplete: Option<String>,
}

/// What the main process and those that it waited for used.
#[derive(ToSchema)]
pub(crate) struct Usage {
    /// CPU time in user mode, milliseconds.
    user_ms: u64,
    /// CPU time in the kernel, milliseconds.
    system_ms: u64,
    /// Peak resident memory in KiB; null where the agent's own peak hides it.
    #[schema(required)]
    max_rss_kib: Option<u64>,
}

/// Why there is no ordinary outcome.
#[derive(ToSchema)]
pub(crate) struct ErrorReport {
    /// Stable, for programs.
    code: String,
    /// For people.
    message: String,
}

/// A page of tasks, newest first.
#[derive(ToSchema)]
pub(crate) struct TaskPage {
    tasks: Vec<Task>,
    /// The `cursor` of the next page; null when this is the last one.
    #[schema(required)]
    next: Option<String>,
}

/// A runner.
#[derive(ToSchema)]
pub(crate) struct Runner {
    name: String,
    description: String,
}

/// The runners that task specs may name.
#[derive(ToSchema)]
pub(crate) struct RunnerList {
    runners: Vec<Runner>,
}

/// Problem details (RFC 9457).
#[derive(ToSchema)]
pub(crate) struct ProblemDetails {
    #[schema(example = "urn:devops-agent:error:invalid")]
    r#type: String,
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong and what would be right.
    detail: String,
    /// Stable, for programs.
    #[schema(example = "invalid")]
    code: String,
    /// Every field of the input that is wrong.
    errors: Option<Vec<FieldProblem>>,
    /// Everything that is wrong with the scripts folder.
    problems: Option<Vec<String>>,
    /// The command that mends it.
    mend: Option<String>,
}

/// One mistake in an input.
#[derive(ToSchema)]
pub(crate) struct FieldProblem {
    /// The field as the caller wrote it.
    #[schema(example = "timeout")]
    field: String,
    /// The rule that it broke; stable, for programs.
    #[schema(example = "duration")]
    rule: String,
    /// What would be right.
    expected: String,
}

#[cfg(test)]
mod tests;
