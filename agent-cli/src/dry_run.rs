//! `agent-cli run --dry-run`: what would run, without running it.

use std::process::ExitCode;

use task_runners::{ExecuteScriptRequest, ScriptRunner};

use crate::output::Failure;

/// Shows argv, environment, folder, limits and verification.
pub(crate) fn show(
    _runner: &ScriptRunner,
    _request: &ExecuteScriptRequest,
    _json: bool,
) -> Result<ExitCode, Failure> {
    Err(Failure::agent("not there yet"))
}
