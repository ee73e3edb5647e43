//! `agent-cli run --dry-run`: what would run, without running it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use serde_json::json;
use task_runners::{ExecuteScriptRequest, Leftovers, Preview, ScriptRunner};

use crate::failure::Failure;
use crate::output::{self, table};

/// Shows argv, environment, folder, limits and verification.
pub(crate) fn show(
    runner: &ScriptRunner,
    request: &ExecuteScriptRequest,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let preview = runner.executor().preview(request)?;
    if as_json {
        output::print_json(&to_json(&preview));
        return Ok(ExitCode::SUCCESS);
    }
    for line in table(&rows(&preview)) {
        output::print(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(preview: &Preview) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (index, word) in preview.command.iter().enumerate() {
        rows.push(row(&format!("argv[{index}]"), shown(word)));
    }
    rows.push(row("folder", preview.work_dir.display().to_string()));
    rows.push(row("sha256", preview.script_sha256.clone()));
    let verified =
        preview.manifest.as_ref().map_or("no".to_owned(), |manifest| format!("yes, by manifest {manifest}"));
    rows.push(row("verified", verified));
    rows.push(row(
        "timeout",
        format!("{:?}, then TERM and {:?} until KILL", preview.timeout, preview.kill_grace),
    ));
    rows.push(row("kill scope", json!(preview.kill_scope).as_str().unwrap_or_default().to_owned()));
    rows.push(row("leftovers", leftovers(preview.leftovers).to_owned()));
    rows.push(row("log", format!("{} bytes at most", preview.max_log_bytes)));
    for (name, value) in &preview.env {
        rows.push(row("env", format!("{name}={}", shown(value))));
    }
    rows
}

fn leftovers(policy: Leftovers) -> &'static str {
    match policy {
        Leftovers::Kill => "ended with the script",
        Leftovers::Report => "left running, and counted",
    }
}

/// A word as it can be shown: text as it is, control characters and bytes that are no text escaped.
fn shown(word: &OsStr) -> String {
    match word.to_str() {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => word.as_bytes().escape_ascii().to_string(),
    }
}

fn to_json(preview: &Preview) -> serde_json::Value {
    let env: serde_json::Map<String, serde_json::Value> =
        preview.env.iter().map(|(name, value)| (name.clone(), json!(value.to_string_lossy()))).collect();
    json!({
        "command": preview.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>(),
        "env": env,
        "work_dir": preview.work_dir.display().to_string(),
        "script_sha256": preview.script_sha256,
        "manifest": preview.manifest,
        "timeout_s": preview.timeout.as_secs_f64(),
        "kill_grace_s": preview.kill_grace.as_secs_f64(),
        "leftovers": preview.leftovers,
        "kill_scope": preview.kill_scope,
        "max_log_bytes": preview.max_log_bytes,
    })
}
