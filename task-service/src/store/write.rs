//! Every statement that changes something. A row leaves `queued` and `running` only by these, and a terminal state
//! never.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params, params};
use task_runners::{Plan, Task, TaskId, TaskStatus};

use super::row::{COLUMNS, Stored, nanoseconds};

/// A checked task that asks to be accepted, with what its row needs beside it.
#[derive(Debug)]
pub(crate) struct NewTask {
    /// The task, queued.
    pub(crate) task: Task,
    /// Name of the runner that carries it out.
    pub(crate) runner: String,
    /// What the runner said about it.
    pub(crate) plan: Plan,
    /// Digest of its spec.
    pub(crate) digest: [u8; 32],
    /// Its spec as JSON.
    pub(crate) spec_json: String,
}

/// Adds a task with its labels, in the state that `task` has by now, and gives its place in the order of acceptance.
pub(crate) fn insert(db: &Connection, new: &NewTask, task: &Task) -> rusqlite::Result<i64> {
    let sql =
        "INSERT INTO task (id, name, runner, status, attempt, workspace, pinned, created_by, created_at,
            started_at, log_bytes, request_sha256, spec)
        VALUES (:id, :name, :runner, :status, :attempt, :workspace, :pinned, :created_by, :created_at,
            :started_at, 0, :digest, :spec)";
    db.prepare_cached(sql)?.execute(named_params! {
        ":id": task.id.as_str(),
        ":name": task.name,
        ":runner": new.runner,
        ":status": task.status.as_str(),
        ":attempt": task.attempt,
        ":workspace": new.plan.workspace.as_ref().map(|name| name.as_str()),
        ":pinned": new.plan.pinned,
        ":created_by": task.created_by,
        ":created_at": nanoseconds(task.created_at),
        ":started_at": task.started_at.map(nanoseconds),
        ":digest": new.digest,
        ":spec": new.spec_json,
    })?;
    let seq = db.last_insert_rowid();
    for (key, value) in &task.spec.labels {
        db.prepare_cached("INSERT INTO label (key, value, seq) VALUES (?1, ?2, ?3)")?
            .execute(params![key, value, seq])?;
    }
    Ok(seq)
}

/// Marks a queued task as running. This is committed before the task is started, so that it cannot be twice.
pub(crate) fn mark_running(db: &Connection, seq: i64, started_at: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET status = 'running', started_at = ?2 WHERE seq = ?1 AND status = 'queued'";
    one_row(db.prepare_cached(sql)?.execute(params![seq, nanoseconds(started_at)])?)
}

/// Puts a task that was marked as running, and of which nothing was started, back into the queue.
pub(crate) fn put_back(db: &Connection, seq: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET status = 'queued', started_at = NULL WHERE seq = ?1 AND status = 'running'";
    one_row(db.prepare_cached(sql)?.execute([seq])?)
}

/// Writes a task's terminal state; `result_json` is its result as text. Whether the row was not terminal before.
pub(crate) fn end(db: &Connection, task: &Task, result_json: &str) -> rusqlite::Result<bool> {
    let sql = "UPDATE task SET status = :status, started_at = :started_at, ended_at = :ended_at,
            log_bytes = :log_bytes, result = :result
        WHERE id = :id AND status IN ('queued', 'running')";
    let changed = db.prepare_cached(sql)?.execute(named_params! {
        ":id": task.id.as_str(),
        ":status": task.status.as_str(),
        ":started_at": task.started_at.map(nanoseconds),
        ":ended_at": task.ended_at.map(nanoseconds),
        ":log_bytes": i64::try_from(task.log_bytes).unwrap_or(i64::MAX),
        ":result": result_json,
    })?;
    Ok(changed == 1)
}

/// The row of a waiting task whose turn has come.
pub(crate) fn waiting(db: &Connection, seq: i64) -> rusqlite::Result<Stored> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE seq = ?1 AND status = 'queued'");
    db.prepare_cached(&sql)?.query_row([seq], Stored::read)
}

/// A task that has not ended, as far as its turn depends on it.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Its place in the order of acceptance.
    pub(crate) seq: i64,
    /// Its id.
    pub(crate) id: TaskId,
    /// Queued or running.
    pub(crate) status: TaskStatus,
    /// The shared workspace that it needs.
    pub(crate) workspace: Option<String>,
}

/// Every task that has not ended, oldest first.
pub(crate) fn unfinished(db: &Connection) -> rusqlite::Result<Vec<Unfinished>> {
    let sql =
        "SELECT seq, id, status, workspace FROM task WHERE status IN ('queued', 'running') ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut unfinished = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, status): (String, String) = (row.get(1)?, row.get(2)?);
        match (id.parse(), status.parse()) {
            (Ok(id), Ok(status)) => {
                unfinished.push(Unfinished { seq: row.get(0)?, id, status, workspace: row.get(3)? });
            }
            _ => tracing::error!(task_id = %id, "a row with a damaged id or state was left alone"),
        }
    }
    Ok(unfinished)
}

/// The snapshots that tasks which have not ended must run from.
pub(crate) fn pinned(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT DISTINCT pinned FROM task WHERE status IN ('queued', 'running') AND pinned IS NOT NULL";
    db.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// A task's row, if it has not ended.
pub(crate) fn unfinished_by_id(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1 AND status IN ('queued', 'running')");
    db.prepare_cached(&sql)?.query_row([id.as_str()], Stored::read).optional()
}

fn one_row(changed: usize) -> rusqlite::Result<()> {
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}
