//! What an API server keeps of its nodes: who each is and what it offers, and which tasks each may have heard of.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use task_service::TaskId;

use crate::damage;
use crate::keys::{Nonce, PublicKey};
use crate::message::{AcceptedAt, CatalogueScript, Hello};
use crate::opens::Opens;

/// The version of the tables.
const VERSION: i64 = STEPS.len() as i64;
/// How the tables came to be what they are, step by step.
const STEPS: [&str; 4] = [
    "CREATE TABLE node (
        name TEXT PRIMARY KEY, key TEXT NOT NULL, digest TEXT NOT NULL, catalogue TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE intent (task TEXT PRIMARY KEY, node TEXT NOT NULL, nonce TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    // What a node says of itself, whether it takes tasks, and by whom a task was given up: nobody for policy.
    "ALTER TABLE node ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE node ADD COLUMN is_draining INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE intent ADD COLUMN given_up_by TEXT;",
    // When a task was accepted, nanoseconds since 1970: an id whose task was removed is that of another one. 0 is of before.
    "CREATE TABLE intent_of_accepted (
        task TEXT NOT NULL, accepted INTEGER NOT NULL, node TEXT NOT NULL, nonce TEXT NOT NULL, given_up_by TEXT,
        PRIMARY KEY (task, accepted)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO intent_of_accepted SELECT task, 0, node, nonce, given_up_by FROM intent;
    DROP TABLE intent;
    ALTER TABLE intent_of_accepted RENAME TO intent;",
    // Whether tasks may have been handed out of which this database never knew.
    "CREATE TABLE beginning (has_past INTEGER NOT NULL) STRICT;
    INSERT INTO beginning VALUES (0);",
];

/// The database of nodes.
#[derive(Debug)]
pub(crate) struct Store {
    db: Connection,
    has_past: bool,
}

/// A node as it was when it was last here.
#[derive(Debug)]
pub(crate) struct KnownNode {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) scripts: Vec<CatalogueScript>,
    pub(crate) facts: Facts,
    pub(crate) is_draining: bool,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) runners: Vec<String>,
    pub(crate) capacity: Option<usize>,
    pub(crate) agent: Option<String>,
    pub(crate) opens: Option<Opens>,
}

/// A task as it was accepted. When it was removed from the history its id may be used again, and means another task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) task: TaskId,
    /// Nanoseconds since 1970; 0 where an older agent has not written it.
    pub(crate) at: i64,
}

impl Accepted {
    pub(crate) fn new(task: &TaskId, at: Timestamp) -> Self {
        let at = i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
        Self { task: task.clone(), at }
    }

    /// When that was, where it is known.
    pub(crate) fn at(&self) -> AcceptedAt {
        Timestamp::from_nanosecond(self.at.into()).ok().filter(|_| self.at != 0)
    }
}

/// The intents under a task's id.
#[derive(Debug, Default)]
pub(crate) struct Intents {
    /// That of the task itself.
    pub(crate) own: Option<Intent>,
    /// The nodes that may still have an older task of that id.
    pub(crate) older: Vec<String>,
}

/// That a node may have heard of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intent {
    pub(crate) node: String,
    pub(crate) nonce: Nonce,
    pub(crate) given_up: Option<GivenUp>,
}

/// Who gave a task up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// A person.
    By(String),
    /// Its own `unreachable_after`.
    ByPolicy,
}

impl GivenUp {
    /// The person, if it was one.
    pub(crate) fn person(&self) -> Option<&str> {
        match self {
            Self::By(name) => Some(name),
            Self::ByPolicy => None,
        }
    }

    fn read(text: String) -> Self {
        if text.is_empty() { Self::ByPolicy } else { Self::By(text) }
    }
}

impl Facts {
    pub(crate) fn of(hello: &Hello) -> Self {
        Self {
            labels: hello.labels.clone(),
            runners: hello.runners.clone(),
            capacity: Some(hello.capacity),
            agent: Some(hello.agent.clone()),
            opens: hello.opens.clone(),
        }
    }
}

/// Why the database of nodes was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made.
    #[error("cannot make the database of nodes {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A newer agent has written it.
    #[error("the database of nodes {} has version {found}, and this agent knows {VERSION}; start the newer agent again", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite refused.
    #[error("the database of nodes cannot be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Store {
    /// Opens the database. One that is damaged, or empty, is set aside and said so: nodes are then pinned anew. `has_past` says
    /// whether tasks may have been handed out before: a database that begins only now knows nothing of them.
    pub(crate) fn open(path: &Path, has_past: bool) -> Result<Self, StoreError> {
        match Self::try_open(path, has_past) {
            Err(StoreError::Sqlite(error)) if damage::is_damage(&error) => {
                let aside = damage::set_aside(path);
                tracing::error!(database = %path.display(), set_aside = %aside.display(), %error,
                    "the database of nodes is damaged and was set aside: the keys of nodes are remembered anew");
                Self::try_open(path, has_past)
            }
            other => other,
        }
    }

    fn try_open(path: &Path, has_past: bool) -> Result<Self, StoreError> {
        damage::check_file(path)?;
        let options = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        options.map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let done = usize::try_from(found).unwrap_or(usize::MAX);
        let Some(steps) = STEPS.get(done..) else {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        };
        if !steps.is_empty() {
            let mut steps = steps.concat();
            if found == 0 && has_past {
                steps.push_str("UPDATE beginning SET has_past = 1;");
            }
            db.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        }
        damage::check(&db)?;
        let has_past = db.query_row("SELECT has_past FROM beginning", [], |row| row.get(0))?;
        Ok(Self { db, has_past })
    }

    /// Whether a task of which it does not know may have been handed out all the same: it began anew, because what was before
    /// was damaged or lost.
    pub(crate) fn has_past(&self) -> bool {
        self.has_past
    }

    /// All nodes that were ever here.
    pub(crate) fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        let mut statement =
            self.db.prepare("SELECT name, digest, catalogue, facts, is_draining FROM node")?;
        let nodes = statement.query_map([], |row| {
            let catalogue: String = row.get(2)?;
            // One that is damaged is sent again.
            let read: Option<Vec<CatalogueScript>> = serde_json::from_str(&catalogue).ok();
            let digest = if read.is_some() { row.get(1)? } else { String::new() };
            let facts: String = row.get(3)?;
            Ok(KnownNode {
                name: row.get(0)?,
                digest,
                scripts: read.unwrap_or_default(),
                // They come again with the node.
                facts: serde_json::from_str(&facts).unwrap_or_default(),
                is_draining: row.get(4)?,
            })
        })?;
        Ok(nodes.collect::<Result<_, _>>()?)
    }

    /// Pins the key of a node that comes for the first time; whether the key is the one that is pinned.
    pub(crate) fn pin(&self, name: &str, key: &PublicKey) -> Result<bool, StoreError> {
        let sql = "INSERT INTO node (name, key, digest, catalogue) VALUES (?1, ?2, '', '[]') ON CONFLICT DO NOTHING";
        self.db.execute(sql, params![name, key.to_string()])?;
        let pinned: String =
            self.db.query_row("SELECT key FROM node WHERE name = ?1", [name], |row| row.get(0))?;
        Ok(pinned == key.to_string())
    }

    /// Keeps what a node says of itself, where that is new.
    pub(crate) fn keep_facts(&self, name: &str, facts: &Facts) -> Result<(), StoreError> {
        // They have only texts and numbers, which JSON has.
        let facts = serde_json::to_string(facts).unwrap_or_else(|_| "{}".to_owned());
        self.db.execute("UPDATE node SET facts = ?2 WHERE name = ?1 AND facts <> ?2", [name, &facts])?;
        Ok(())
    }

    /// Forgets a node, and which tasks it may have heard of.
    pub(crate) fn forget_node(&mut self, name: &str) -> Result<(), StoreError> {
        let transaction = self.db.transaction()?;
        transaction.execute("DELETE FROM intent WHERE node = ?1", [name])?;
        transaction.execute("DELETE FROM node WHERE name = ?1", [name])?;
        Ok(transaction.commit()?)
    }

    /// Keeps whether a node is to take no new tasks.
    pub(crate) fn keep_draining(&self, name: &str, is_draining: bool) -> Result<(), StoreError> {
        self.db.execute("UPDATE node SET is_draining = ?2 WHERE name = ?1", params![name, is_draining])?;
        Ok(())
    }

    /// Keeps what a node offers.
    pub(crate) fn keep_catalogue(
        &self,
        name: &str,
        digest: &str,
        scripts: &[CatalogueScript],
    ) -> Result<(), StoreError> {
        // It has only texts, which JSON has.
        let catalogue = serde_json::to_string(scripts).unwrap_or_else(|_| "[]".to_owned());
        let sql = "UPDATE node SET digest = ?2, catalogue = ?3 WHERE name = ?1";
        self.db.execute(sql, params![name, digest, catalogue])?;
        Ok(())
    }

    /// Writes, flushed, that a node may hear of tasks: of all of them or of none.
    pub(crate) fn hand_out(&mut self, node: &str, tasks: &[(Accepted, Nonce)]) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO intent (task, accepted, node, nonce) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        let transaction = self.db.transaction()?;
        for (Accepted { task, at }, nonce) in tasks {
            let values = params![task.as_str(), at, node, nonce.to_string()];
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        Ok(transaction.commit()?)
    }

    /// Which nodes may have heard of a task and of older ones of its id.
    pub(crate) fn intents(&self, wanted: &Accepted) -> Result<Intents, StoreError> {
        let sql = "SELECT node, nonce, given_up_by, accepted FROM intent WHERE task = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([wanted.task.as_str()])?;
        let mut found = Intents::default();
        while let Some(row) = rows.next()? {
            let node: String = row.get(0)?;
            let nonce: Option<Nonce> = row.get::<_, String>(1)?.parse().ok();
            let given_up = row.get::<_, Option<String>>(2)?.map(GivenUp::read);
            match row.get::<_, i64>(3)? == wanted.at {
                true => found.own = nonce.map(|nonce| Intent { node, nonce, given_up }),
                false => found.older.push(node),
            }
        }
        Ok(found)
    }

    /// Whether a node may have heard of a newer task of the same id.
    pub(crate) fn has_newer(&self, Accepted { task, at }: &Accepted) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM intent WHERE task = ?1 AND accepted > ?2)";
        Ok(self.db.prepare_cached(sql)?.query_row(params![task.as_str(), at], |row| row.get(0))?)
    }

    /// Completes what an older agent has written of a task that it has begun: when that was accepted.
    pub(crate) fn complete(&self, Accepted { task, at }: &Accepted) -> Result<(), StoreError> {
        let sql = "UPDATE OR IGNORE intent SET accepted = ?2 WHERE task = ?1 AND accepted = 0";
        self.db.prepare_cached(sql)?.execute(params![task.as_str(), at])?;
        Ok(())
    }

    /// Writes, flushed, that a task is given up.
    pub(crate) fn give_up(&self, accepted: &Accepted, given_up: &GivenUp) -> Result<(), StoreError> {
        let sql = "UPDATE intent SET given_up_by = ?3 WHERE task = ?1 AND accepted = ?2";
        let by = given_up.person().unwrap_or_default();
        self.db.prepare_cached(sql)?.execute(params![accepted.task.as_str(), accepted.at, by])?;
        Ok(())
    }

    /// The tasks that were given up and of which their nodes have not been heard since, with their nodes.
    pub(crate) fn given_up(&self) -> Result<Vec<(String, Accepted)>, StoreError> {
        self.read("SELECT node, task, accepted FROM intent WHERE given_up_by IS NOT NULL")
    }

    /// The other tasks that nodes may have heard of, with their nodes.
    pub(crate) fn handed_out(&self) -> Result<Vec<(String, Accepted)>, StoreError> {
        self.read("SELECT node, task, accepted FROM intent WHERE given_up_by IS NULL")
    }

    fn read(&self, sql: &str) -> Result<Vec<(String, Accepted)>, StoreError> {
        let mut statement = self.db.prepare(sql)?;
        let found =
            statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
        let found: Vec<(String, String, i64)> = found.collect::<Result<_, _>>()?;
        // What is no id was never written by an agent.
        let read = |(node, task, at): (String, String, i64)| {
            let task = task.parse().ok()?;
            Some((node, Accepted { task, at }))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Forgets tasks that have ended.
    pub(crate) fn forget(&mut self, tasks: &[Accepted]) -> Result<(), StoreError> {
        let sql = "DELETE FROM intent WHERE task = ?1 AND accepted = ?2";
        let transaction = self.db.transaction()?;
        for Accepted { task, at } in tasks {
            transaction.prepare_cached(sql)?.execute(params![task.as_str(), at])?;
        }
        Ok(transaction.commit()?)
    }
}
