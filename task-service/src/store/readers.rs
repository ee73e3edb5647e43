//! The connections for reading: read-only, kept for the next reader, never in the way of the one that writes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::DATABASE_FILE;
use super::open::STATEMENTS;

/// Connections that are open at a time; who reads beyond that waits for one. SQLite keeps the file of each that was ever
/// open, since closing it would drop the locks of the others (<https://sqlite.org/howtocorrupt.html>, 2.2).
const MOST: usize = 16;
/// Connections that are kept open, with what they hold in memory.
const KEPT: usize = 4;
/// How long a reader waits while another program has the database for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections for reading. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    path: Arc<PathBuf>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Mutex<Connections>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Connection>,
    in_use: usize,
}

/// The right to one of the connections, given back when this is dropped.
struct Place<'a>(&'a Shared);

impl Readers {
    /// Readers of the database in a state folder; nothing is opened yet.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: Arc::new(state_dir.join(DATABASE_FILE)), shared: Arc::default() }
    }

    /// The database's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads something, on the calling thread, which may wait for others. What reads must not read by this itself.
    pub(crate) fn read_here<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let (_place, kept) = self.shared.place();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let outcome = read(&connection);
        let mut connections = self.shared.connections();
        if connections.idle.len() < KEPT {
            connections.idle.push(connection);
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
}

impl Shared {
    /// Waits for the right to a connection, and gives one that is open, where there is one.
    fn place(&self) -> (Place<'_>, Option<Connection>) {
        let is_full = |connections: &mut Connections| connections.in_use >= MOST;
        let waited = self.given_back.wait_while(self.connections(), is_full);
        let mut connections = waited.unwrap_or_else(PoisonError::into_inner);
        connections.in_use += 1;
        (Place(self), connections.idle.pop())
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        // A reader that panicked has taken its connection with it; the others are whole.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.connections().in_use -= 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn so_many_read_at_a_time_and_one_that_panics_or_fails_takes_no_place_along() {
        let folder = tempfile::tempdir().unwrap();
        Connection::open(folder.path().join(DATABASE_FILE))
            .unwrap()
            .execute_batch("CREATE TABLE t (n)")
            .unwrap();
        let readers = Readers::new(folder.path());
        for _ in 0..2 * MOST {
            let panicking =
                std::panic::AssertUnwindSafe(|| readers.read_here::<()>(|_| panic!("on purpose")));
            assert!(std::panic::catch_unwind(panicking).is_err());
            assert!(readers.read_here(|db| db.execute_batch("nonsense")).is_err());
        }
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 * MOST {
                scope.spawn(|| {
                    let read = |db: &Connection| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let count: i64 = db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?;
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok(count)
                    };
                    assert_eq!(readers.read_here(read), Ok(0));
                });
            }
        });
        assert!((1..=MOST).contains(&most.load(Ordering::SeqCst)));
    }
}
