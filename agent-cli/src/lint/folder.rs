//! A whole scripts folder: its scripts, and the files that look like scripts and can never be run.

use std::fs::{self, DirEntry, FileType};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use executor_integrity::{MANIFEST_NAME, SIGNATURE_NAME};
use task_runners::{NameError, ScriptName};

use super::{Finding, Found, Level, script};
use crate::failure::Failure;

/// Looks at everything below the folder.
pub(super) fn look(folder: &Path, found: &mut Found) -> Result<(), Failure> {
    walk(folder, "", found).map_err(|error| {
        Failure::new(format!("cannot read the scripts folder {}: {error}", folder.display()))
    })
}

/// The grammar of names bounds the depth.
fn walk(folder: &Path, prefix: &str, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        // Hidden ones are somebody else's, such as .git; the manifest is no script.
        let is_manifest = prefix.is_empty() && [MANIFEST_NAME, SIGNATURE_NAME].contains(&file_name.as_str());
        // What went away since the listing is nothing.
        let Ok(kind) = entry.file_type() else { continue };
        if file_name.starts_with('.') || is_manifest {
            continue;
        }
        let shown = format!("{prefix}{file_name}");
        match shown.parse::<ScriptName>() {
            Ok(_) if kind.is_dir() => {
                if let Err(error) = walk(&entry.path(), &format!("{shown}/"), found) {
                    let text = format!("this folder cannot be read: {error}");
                    found.findings.push(Finding::new(&shown, None, Level::Error, text));
                }
            }
            Ok(name) if kind.is_file() && is_executable(&entry) => {
                found.add(script::look(&entry.path(), &shown, &name));
            }
            Ok(_) => found.findings.extend(never_run(&entry, kind, &shown)),
            Err(NameError(problem)) => {
                if kind.is_dir() || is_executable(&entry) {
                    let text = format!("it can never be run by this name; expected {}", problem.expected);
                    found.findings.push(Finding::new(&shown, None, Level::Warning, text));
                }
            }
        }
    }
    Ok(())
}

/// What looks like a script and is none; data and libraries of scripts are neither.
fn never_run(entry: &DirEntry, kind: FileType, shown: &str) -> Option<Finding> {
    let warning = |text: &str| Some(Finding::new(shown, None, Level::Warning, text));
    if kind.is_symlink() {
        return warning("it is a symbolic link, which is not followed: put the file itself here");
    }
    if !kind.is_file() {
        return warning("it is neither a file nor a folder, and a verified folder may not hold it");
    }
    let mode = entry.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o022 != 0 {
        return warning(
            "others than its owner may write it, which a verified folder does not allow: chmod go-w it",
        );
    }
    // A library that others read in has no header of its own.
    if begins_like_a_script(&entry.path()) {
        return warning(
            "it begins like a script and is not executable: chmod +x it, or leave out its first line",
        );
    }
    None
}

fn begins_like_a_script(path: &Path) -> bool {
    let mut first = [0; 2];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && &first == b"#!"
}

fn is_executable(entry: &DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}
