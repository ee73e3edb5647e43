//! `agent-cli list` and `agent-cli show`: the scripts, and whether they are verified.

use std::process::ExitCode;

use serde_json::json;
use task_runners::{ScriptEntry, ScriptName, Scripts};

use crate::args::{Global, ListArgs, ShowArgs};
use crate::context;
use crate::output::{self, Failure, say, table};

/// Characters of a digest that tell one from another for people.
const SHORT_DIGEST: usize = 12;

/// Lists all scripts.
pub(crate) fn list(global: &Global, args: &ListArgs) -> Result<ExitCode, Failure> {
    let scripts = context::scripts(&context::settings(global)?)?;
    let entries = scripts.list()?;
    report_problems(&scripts);
    if args.json {
        output::print_json(&json!({ "scripts": entries, "status": scripts.status() }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    for line in table(&rows) {
        output::print(&line);
    }
    if entries.is_empty() {
        say(&format!("no executable files in {}", scripts.folder().display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one script.
pub(crate) fn show(global: &Global, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let scripts = context::scripts(&context::settings(global)?)?;
    let name: ScriptName =
        args.script.parse().map_err(|task_runners::NameError(problem)| Failure::problems(&[problem]))?;
    let not_found = task_runners::Refusal::NotFound { name: args.script.clone() };
    let entry = scripts.get(&name)?.ok_or(not_found)?;
    report_problems(&scripts);
    if args.json {
        output::print_json(&json!(entry));
        return Ok(ExitCode::SUCCESS);
    }
    let status = scripts.status();
    let mut rows = vec![
        vec!["name".to_owned(), entry.name.clone()],
        vec!["folder".to_owned(), scripts.folder().display().to_string()],
        vec!["sha256".to_owned(), entry.sha256.clone()],
        vec!["verified".to_owned(), verified(&entry, status.manifest.as_deref())],
    ];
    rows.extend(entry.broken.iter().map(|broken| vec!["broken".to_owned(), broken.reason.clone()]));
    for line in table(&rows) {
        output::print(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &ScriptEntry) -> Vec<String> {
    let state = match (entry.broken.first(), entry.verified) {
        (Some(broken), _) => format!("broken: {}", broken.reason),
        (None, true) => "verified".to_owned(),
        (None, false) => "not verified".to_owned(),
    };
    let digest: String = entry.sha256.chars().take(SHORT_DIGEST).collect();
    vec![entry.name.clone(), digest, state]
}

fn verified(entry: &ScriptEntry, manifest: Option<&str>) -> String {
    match manifest {
        Some(manifest) if entry.verified => format!("yes, by manifest {manifest}"),
        _ => "no".to_owned(),
    }
}

/// A snapshot in use hides that its folder does not verify any more; people should know.
fn report_problems(scripts: &Scripts) {
    let status = scripts.status();
    if status.problems.is_empty() {
        return;
    }
    say("note: the scripts folder does not verify; what is shown is the snapshot in use");
    for problem in &status.problems {
        say(&format!("  {problem}"));
    }
}
