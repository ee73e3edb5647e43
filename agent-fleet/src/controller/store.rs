//! What an API server keeps of its nodes: who each is and what it offers, and which tasks each may have heard of.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use task_service::TaskId;

use crate::damage;
use crate::keys::{Nonce, PublicKey};
use crate::message::{CatalogueScript, Hello};

/// The version of the tables.
const VERSION: i64 = STEPS.len() as i64;
/// How the tables came to be what they are, step by step.
const STEPS: [&str; 2] = [
    "CREATE TABLE node (
        name TEXT PRIMARY KEY, key TEXT NOT NULL, digest TEXT NOT NULL, catalogue TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE intent (task TEXT PRIMARY KEY, node TEXT NOT NULL, nonce TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    // What a node says of itself, whether it takes tasks, and by whom a task was given up: nobody for policy.
    "ALTER TABLE node ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE node ADD COLUMN is_draining INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE intent ADD COLUMN given_up_by TEXT;",
];

/// The database of nodes.
#[derive(Debug)]
pub(crate) struct Store {
    db: Connection,
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
    /// Opens the database. One that is damaged is set aside and said so: nodes are then pinned anew, and a task that one of
    /// them has by now is not started again, because of the node's journal.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::try_open(path) {
            Err(StoreError::Sqlite(error)) if damage::is_damage(&error) => {
                let aside = damage::set_aside(path);
                tracing::error!(database = %path.display(), set_aside = %aside.display(), %error,
                    "the database of nodes is damaged and was set aside: the keys of nodes are remembered anew");
                Self::try_open(path)
            }
            other => other,
        }
    }

    fn try_open(path: &Path) -> Result<Self, StoreError> {
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
            let steps = steps.concat();
            db.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        }
        damage::check(&db)?;
        Ok(Self { db })
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
    pub(crate) fn hand_out(&mut self, node: &str, tasks: &[(TaskId, Nonce)]) -> Result<(), StoreError> {
        let sql = "INSERT INTO intent (task, node, nonce) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let transaction = self.db.transaction()?;
        for (task, nonce) in tasks {
            transaction.prepare_cached(sql)?.execute(params![task.as_str(), node, nonce.to_string()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Which node may have heard of a task; none where none has.
    pub(crate) fn intent(&self, task: &TaskId) -> Result<Option<Intent>, StoreError> {
        let sql = "SELECT node, nonce, given_up_by FROM intent WHERE task = ?1";
        let read = |row: &Row<'_>| {
            let given_up = row.get::<_, Option<String>>(2)?.map(GivenUp::read);
            let nonce: Option<Nonce> = row.get::<_, String>(1)?.parse().ok();
            Ok((row.get(0)?, nonce, given_up))
        };
        let found = self.db.prepare_cached(sql)?.query_row([task.as_str()], read).optional()?;
        Ok(found.and_then(|(node, nonce, given_up)| Some(Intent { node, nonce: nonce?, given_up })))
    }

    /// Writes, flushed, that a task is given up.
    pub(crate) fn give_up(&self, task: &TaskId, given_up: &GivenUp) -> Result<(), StoreError> {
        let sql = "UPDATE intent SET given_up_by = ?2 WHERE task = ?1";
        let by = given_up.person().unwrap_or_default();
        self.db.prepare_cached(sql)?.execute([task.as_str(), by])?;
        Ok(())
    }

    /// The tasks that a node may have heard of and that were not given up.
    pub(crate) fn heard_of(&self, node: &str) -> Result<Vec<TaskId>, StoreError> {
        let mut statement =
            self.db.prepare("SELECT task FROM intent WHERE node = ?1 AND given_up_by IS NULL")?;
        let found: Vec<String> =
            statement.query_map([node], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
        // What is no id was never written by an agent.
        Ok(found.into_iter().filter_map(|task| task.parse().ok()).collect())
    }

    /// The tasks that were given up and of which their nodes have not been heard since, with their nodes.
    pub(crate) fn given_up(&self) -> Result<Vec<(String, TaskId)>, StoreError> {
        let mut statement = self.db.prepare("SELECT node, task FROM intent WHERE given_up_by IS NOT NULL")?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
        let found: Vec<(String, String)> = found.collect::<Result<_, _>>()?;
        // What is no id was never written by an agent.
        Ok(found.into_iter().filter_map(|(node, task)| Some((node, task.parse().ok()?))).collect())
    }

    /// Forgets tasks that have ended.
    pub(crate) fn forget(&mut self, tasks: &[TaskId]) -> Result<(), StoreError> {
        let transaction = self.db.transaction()?;
        for task in tasks {
            transaction.prepare_cached("DELETE FROM intent WHERE task = ?1")?.execute([task.as_str()])?;
        }
        Ok(transaction.commit()?)
    }
}
