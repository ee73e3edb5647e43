//! Looks for damage in the database: all of a small one at each start, a large one in the background when the service is
//! open, since nobody should wait for that. What is found there, or by whoever meets it, is marked by a file, and then the
//! next start looks at all of it before anything else.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::open::{corrupt, is_damage};
use super::readers::Readers;

/// Databases up to this size are checked at each start, which takes up to 0.1 s.
const MAX_CHECKED_BYTES: i64 = 16 << 20;
/// What the mark's name has behind that of the database.
const MARK: &str = ".check";

/// Looks at a database that is small or marked.
///
/// # Errors
/// When it is damaged.
pub(crate) fn at_start(db: &Connection) -> rusqlite::Result<()> {
    let is_marked = db.path().is_some_and(|path| mark_of(Path::new(path)).exists());
    if bytes(db)? > MAX_CHECKED_BYTES && !is_marked { Ok(()) } else { look(db) }
}

/// Looks at a database that was too large for the start, on a thread of its own. It is told in the log what was found.
pub(crate) fn in_background(readers: Readers) {
    let check = move || {
        let checked = readers.read_here(|db| if bytes(db)? > MAX_CHECKED_BYTES { look(db) } else { Ok(()) });
        match checked {
            Err(error) if is_damage(&error) => mark(readers.path(), &error),
            Err(error) => tracing::warn!(%error, "the database is not checked for damage"),
            Ok(()) => {}
        }
    };
    if let Err(error) = std::thread::Builder::new().name("task-checker".to_owned()).spawn(check) {
        tracing::warn!(%error, "the database is not checked for damage");
    }
}

/// Marks a database in which something is wrong, and says so.
fn mark(database: &Path, error: &rusqlite::Error) {
    tracing::error!(database = %database.display(), %error,
        "the database is damaged; the next start looks at all of it, and sets it aside if it must");
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(mark_of(database));
    if let Err(error) = made {
        tracing::error!(%error, "that could not be marked for the next start");
    }
}

/// Removes the mark.
pub(crate) fn unmark(database: &Path) -> io::Result<()> {
    match fs::remove_file(mark_of(database)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn mark_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(MARK);
    PathBuf::from(name)
}

fn bytes(db: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    db.query_row(sql, [], |row| row.get(0))
}

/// Looks at all of a database; the first thing that is wrong is an error.
fn look(db: &Connection) -> rusqlite::Result<()> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(corrupt(found)) }
}
