//! What a caller asks the engine to execute.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::environment;
use crate::names::{NameError, ScriptName, TaskId, WorkspaceName};
use crate::output_params::OutputParams;
use crate::problem::Problem;
use crate::record::{DEBUG_FILE, LOG_FILE, RESULT_FILE, TASK_FILE};
use crate::result::Outcome;
use crate::script_source::ScriptSource;
use crate::secret_files::SecretFile;

/// What a time limit looks like, for messages.
pub const DURATION_EXPECTED: &str = "a time above zero with its unit, such as \"30s\", \"10m\" or \"1h30m\"";

/// Longest single argument or `NAME=value` that execve(2) takes (MAX_ARG_STRLEN), bytes with the closing null.
const MAX_STRING_BYTES: usize = 128 << 10;

/// A callback that is handed the script's output as it appears in the log.
pub type LogCallback = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What looks at the output parameters of a script that has ended. It takes away what must not be relied on, and gives what
/// is wrong, without any value.
pub type OutputCheck = Arc<dyn Fn(&mut OutputParams, &Outcome) -> Option<String> + Send + Sync>;

/// A script to execute, and how. Nothing is checked before [`ScriptExecutor::start`](crate::ScriptExecutor::start),
/// which names every mistake at once.
///
/// ```
/// use std::time::Duration;
/// use executor_core::ExecuteScriptRequest;
///
/// let request = ExecuteScriptRequest::new("task_debug.sh")
///     .args(["--verbose"])
///     .work_dir("task-01")
///     .timeout(Duration::from_secs(30))
///     .debug_script(true)
///     .log_callback(|bytes| print!("{}", bytes.escape_ascii()));
/// ```
#[derive(Clone)]
pub struct ExecuteScriptRequest {
    pub(crate) script: String,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) work_dir: Option<String>,
    /// Variables of declared parameters.
    pub(crate) declared: Vec<(String, OsString)>,
    pub(crate) secrets: Vec<SecretFile>,
    pub(crate) output_check: Option<OutputCheck>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) kill_grace: Option<Duration>,
    pub(crate) process_group: bool,
    pub(crate) group_kill: bool,
    pub(crate) debug_script: bool,
    pub(crate) log_file: String,
    pub(crate) log_callbacks: Vec<LogCallback>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) cancellation: Option<CancellationToken>,
    pub(crate) metadata: Metadata,
    pub(crate) spec: Option<serde_json::Value>,
    pub(crate) source: Option<Arc<dyn ScriptSource>>,
}

/// Who asked for an execution, when, and under which id. What is left out is made when the execution starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The task's id; a new UUID version 7 where there is none.
    pub id: Option<String>,
    /// Who asked; the name of the agent's user where nobody is named.
    pub created_by: Option<String>,
    /// When it was asked; now where nothing is said.
    pub created_at: Option<Timestamp>,
    /// The attempt, counted from 1.
    pub attempt: u32,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { id: None, created_by: None, created_at: None, attempt: 1 }
    }
}

impl ExecuteScriptRequest {
    /// A request for a script by its path relative to the scripts folder.
    pub fn new(script: impl Into<String>) -> Self {
        Self {
            script: script.into(),
            args: Vec::new(),
            env: Vec::new(),
            work_dir: None,
            declared: Vec::new(),
            secrets: Vec::new(),
            output_check: None,
            timeout: None,
            time_limit: None,
            kill_grace: None,
            process_group: true,
            group_kill: true,
            debug_script: false,
            log_file: LOG_FILE.to_owned(),
            log_callbacks: Vec::new(),
            stdin: Vec::new(),
            cancellation: None,
            metadata: Metadata::default(),
            spec: None,
            source: None,
        }
    }

    /// Takes the script from this source instead of the executor's own, such as the snapshot that was in use when
    /// the task was accepted.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn ScriptSource>) -> Self {
        self.source = Some(source);
        self
    }

    /// Appends arguments; they arrive as they are, whatever bytes they hold.
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable for the script.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the variable of a parameter that the script declares: a name with `usage_` in front, which no caller sets.
    #[must_use]
    pub fn declared(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.declared.push((name.into(), value.into()));
        self
    }

    /// Hands the script a secret: the value in a file of its scratch folder that only its user reads, and the file's path in
    /// this variable. The value stands in no argument, variable or record, and is on no disk: without a memory file system
    /// for scratch nothing is started. The file is gone before the end is told.
    #[must_use]
    pub fn secret_file(mut self, variable: impl Into<String>, value: SecretString) -> Self {
        self.secrets.push(SecretFile { variable: variable.into(), value });
        self
    }

    /// Looks at the output parameters when the script has ended. What it finds wrong is the result's `output_error`.
    #[must_use]
    pub fn output_check(mut self, check: OutputCheck) -> Self {
        self.output_check = Some(check);
        self
    }

    /// Works in the shared workspace of that name, which is kept and locked; without one the task has a folder of
    /// its own.
    #[must_use]
    pub fn work_dir(mut self, name: impl Into<String>) -> Self {
        self.work_dir = Some(name.into());
        self
    }

    /// Ends the script after this time; the executor's default where nothing is said, and its maximum at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The script's own time limit: default and ceiling for it, in place of those of the executor.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Time between TERM and KILL, instead of the executor's own.
    #[must_use]
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = Some(grace);
        self
    }

    /// Whether the script gets a session and a process group of its own. The default is yes; without, the signals
    /// before the last one reach its main process only.
    #[must_use]
    pub fn process_group(mut self, own: bool) -> Self {
        self.process_group = own;
        self
    }

    /// Whether TERM goes to the whole process group. The default is yes; without, it goes to the main process only.
    #[must_use]
    pub fn group_kill(mut self, group: bool) -> Self {
        self.group_kill = group;
        self
    }

    /// Whether to leave a `debug.sh` in the record that reproduces the run by hand.
    #[must_use]
    pub fn debug_script(mut self, wanted: bool) -> Self {
        self.debug_script = wanted;
        self
    }

    /// Name of the log file within the record, beside `stdout.txt`, which every log has (link(2)).
    #[must_use]
    pub fn log_file(mut self, name: impl Into<String>) -> Self {
        self.log_file = name.into();
        self
    }

    /// Adds a callback that is handed the log's bytes, banners included, as they appear. Any number of them may
    /// be added. Each runs on a thread of its own; a slow one never slows the script, a stuck one holds the result
    /// up for a second at most, and a panic in one ends that one only.
    #[must_use]
    pub fn log_callback(mut self, callback: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.log_callbacks.push(Arc::new(callback));
        self
    }

    /// What the script reads from its standard input; empty where nothing is said.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Cancels the execution when the token is cancelled.
    #[must_use]
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = Some(token);
        self
    }

    /// The task's id: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.metadata.id = Some(id.into());
        self
    }

    /// Who asked, when, under which id, and for which attempt.
    #[must_use]
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// What the caller was asked, kept in the record's `task.json` as it is.
    #[must_use]
    pub fn spec(mut self, spec: serde_json::Value) -> Self {
        self.spec = Some(spec);
        self
    }

    /// Checks everything that can be checked without looking at the host.
    ///
    /// # Errors
    /// Every mistake, in the order of the fields.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        self.checked().map(|_| ())
    }

    /// The names of the request as the types that say they were checked.
    pub(crate) fn checked(&self) -> Result<CheckedNames, Vec<Problem>> {
        let mut problems = Vec::new();
        let script = keep(self.script.parse::<ScriptName>(), &mut problems);
        let id = match &self.metadata.id {
            Some(id) => keep(id.parse::<TaskId>(), &mut problems),
            None => Some(TaskId::generate()),
        };
        let workspace =
            self.work_dir.as_ref().and_then(|name| keep(name.parse::<WorkspaceName>(), &mut problems));
        self.check_args(&mut problems);
        environment::check_callers(&self.env, &mut problems);
        environment::check_names(&self.declared, &mut problems);
        let secrets: Vec<_> =
            self.secrets.iter().map(|secret| (secret.variable.clone(), OsString::new())).collect();
        environment::check_names(&secrets, &mut problems);
        if let Some(created_by) = &self.metadata.created_by {
            problems.extend(string_problem("created_by", created_by.as_ref()));
        }
        self.check_times(&mut problems);
        self.check_log_file(&mut problems);
        match (script, id) {
            (Some(script), Some(id)) if problems.is_empty() => Ok(CheckedNames { script, id, workspace }),
            _ => Err(problems),
        }
    }

    fn check_args(&self, problems: &mut Vec<Problem>) {
        for (index, arg) in self.args.iter().enumerate() {
            let field = format!("args[{index}]");
            problems.extend(string_problem(&field, arg));
        }
    }

    fn check_times(&self, problems: &mut Vec<Problem>) {
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            problems.push(Problem::new("timeout", "duration", DURATION_EXPECTED));
        }
    }

    fn check_log_file(&self, problems: &mut Vec<Problem>) {
        let is_name = self.log_file.parse::<TaskId>().is_ok();
        if !is_name || [RESULT_FILE, TASK_FILE, DEBUG_FILE].contains(&self.log_file.as_str()) {
            let expected = "a plain file name of 1 to 64 letters, digits, '.', '_' and '-', and not the name of \
                another file of the record";
            problems.push(Problem::new("log_file", "file_name", expected));
        }
    }
}

/// The names of a request that passed its checks.
#[derive(Debug)]
pub(crate) struct CheckedNames {
    pub(crate) script: ScriptName,
    pub(crate) id: TaskId,
    pub(crate) workspace: Option<WorkspaceName>,
}

/// What is wrong with a string that execve(2) is to pass, if anything.
pub(crate) fn string_problem(field: &str, value: &OsStr) -> Option<Problem> {
    string_problem_beside(field, value, 0)
}

/// The same for a value that shares its string with so many other bytes.
pub(crate) fn string_problem_beside(field: &str, value: &OsStr, others: usize) -> Option<Problem> {
    if value.as_bytes().contains(&0) {
        return Some(Problem::new(field, "no_nul", "text without a null byte"));
    }
    (value.len() + others >= MAX_STRING_BYTES).then(|| Problem::new(field, "length", "less than 128 KiB"))
}

fn keep<T>(parsed: Result<T, NameError>, problems: &mut Vec<Problem>) -> Option<T> {
    parsed.map_err(|NameError(problem)| problems.push(problem)).ok()
}

/// The environment's values by name, for records: callers' variables only.
pub(crate) fn env_for_record(env: &[(String, OsString)]) -> BTreeMap<&str, String> {
    env.iter().map(|(name, value)| (name.as_str(), value.to_string_lossy().into_owned())).collect()
}

impl fmt::Debug for ExecuteScriptRequest {
    /// Leaves values out: arguments, variables and input may hold what nobody should read in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteScriptRequest")
            .field("script", &self.script)
            .field("args", &self.args.len())
            .field("env", &self.env.len())
            .field("work_dir", &self.work_dir)
            .field("timeout", &self.timeout)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}
