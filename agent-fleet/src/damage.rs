//! Databases that are damaged: how that is noticed, and how they are set aside.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error, ErrorCode, ffi};

/// Makes sure that a database which is there was begun: its file is never empty then, and one that is has lost all of it.
///
/// # Errors
/// When the file is empty.
pub(crate) fn check_file(path: &Path) -> rusqlite::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() == 0 => Err(corrupt("the file is empty")),
        // What else is wrong with it is found when it is opened.
        _ => Ok(()),
    }
}

/// Looks through a database.
///
/// # Errors
/// When anything in it is damaged, also where nothing would have met that by now.
pub(crate) fn check(db: &Connection) -> rusqlite::Result<()> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(corrupt(found)),
    }
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what.into()))
}

pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Sets a database aside with what belongs to it, and gives its new name.
pub(crate) fn set_aside(path: &Path) -> PathBuf {
    let aside = path.with_extension("db.damaged");
    for companion in ["", "-wal", "-shm"] {
        // A companion may be missing; the new database is opened in any case.
        let _ = std::fs::rename(with_suffix(path, companion), with_suffix(&aside, companion));
    }
    aside
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
