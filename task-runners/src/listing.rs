//! Which files of an unverified scripts folder are scripts.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use executor_core::ScriptName;

/// Deepest folder below the scripts folder that a script's name can reach.
const MAX_DEPTH: usize = 8;

/// The names of all executable regular files below `folder` that can be named, sorted. Links are not followed.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<ScriptName>> {
    let mut found = Vec::new();
    walk(folder, "", MAX_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<ScriptName>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type()?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() && depth > 1 {
            walk(&entry.path(), &format!("{path}/"), depth - 1, found)?;
        } else if kind.is_file() && is_executable(&entry) {
            found.extend(path.parse::<ScriptName>());
        }
    }
    Ok(())
}

fn is_executable(entry: &fs::DirEntry) -> bool {
    // A file that went away since the listing is none.
    entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}
