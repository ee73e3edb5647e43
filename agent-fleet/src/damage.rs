//! Databases that are damaged: how that is noticed, and how they are set aside.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error, ErrorCode, ffi};

/// Looks through a database.
///
/// # Errors
/// When anything in it is damaged, also where nothing would have met that by now.
pub(crate) fn check(db: &Connection) -> rusqlite::Result<()> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(found))),
    }
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
