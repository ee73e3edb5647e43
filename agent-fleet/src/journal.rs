//! The node's journal: what it knows of assignments, on disk before anything happens because of it.
//!
//! A SQLite database with a flushed write-ahead log, as the task service's. Parameters are not in it: what a node that was
//! restarted does not have, it is sent again.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use task_service::{Steady, TaskId};

use crate::assignment::MAX_VALIDITY;
use crate::damage;
use crate::keys::{Nonce, PublicKey};
use crate::message::{AcceptedAt, are_two};
use crate::node::{Journaled, Verdict};

/// For how long a settled task is remembered. What was signed before it was settled is not valid for longer than an hour, and
/// a clock that was ahead and is set back makes that no longer, unless by more than a day: a host whose clock is taken for that
/// of another time zone until the network is there remembers what it has to.
const MEMORY: SignedDuration = SignedDuration::from_hours(26);
const _: () = assert!(MEMORY.as_secs() > MAX_VALIDITY.as_secs() + 300 + 24 * 60 * 60);
/// After how long a task that was taken, and of which nobody knows any more, is not sent again: by then each of its
/// assignments is invalid.
const OLD: SignedDuration = SignedDuration::from_hours(2);
/// How the tables came to be what they are, step by step.
const STEPS: [&str; 5] = [
    "CREATE TABLE assignment (
        task TEXT PRIMARY KEY, nonce TEXT, stage TEXT NOT NULL, code TEXT, message TEXT, since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), highest INTEGER NOT NULL) STRICT;",
    // The highest time that the clock ever showed: a node went by that, and was deaf when it was set back.
    "DROP TABLE clock;",
    // When the API server accepted the task, seconds since 1970; nothing where it did not say.
    "ALTER TABLE assignment ADD COLUMN accepted INTEGER;",
    // Whose task it is. Nobody knows of those that were taken before.
    "ALTER TABLE assignment ADD COLUMN server TEXT;",
    // The same as `accepted`, as the API server says it, nanoseconds since 1970: what it is told again, to tell tasks of one id
    // from each other.
    "ALTER TABLE assignment ADD COLUMN said INTEGER;",
];
/// The version of the tables.
const VERSION: i64 = STEPS.len() as i64;

/// A node's journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    steps: Steady,
}

/// What is to be written about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// It is taken.
    Taken {
        /// The task.
        task: TaskId,
        /// Its nonce.
        nonce: Nonce,
        /// When it was accepted, as far as that is known.
        accepted: AcceptedAt,
        /// Whose it is.
        server: Option<PublicKey>,
    },
    /// It is never started.
    Never {
        /// The task.
        task: TaskId,
        /// When it was accepted, as far as that is known.
        accepted: AcceptedAt,
        /// Why.
        verdict: Verdict,
        /// Whose it is.
        server: Option<PublicKey>,
    },
    /// The API server has all of it.
    Settled {
        /// The task.
        task: TaskId,
    },
}

impl Record {
    /// The task that it is about.
    pub fn task(&self) -> &TaskId {
        match self {
            Self::Taken { task, .. } | Self::Never { task, .. } | Self::Settled { task } => task,
        }
    }
}

/// A task that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The task.
    pub task: TaskId,
    /// Its nonce, where there was an assignment.
    pub nonce: Option<Nonce>,
    /// When it was accepted, as far as that is known, by the clock here: not later than the time when it was taken.
    pub accepted: Option<Timestamp>,
    /// The same as the API server says it.
    pub said: AcceptedAt,
    /// The key of the API server whose it is; none of a task that an older agent has taken.
    pub server: Option<PublicKey>,
    /// Why it is never started, if that is so.
    pub verdict: Option<Verdict>,
    /// Whether assignments of the time when it was taken are not valid any more.
    pub is_old: bool,
}

/// Why the journal was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made.
    #[error("cannot make the journal {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A newer agent has written it.
    #[error("the journal {} has version {found}, and this agent knows {VERSION}; start the newer agent again", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite refused.
    #[error("the journal cannot be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Journal {
    /// Opens the journal. One that is damaged is set aside and said so: what it knew is still guarded by the records of the
    /// task service, which start nothing twice.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        match Self::try_open(path) {
            Err(JournalError::Sqlite(error)) if damage::is_damage(&error) => {
                let aside = damage::set_aside(path);
                tracing::error!(journal = %path.display(), set_aside = %aside.display(), %error,
                    "the journal of assignments is damaged and was set aside");
                Self::try_open(path)
            }
            other => other,
        }
    }

    fn try_open(path: &Path) -> Result<Self, JournalError> {
        damage::check_file(path)?;
        // SQLite would make the file readable by others.
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let options = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = options.map_err(failed)?;
        // One that was put there, by a restore for one, may have another mode.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let done = usize::try_from(found).unwrap_or(usize::MAX);
        let Some(steps) = STEPS.get(done..) else {
            return Err(JournalError::Newer { path: path.to_owned(), found });
        };
        if !steps.is_empty() {
            let steps = steps.concat();
            db.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        }
        damage::check(&db)?;
        Ok(Self { db, steps: Steady::default() })
    }

    /// Writes records, all or none of them, flushed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, records: &[Record], wall: Timestamp) -> Result<(), JournalError> {
        // From here on its steps are known.
        self.steps.trusted(wall);
        let now = wall.as_second();
        let transaction = self.db.transaction()?;
        for record in records {
            // Another task of the id takes the whole row of the one before.
            let sql =
                "INSERT INTO assignment (task, nonce, stage, code, message, since, accepted, server, said)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                ON CONFLICT (task) DO UPDATE SET stage = excluded.stage, code = excluded.code,
                    message = excluded.message, since = max(since, excluded.since),
                    nonce = iif(excluded.said <> said, excluded.nonce, coalesce(nonce, excluded.nonce)),
                    server = iif(excluded.said <> said, excluded.server, coalesce(server, excluded.server)),
                    accepted = iif(excluded.said <> said, excluded.accepted, accepted),
                    said = coalesce(excluded.said, said)";
            let (stage, nonce, verdict) = match record {
                Record::Taken { nonce, .. } => ("taken", Some(nonce.to_string()), None),
                Record::Never { verdict, .. } => ("never", None, Some(verdict)),
                Record::Settled { .. } => ("settled", None, None),
            };
            let said = match record {
                Record::Taken { accepted, .. } | Record::Never { accepted, .. } => *accepted,
                Record::Settled { .. } => None,
            };
            let accepted = said.map(|said| said.min(wall).as_second());
            let said = said.and_then(|said| i64::try_from(said.as_nanosecond()).ok());
            let server = match record {
                Record::Taken { server, .. } | Record::Never { server, .. } => {
                    server.map(|key| key.to_string())
                }
                Record::Settled { .. } => None,
            };
            let (code, message) =
                verdict.map(|verdict| (verdict.code.as_str(), verdict.message.as_str())).unzip();
            let task = record.task().as_str();
            let values = params![task, nonce, stage, code, message, now, accepted, server, said];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        Ok(transaction.commit()?)
    }

    /// Makes the tasks an API server's of which nobody knows whose they are: those of before that was written.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn adopt(&mut self, server: &PublicKey) -> Result<(), JournalError> {
        self.db.execute("UPDATE assignment SET server = ?1 WHERE server IS NULL", [server.to_string()])?;
        Ok(())
    }

    /// What it knows of a task, or of another one that had its id before.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(&self, task: &TaskId, accepted: AcceptedAt) -> Result<Journaled, JournalError> {
        let sql = "SELECT said FROM assignment WHERE task = ?1 AND stage = 'settled'";
        let settled: Option<Option<i64>> =
            self.db.prepare_cached(sql)?.query_row([task.as_str()], |row| row.get(0)).optional()?;
        let Some(said) = settled else { return Ok(Journaled::Unknown) };
        Ok(if are_two(said.and_then(at), accepted) { Journaled::OtherSettled } else { Journaled::Settled })
    }

    /// Why a task is never started, if that is so.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn verdict(&self, task: &TaskId) -> Result<Option<Verdict>, JournalError> {
        let sql = "SELECT code, message FROM assignment WHERE task = ?1 AND code IS NOT NULL";
        let read = |row: &rusqlite::Row<'_>| Ok(Verdict { code: row.get(0)?, message: row.get(1)? });
        Ok(self.db.prepare_cached(sql)?.query_row([task.as_str()], read).optional()?)
    }

    /// The tasks that are not settled.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unfinished(&self, wall: Timestamp) -> Result<Vec<Unfinished>, JournalError> {
        let old = seconds_before(wall, OLD);
        let sql = "SELECT task, nonce, code, message, since, accepted, server, said FROM assignment
            WHERE stage <> 'settled'";
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut unfinished = Vec::new();
        while let Some(row) = rows.next()? {
            let (task, nonce): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            let (code, message): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            let (since, accepted, server): (i64, Option<i64>, Option<String>) =
                (row.get(4)?, row.get(5)?, row.get(6)?);
            // What is no id was never written by an agent.
            let Ok(task) = task.parse() else { continue };
            unfinished.push(Unfinished {
                task,
                nonce: nonce.and_then(|nonce| nonce.parse().ok()),
                accepted: accepted.and_then(|accepted| Timestamp::from_second(accepted).ok()),
                said: row.get::<_, Option<i64>>(7)?.and_then(at),
                server: server.and_then(|server| server.parse().ok()),
                verdict: code.map(|code| Verdict { code, message: message.unwrap_or_default() }),
                is_old: since < old,
            });
        }
        Ok(unfinished)
    }

    /// Forgets what was settled so long ago that no assignment of it is valid any more. By a clock that is far ahead for a
    /// moment that would be everything.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget(&mut self, wall: Timestamp) -> Result<(), JournalError> {
        let old = seconds_before(self.steps.trusted(wall), MEMORY);
        self.db.execute("DELETE FROM assignment WHERE stage = 'settled' AND since < ?1", [old])?;
        Ok(())
    }
}

/// A time that is kept as nanoseconds.
fn at(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds.into()).ok()
}

fn seconds_before(now: Timestamp, time: SignedDuration) -> i64 {
    now.as_second().saturating_sub(time.as_secs())
}
