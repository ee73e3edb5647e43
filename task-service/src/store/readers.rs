//! The connections for reading: read-only, kept for the next reader, never in the way of the one that writes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::DATABASE_FILE;
use super::open::STATEMENTS;

/// Connections that are kept open; more are opened when more read at once, and closed afterwards.
const KEPT: usize = 4;
/// How long a reader waits while another program has the database for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections for reading. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// Readers of the database in a state folder; nothing is opened yet.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: Arc::new(state_dir.join(DATABASE_FILE)), idle: Arc::default() }
    }

    /// The database's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads something, on the calling thread.
    pub(crate) fn read_here<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let kept = self.idle().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let outcome = read(&connection);
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(connection);
        }
        outcome
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&*self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A reader that panicked has taken its connection with it; the others are whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
