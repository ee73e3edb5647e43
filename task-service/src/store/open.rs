//! Opens the database for writing. A file that is none, or is damaged, is set aside, said in the log, and the start
//! goes on with an empty one.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::{DATABASE_FILE, check, schema};

/// How long a statement waits for another program that writes, such as a database shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The write-ahead log is cut back to this many bytes after it was copied into the database.
const WAL_BYTES: i64 = 16 << 20;
/// Prepared statements that a connection keeps.
pub(crate) const STATEMENTS: usize = 64;
/// What SQLite appends to a database's name for its companions.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

/// Why the database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer agent has written it.
    #[error(
        "the database {} has version {found}, and this agent knows versions up to {known}; start the newer agent again, or restore a backup from before it",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this build knows.
        known: i64,
    },
    /// The file system refused.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// SQLite refused, for another reason than damage.
    #[error("cannot open the database {}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Opens `agent.db` in a state folder for writing, brought to the newest version.
pub(crate) fn open(state_dir: &Path) -> Result<Connection, StoreError> {
    let path = state_dir.join(DATABASE_FILE);
    match try_open(&path) {
        Err(StoreError::Sqlite { source, .. }) if is_damage(&source) => begin_anew(&path, &source),
        other => other,
    }
}

/// Sets the open database aside, because `error` was met in it, and opens an empty one.
pub(crate) fn open_anew(
    state_dir: &Path,
    damaged: Connection,
    error: &rusqlite::Error,
) -> Result<Connection, StoreError> {
    drop(damaged);
    begin_anew(&state_dir.join(DATABASE_FILE), error)
}

fn begin_anew(path: &Path, error: &rusqlite::Error) -> Result<Connection, StoreError> {
    let aside = set_aside(path)?;
    tracing::error!(database = %path.display(), set_aside = %aside.display(), %error,
        "the database is damaged and was set aside; the history begins anew, the records of tasks are kept");
    try_open(path)
}

fn try_open(path: &Path) -> Result<Connection, StoreError> {
    let io = |operation| {
        let path = path.to_owned();
        move |source| StoreError::Io { operation, path, source }
    };
    let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
    // SQLite would make the file readable by others; its companions get the mode of the file.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(io("make the database"))?;
    let mut connection = Connection::open(path).map_err(sqlite)?;
    prepare(&connection).map_err(sqlite)?;
    let found = schema::version(&connection).map_err(sqlite)?;
    if found > schema::VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    schema::migrate(&mut connection).map_err(sqlite)?;
    // What a savepoint could take back: of more than 64 KiB SQLite would write it to a file beneath /var/tmp.
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(sqlite)?;
    check::unmark(path).map_err(io("remove the mark beside"))?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    check::at_start(connection)
}

/// The error of a database in which `what` was found.
pub(crate) fn corrupt(what: impl Into<String>) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.into()))
}

/// Whether an error of opening says that the database is damaged, or is none. Every statement of that is fixed text: one
/// that SQLite does not understand met a header or a schema that this agent never wrote.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let is_misunderstood =
        error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_ERROR);
    let is_corrupt =
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    is_corrupt || is_misunderstood
}

/// Renames the database and its companions to the first free `agent.db.damaged-<n>`.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let numbered = |n: u32| with_suffix(path, &format!(".damaged-{n}"));
    let aside = (1..).map(numbered).find(|aside| !aside.exists()).unwrap_or_else(|| numbered(0));
    for companion in COMPANIONS {
        let from = with_suffix(path, companion);
        let moved = fs::rename(&from, with_suffix(&aside, companion));
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io {
                    operation: "set the damaged database aside:",
                    path: from,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
