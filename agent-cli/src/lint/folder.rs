//! A whole scripts folder: its scripts, and the files that look like scripts and can never be run.

use std::path::Path;

use executor_integrity::{MANIFEST_NAME, SIGNATURE_NAME};
use task_runners::NameError;

use super::{Finding, Found, Level, script};
use crate::failure::Failure;
use crate::files::{self, Entry};

/// Looks at everything below the folder.
pub(super) fn look(folder: &Path, found: &mut Found) -> Result<(), Failure> {
    let entries = files::below(folder).map_err(|error| {
        Failure::new(format!("cannot read the scripts folder {}: {error}", folder.display()))
    })?;
    for entry in entries {
        // The manifest is no script.
        if ![MANIFEST_NAME, SIGNATURE_NAME].contains(&entry.shown.as_str()) {
            look_at(&entry, found);
        }
    }
    Ok(())
}

fn look_at(entry: &Entry, found: &mut Found) {
    let finding = |level, text: String| Finding::new(&entry.shown, None, level, text);
    match &entry.name {
        Ok(name) if entry.is_executable_file() => {
            found.add(script::look(&entry.path, &entry.shown, name));
        }
        Ok(_) => found.findings.extend(never_run(entry).map(|(level, text)| finding(level, text))),
        Err(NameError(problem)) if entry.kind.is_dir() || entry.is_executable_file() => {
            let text = format!("it can never be run by this name; expected {}", problem.expected);
            found.findings.push(finding(Level::Warning, text));
        }
        Err(_) => {}
    }
}

/// What looks like a script and is none; data and libraries of scripts are neither.
fn never_run(entry: &Entry) -> Option<(Level, String)> {
    if let Some(error) = &entry.unreadable {
        return Some((Level::Error, format!("this folder cannot be read: {error}")));
    }
    let warning = |text: &str| Some((Level::Warning, text.to_owned()));
    if entry.kind.is_symlink() {
        return warning("it is a symbolic link, which is not followed: put the file itself here");
    }
    if entry.kind.is_dir() {
        return None;
    }
    if !entry.kind.is_file() {
        return warning("it is neither a file nor a folder, and a verified folder may not hold it");
    }
    if entry.mode & 0o022 != 0 {
        return warning(
            "others than its owner may write it, which a verified folder does not allow: chmod go-w it",
        );
    }
    // A library that others read in has no first line of its own.
    if files::head(&entry.path).is_ok_and(|head| head.starts_with(b"#!")) {
        return warning(
            "it begins like a script and is not executable: chmod +x it, or leave out its first line",
        );
    }
    None
}
