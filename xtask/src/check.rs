//! `cargo xtask check`: everything that can be said about the repository without running it. All steps run, and the
//! failed ones are named at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docs;
use crate::failure::Failure;
use crate::licences;
use crate::programs::is_installed;
use crate::step::{Steps, cargo};

/// Runs all checks.
pub(crate) fn run(folder: &Path, arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::Usage { help: "check takes no arguments".to_owned() });
    }
    let mut steps = Steps::new(folder);
    steps.cargo(&["fmt", "--all", "--", "--check"]);
    steps.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    steps.run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"));
    match shell_scripts(folder) {
        Ok(scripts) if is_installed("shellcheck") => {
            steps.run(Command::new("shellcheck").args(scripts));
        }
        Ok(_) => {
            let report = "shellcheck is missing; `cargo xtask test` says how to get it".to_owned();
            steps.add("shellcheck", Err(Failure::Missing { report }));
        }
        Err(failure) => steps.add("shellcheck", Err(failure)),
    }
    steps.add("docs --check", docs::check(folder));
    steps.add("licences", licences::check(folder));
    steps.finish()
}

/// The shell scripts of the repository, by paths from its top folder.
fn shell_scripts(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let path = folder.join("scripts");
    let failed = |source| Failure::File { operation: "listing", path: path.clone(), source };
    let mut scripts = vec![PathBuf::from(".ci/run")];
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        if name.extension().is_some_and(|extension| extension == "sh") {
            scripts.push(Path::new("scripts").join(name));
        }
    }
    scripts.sort();
    Ok(scripts)
}
