//! Copies a database that is in use, as it is at one moment.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::open::{StoreError, corrupt};
use super::schema;

/// Pages that are copied at a time.
const PAGES: i32 = 1024;
/// How long it is waited for another program that has the database for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Copies a database to a new file, readable by its owner only, and looks whether the copy is whole; how many tasks are in it.
///
/// # Errors
/// When it cannot be read or written, is of a newer agent, or is damaged.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let sqlite = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Sqlite { path, source }
    };
    let source = open_source(from).map_err(sqlite(from))?;
    let found = schema::version(&source).map_err(sqlite(from))?;
    if found > schema::VERSION {
        return Err(StoreError::Newer { path: from.to_owned(), found, known: schema::VERSION });
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|source| StoreError::Io { operation: "make the copy", path: to.to_owned(), source })?;
    let mut target = Connection::open(to).map_err(sqlite(to))?;
    // A transaction is one state of the database; without one each change of it would begin the copy anew.
    let snapshot = source.unchecked_transaction().map_err(sqlite(from))?;
    let tasks = super::old::count(&snapshot).map_err(sqlite(from))?;
    Backup::new(&snapshot, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES, Duration::ZERO, None))
        .map_err(sqlite(to))?;
    finish(&target).map_err(sqlite(to))?;
    Ok(tasks)
}

fn open_source(path: &Path) -> rusqlite::Result<Connection> {
    let source = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    source.busy_timeout(BUSY_TIMEOUT)?;
    Ok(source)
}

/// Makes the copy one file without companions, and looks for damage in it.
fn finish(copy: &Connection) -> rusqlite::Result<()> {
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(corrupt(verdict)) }
}
