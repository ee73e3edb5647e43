//! Which files of an unverified scripts folder are scripts.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use executor_core::ScriptName;

/// The names of all executable regular files below `folder` that can be named, sorted. Links are not followed, and folders
/// that no script's name can lead into, hidden ones for one, are not looked into. One that cannot be read hides no
/// script outside it.
///
/// # Errors
/// When `folder` itself cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<ScriptName>> {
    let mut found = Vec::new();
    walk(folder, "", &mut found)?;
    found.sort();
    Ok(found)
}

/// The grammar of names bounds the depth.
fn walk(folder: &Path, prefix: &str, found: &mut Vec<ScriptName>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(name) = format!("{prefix}{name}").parse::<ScriptName>() else { continue };
        // What went away since the listing is nothing.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            match walk(&entry.path(), &format!("{name}/"), found) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %entry.path().display(), %error,
                        "this folder cannot be read, and its scripts are not listed");
                }
                _ => {}
            }
        } else if kind.is_file() && is_executable(&entry) {
            found.push(name);
        }
    }
    Ok(())
}

fn is_executable(entry: &fs::DirEntry) -> bool {
    // As above.
    entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}
