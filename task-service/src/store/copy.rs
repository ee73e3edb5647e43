//! Copies a database that is in use, as it is at one moment.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, Transaction};

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
    let source = open_source(from).map_err(at(from))?;
    let found = schema::version(&source).map_err(at(from))?;
    if found > schema::VERSION {
        return Err(StoreError::Newer { path: from.to_owned(), found, known: schema::VERSION });
    }
    // What is said of it must be of the state that is copied.
    let snapshot = source.unchecked_transaction().map_err(at(from))?;
    let tasks = super::old::count(&snapshot).map_err(at(from))?;
    write(snapshot, from, to)?;
    Ok(tasks)
}

/// The same of any database, whatever is in it.
///
/// # Errors
/// When it cannot be read or written, or is damaged.
pub(crate) fn copy_any(from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = open_source(from).map_err(at(from))?;
    write(source.unchecked_transaction().map_err(at(from))?, from, to)
}

fn write(snapshot: Transaction<'_>, from: &Path, to: &Path) -> Result<(), StoreError> {
    // A transaction is one state of the database from its first look on; without one each change of it would begin the
    // copy anew.
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(at(from))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|source| StoreError::Io { operation: "make the copy", path: to.to_owned(), source })?;
    let mut target = Connection::open(to).map_err(at(to))?;
    Backup::new(&snapshot, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES, Duration::ZERO, None))
        .map_err(at(to))?;
    // As long as it lasts the write-ahead log grows by all that is written.
    drop(snapshot);
    finish(&target).map_err(at(to))
}

/// Names the database that SQLite speaks of, for `map_err`.
fn at(path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Sqlite { path, source }
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
