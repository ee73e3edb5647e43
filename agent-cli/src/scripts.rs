//! `agent-cli list` and `agent-cli show`: the scripts, and whether they are verified.

mod place;
mod rows;
mod served;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use task_runners::description::Effect;
use task_runners::{NameError, Refusal, ScriptEntry, ScriptName, Scripts};

use crate::about;
use crate::args::{Global, ListArgs, ShowArgs};
use crate::context;
use crate::describe;
use crate::failure::Failure;
use crate::hint;
use crate::output::{self, say, table};
use crate::terminal::escaped_line;

/// Lists all scripts: those of this host, or those of a service with how each ended last.
pub(crate) fn list(global: &Global, args: &ListArgs) -> Result<ExitCode, Failure> {
    if args.last.server.is_some() {
        return served::list(global, args);
    }
    let scripts = context::scripts(&context::settings(global)?)?;
    let entries = scripts.list()?;
    report_problems(&scripts);
    if args.json {
        output::print_json(&json!({ "scripts": entries, "next": null, "verification": scripts.status() }));
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<rows::Line> = entries.iter().map(|entry| line(entry, &scripts)).collect();
    rows::print(&lines);
    if entries.is_empty() {
        say(&format!("no executable files in {}", scripts.folder().display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(entry: &ScriptEntry, scripts: &Scripts) -> rows::Line {
    let says_nothing = entry.broken.is_empty() && entry.description.is_none();
    let comment = if says_nothing { file(entry, scripts).map(|path| about::summary(&path)) } else { None };
    rows::Line::of(&json!(entry), comment, None)
}

fn not_found(name: &str, scripts: &Scripts) -> Failure {
    let refusal = Refusal::NotFound { name: name.to_owned() };
    let hints = hint::for_refusal(&refusal, scripts);
    Failure::from(refusal).with_hints(hints)
}

/// Shows one script.
pub(crate) fn show(global: &Global, args: &ShowArgs) -> Result<ExitCode, Failure> {
    if args.last.server.is_some() {
        return served::show(global, args);
    }
    let scripts = context::scripts(&context::settings(global)?)?;
    let name: ScriptName = args.script.parse().map_err(|NameError(problem)| {
        let problems = [problem];
        let hints = hint::for_problems(&problems, &args.script, &scripts);
        Failure::problems(&problems).with_hints(hints)
    })?;
    let entry = scripts.get(&name)?.ok_or_else(|| not_found(&args.script, &scripts))?;
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
    let facts = [("effect", entry.effect.map(Effect::as_str)), ("group", entry.group.as_deref())];
    for (name, fact) in facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))) {
        rows.push(vec![name.to_owned(), escaped_line(fact)]);
    }
    if !entry.tags.is_empty() {
        rows.push(vec!["tags".to_owned(), escaped_line(&entry.tags.join(", "))]);
    }
    rows.extend(entry.broken.iter().map(|broken| remark("broken", broken.line, &broken.reason, &entry.name)));
    rows.extend(
        entry.warnings.iter().map(|warning| remark("warning", warning.line, &warning.reason, &entry.name)),
    );
    for line in table(&rows) {
        output::print(&line);
    }
    let mut about = file(&entry, &scripts).map(|path| about::lines(&path)).unwrap_or_default();
    if let Some(declared) = &entry.declared {
        let before = if about.is_empty() { Vec::new() } else { vec![String::new()] };
        about.splice(0..0, describe::lines(&entry.name, declared).into_iter().chain(before));
    }
    if let Some(description) = &entry.description {
        about.splice(0..0, [escaped_line(description), String::new()]);
    }
    if !about.is_empty() {
        output::print("");
    }
    for line in about {
        output::print(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// A remark on a script with its line.
fn remark(what: &str, line: Option<u64>, reason: &str, name: &str) -> Vec<String> {
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    vec![what.to_owned(), escaped_line(&format!("{place}{}", without_name(reason, name)))]
}

/// A reason without the script's name, which stands in the same line already.
pub(crate) fn without_name<'a>(reason: &'a str, name: &str) -> &'a str {
    let prefix = format!("cannot run the script '{name}': ");
    reason.strip_prefix(prefix.as_str()).unwrap_or(reason)
}

/// The file that would be executed.
fn file(entry: &ScriptEntry, scripts: &Scripts) -> Option<PathBuf> {
    let (source, _) = scripts.source().ok()?;
    Some(source.resolve(&entry.name.parse().ok()?).ok()?.path)
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
        say(&format!("  {}", escaped_line(problem)));
    }
}
