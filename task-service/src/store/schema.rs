//! The tables, and how an older database becomes a newer one: step by step, each in a transaction of its own that
//! ends by raising `user_version`.

use rusqlite::{Connection, TransactionBehavior};

use super::words;

/// One step for each version. Steps that were released are never changed; new ones are added behind.
const STEPS: &[&str] = &[
    // 1: tasks. `seq` is the order of acceptance and the key of pages; clocks step, sequences do not. The long
    // columns stand last, because SQLite reads a row from its front.
    "CREATE TABLE task (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        runner TEXT NOT NULL,
        status TEXT NOT NULL,
        node TEXT,
        attempt INTEGER NOT NULL,
        workspace TEXT,
        pinned TEXT,
        created_by TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        unreachable_since INTEGER,
        log_bytes INTEGER NOT NULL,
        request_sha256 BLOB NOT NULL,
        spec TEXT NOT NULL,
        result TEXT
    ) STRICT;
    CREATE INDEX task_created ON task (created_at);
    CREATE INDEX task_status ON task (status);
    CREATE INDEX task_name ON task (name, status);
    CREATE TABLE label (
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        seq INTEGER NOT NULL REFERENCES task (seq) ON DELETE CASCADE,
        PRIMARY KEY (key, value, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX label_task ON label (seq);",
    // 2: lanes and retries, as they were when a task was accepted, and its ended attempts. Tasks of before have none.
    "ALTER TABLE task ADD COLUMN lane TEXT;
    ALTER TABLE task ADD COLUMN concurrency INTEGER;
    ALTER TABLE task ADD COLUMN retry TEXT;
    ALTER TABLE task ADD COLUMN not_before INTEGER;
    ALTER TABLE task ADD COLUMN attempts TEXT;",
    // 3: words; hours, in each of which an index has the lowest place first, in place of times; nodes. Labels go with
    // their row by its spec, which saves an index as large as all of them.
    "DROP INDEX task_created;
    ALTER TABLE task ADD COLUMN hour INTEGER GENERATED ALWAYS AS (created_at / 3600000000000) VIRTUAL;
    CREATE INDEX task_hour ON task (hour);
    CREATE INDEX task_node ON task (node) WHERE node IS NOT NULL;
    CREATE TABLE label_of_place (
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (key, value, seq)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO label_of_place SELECT key, value, seq FROM label ORDER BY key, value, seq;
    DROP TABLE label;
    ALTER TABLE label_of_place RENAME TO label;
    CREATE VIRTUAL TABLE task_text USING fts5(words, content = '', contentless_delete = 1, detail = none,
        tokenize = 'ascii');
    CREATE VIRTUAL TABLE task_word USING fts5vocab(task_text, instance);",
    // 4: words in a table as labels have it.
    "DROP TABLE task_word;
    DROP TABLE task_text;
    CREATE TABLE word (
        text TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (text, seq)
    ) STRICT, WITHOUT ROWID;",
    // 5: how often the end of a task that runs was asked for.
    "ALTER TABLE task ADD COLUMN cancels INTEGER;",
];

/// The version with which the table of words came, which is made from rows that are there.
const WORDS: i64 = 4;

/// The version that this build writes.
pub(crate) const VERSION: i64 = STEPS.len() as i64;

/// The version of a database; 0 for a new one.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Takes the steps that a database still lacks.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let from = usize::try_from(version(connection)?).unwrap_or(0);
    for (index, step) in STEPS.iter().enumerate().skip(from) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        let version = index as i64 + 1;
        if version == WORDS {
            words::fill(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
