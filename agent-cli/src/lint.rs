//! `agent-cli lint`: what is wrong with scripts, and what should be otherwise, a line each as compilers write it. Scripts are
//! read and never run; a file may be looked at before it lies in the scripts folder.

mod folder;
mod script;

use std::path::Path;
use std::process::ExitCode;

use executor_integrity::{MANIFEST_NAME, VerifyPolicy, verify};
use serde_json::json;
use task_runners::{Refusal, ScriptName};

use crate::args::{Global, LintArgs};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, count, say};
use crate::terminal::{Style, escaped_line};

/// Exit code when something is broken.
const BROKEN: u8 = 1;

/// One thing that is wrong with a file, or should be otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: Option<u64>,
    level: Level,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// It cannot be run so.
    Error,
    /// It runs all the same.
    Warning,
}

/// All that was found, and in how many scripts.
#[derive(Debug, Default)]
struct Found {
    scripts: u64,
    findings: Vec<Finding>,
}

/// Names everything that is wrong with the scripts.
pub(crate) fn lint(global: &Global, args: &LintArgs) -> Result<ExitCode, Failure> {
    let settings = context::settings(global)?;
    let folder = &settings.script_executor.script_dir_prefix;
    let mut found = Found::default();
    if args.names.is_empty() {
        folder::look(folder, &mut found)?;
    }
    for given in &args.names {
        look_at(given, folder, &mut found)?;
    }
    found.findings.sort();
    found.findings.dedup();
    if args.json {
        output::print_json(&found.to_json());
    } else {
        found.print();
        hint_at_manifest(folder, &settings.scripts().public_keys);
    }
    let fails = found.count(Level::Error) > 0 || (args.strict && !found.findings.is_empty());
    Ok(if fails { ExitCode::from(BROKEN) } else { ExitCode::SUCCESS })
}

/// A script of that name, else a file at that path.
fn look_at(given: &Path, folder: &Path, found: &mut Found) -> Result<(), Failure> {
    let text = given.to_string_lossy();
    let name = text.parse::<ScriptName>().ok();
    if let Some(name) = name.filter(|name| folder.join(name.as_str()).symlink_metadata().is_ok()) {
        found.add(script::look(&folder.join(name.as_str()), name.as_str(), &name));
        return Ok(());
    }
    if text.contains('/') && given.is_file() {
        found.add(script::look_outside(given, &text));
        return Ok(());
    }
    let hint = format!("a file outside {} is named by a path with a '/', such as ./{text}", folder.display());
    Err(Failure::from(Refusal::NotFound { name: text.into_owned() }).with_hints(vec![hint]))
}

/// Whoever changes scripts has to vouch for them again.
fn hint_at_manifest(folder: &Path, public_keys: &[executor_integrity::PublicKey]) {
    let policy = VerifyPolicy::default().public_keys(public_keys.iter().cloned());
    if folder.join(MANIFEST_NAME).exists() && verify(folder, &policy).is_err() {
        say("the folder does not verify as it is now: agent-cli manifest verify says why");
    }
}

impl Found {
    /// Adds what was found in one script.
    fn add(&mut self, findings: Vec<Finding>) {
        self.scripts += 1;
        self.findings.extend(findings);
    }

    fn count(&self, level: Level) -> u64 {
        self.findings.iter().filter(|finding| finding.level == level).count() as u64
    }

    fn print(&self) {
        let style = Style::of_stdout();
        for Finding { file, line, level, text } in &self.findings {
            let line = line.map(|line| format!("{line}:")).unwrap_or_default();
            let level = match level {
                Level::Error => style.red("error:"),
                Level::Warning => style.yellow("warning:"),
            };
            output::print(&format!("{}:{line} {level} {}", escaped_line(file), escaped_line(text)));
        }
        let (errors, warnings) = (self.count(Level::Error), self.count(Level::Warning));
        let counted = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
        say(&format!("{}: {counted}", count(self.scripts, "script")));
    }

    fn to_json(&self) -> serde_json::Value {
        let findings = self.findings.iter().map(|Finding { file, line, level, text }| {
            json!({ "file": file, "line": line, "level": level.as_str(), "text": text })
        });
        json!({
            "scripts": self.scripts,
            "errors": self.count(Level::Error),
            "warnings": self.count(Level::Warning),
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

impl Finding {
    fn new(file: &str, line: Option<u64>, level: Level, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, level, text: text.into() }
    }
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
