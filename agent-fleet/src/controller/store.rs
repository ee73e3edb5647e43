//! What an API server keeps of its nodes: who each is and what it offers, and which tasks each may have heard of.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use task_service::TaskId;

use crate::keys::{Nonce, PublicKey};
use crate::message::CatalogueScript;

/// The version of the tables.
const VERSION: i64 = 1;
const TABLES: &str = "
    CREATE TABLE node (
        name TEXT PRIMARY KEY, key TEXT NOT NULL, digest TEXT NOT NULL, catalogue TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE intent (task TEXT PRIMARY KEY, node TEXT NOT NULL, nonce TEXT NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

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
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let options = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        options.map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        match db.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => db.execute_batch(&format!("BEGIN; {TABLES} COMMIT;"))?,
            VERSION => {}
            found => return Err(StoreError::Newer { path: path.to_owned(), found }),
        }
        Ok(Self { db })
    }

    /// All nodes that were ever here.
    pub(crate) fn nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        let mut statement = self.db.prepare("SELECT name, digest, catalogue FROM node")?;
        let nodes = statement.query_map([], |row| {
            let catalogue: String = row.get(2)?;
            // One that is damaged is sent again.
            let read: Option<Vec<CatalogueScript>> = serde_json::from_str(&catalogue).ok();
            let digest = if read.is_some() { row.get(1)? } else { String::new() };
            Ok(KnownNode { name: row.get(0)?, digest, scripts: read.unwrap_or_default() })
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

    /// Writes, flushed, that a node may hear of a task.
    pub(crate) fn hand_out(&self, task: &TaskId, node: &str, nonce: &Nonce) -> Result<(), StoreError> {
        let sql = "INSERT INTO intent (task, node, nonce) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.db.prepare_cached(sql)?.execute(params![task.as_str(), node, nonce.to_string()])?;
        Ok(())
    }

    /// The nonce of a task of which its node may have heard.
    pub(crate) fn nonce(&self, task: &TaskId) -> Result<Option<Nonce>, StoreError> {
        let sql = "SELECT nonce FROM intent WHERE task = ?1";
        let nonce: Option<String> =
            self.db.prepare_cached(sql)?.query_row([task.as_str()], |row| row.get(0)).optional()?;
        Ok(nonce.and_then(|nonce| nonce.parse().ok()))
    }

    /// Forgets a task that has ended.
    pub(crate) fn forget(&self, task: &TaskId) -> Result<(), StoreError> {
        self.db.prepare_cached("DELETE FROM intent WHERE task = ?1")?.execute([task.as_str()])?;
        Ok(())
    }
}
