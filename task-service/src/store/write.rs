//! Every statement that changes something. A row leaves `queued` and `running` only by these, and a terminal state
//! never.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use task_runners::{Lane, Plan, RunnerRegistry, Secrets, Task, TaskId, TaskStatus};

use super::row::{COLUMNS, Stored, nanoseconds, parsed, time};
use super::words;
use crate::keeper::{Ending, Needs};
use crate::search::words_of;

/// A checked task that asks to be accepted, with what its row needs beside it.
#[derive(Debug)]
pub(crate) struct NewTask {
    /// The task, queued.
    pub(crate) task: Task,
    /// Name of the runner that carries it out.
    pub(crate) runner: String,
    /// What the runner said about it.
    pub(crate) plan: Plan,
    /// The values of its secret parameters, which no row holds.
    pub(crate) secrets: Secrets,
    /// Digest of its spec.
    pub(crate) digest: [u8; 32],
    /// Its spec as JSON.
    pub(crate) spec_json: String,
    /// The words by which it is found.
    pub(crate) words: Vec<String>,
    /// What of it is tried again, as JSON, where something is.
    pub(crate) retry_json: Option<String>,
}

/// Adds a task with its labels and words, in the state that `task` has by now, and gives its place in the order of acceptance.
pub(crate) fn insert(db: &Connection, new: &NewTask, task: &Task) -> rusqlite::Result<i64> {
    let sql =
        "INSERT INTO task (id, name, runner, status, node, attempt, workspace, pinned, created_by, created_at,
            started_at, log_bytes, request_sha256, spec, lane, concurrency, retry)
        VALUES (:id, :name, :runner, :status, :node, :attempt, :workspace, :pinned, :created_by, :created_at,
            :started_at, 0, :digest, :spec, :lane, :concurrency, :retry)";
    let lane = new.plan.lane.as_ref();
    db.prepare_cached(sql)?.execute(named_params! {
        ":id": task.id.as_str(),
        ":name": task.name,
        ":runner": new.runner,
        ":status": task.status.as_str(),
        ":node": task.node,
        ":attempt": task.attempt,
        ":workspace": new.plan.workspace.as_ref().map(|name| name.as_str()),
        ":pinned": new.plan.pinned,
        ":created_by": task.created_by,
        ":created_at": nanoseconds(task.created_at),
        ":started_at": task.started_at.map(nanoseconds),
        ":digest": new.digest,
        ":spec": new.spec_json,
        ":lane": lane.map(|lane| &lane.name),
        ":concurrency": lane.map(|lane| lane.concurrency),
        ":retry": new.retry_json,
    })?;
    let seq = db.last_insert_rowid();
    for (key, value) in &task.spec.labels {
        db.prepare_cached("INSERT INTO label (key, value, seq) VALUES (?1, ?2, ?3)")?
            .execute(params![key, value, seq])?;
    }
    words::add(db, seq, &new.words)?;
    Ok(seq)
}

/// Marks a queued task as running. This is committed before the task is started, so that it cannot be twice.
pub(crate) fn mark_running(db: &Connection, seq: i64, started_at: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET status = 'running', started_at = ?2, not_before = NULL
        WHERE seq = ?1 AND status = 'queued'";
    one_row(db.prepare_cached(sql)?.execute(params![seq, nanoseconds(started_at)])?)
}

/// Puts a task that was marked as running, and of which nothing was started, back into the queue.
pub(crate) fn put_back(db: &Connection, seq: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET status = 'queued', started_at = NULL WHERE seq = ?1 AND status = 'running'";
    one_row(db.prepare_cached(sql)?.execute([seq])?)
}

/// Puts a task, an attempt of which has ended, back into the queue for the next one: as `task` says, and not before a time.
/// Whether the row was not terminal before.
pub(crate) fn retry(db: &Connection, seq: i64, task: &Task, not_before: Timestamp) -> rusqlite::Result<bool> {
    let sql =
        "UPDATE task SET status = 'queued', started_at = NULL, attempt = :attempt, attempts = :attempts,
            not_before = :not_before
        WHERE seq = :seq AND status IN ('queued', 'running')";
    let changed = db.prepare_cached(sql)?.execute(named_params! {
        ":seq": seq,
        ":attempt": task.attempt,
        ":attempts": attempts_json(task),
        ":not_before": nanoseconds(not_before),
    })?;
    Ok(changed == 1)
}

/// The ended attempts as the row holds them.
fn attempts_json(task: &Task) -> Option<String> {
    // They hold only numbers, times and words, which JSON has.
    (!task.attempts.is_empty()).then(|| serde_json::to_string(&task.attempts).unwrap_or_default())
}

/// Notes that the end of a task that runs was asked for, so that its attempt is the last, whatever it comes to. What runs
/// elsewhere outlives this agent, and is asked by the next one too.
pub(crate) fn note_cancel(db: &Connection, id: &TaskId) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET retry = NULL, cancels = coalesce(cancels, 0) + 1
        WHERE id = ?1 AND status = 'running' AND coalesce(cancels, 0) < 2";
    db.prepare_cached(sql)?.execute([id.as_str()]).map(drop)
}

/// How often the end of the task in a place was asked for while it ran.
pub(crate) fn cancels(db: &Connection, seq: i64) -> rusqlite::Result<u32> {
    let sql = "SELECT coalesce(cancels, 0) FROM task WHERE seq = ?1";
    let cancels: Option<i64> = db.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?;
    Ok(cancels.and_then(|cancels| u32::try_from(cancels).ok()).unwrap_or_default().min(2))
}

/// Writes the node that a task runs on, with the words by which it is found because of that.
pub(crate) fn note_node(db: &Connection, id: &TaskId, node: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET node = ?2 WHERE id = ?1 AND status = 'running' AND node IS NOT ?2";
    if db.prepare_cached(sql)?.execute([id.as_str(), node])? == 0 {
        return Ok(());
    }
    let stored = unfinished_by_id(db, id)?;
    stored.map_or(Ok(()), |stored| words::add(db, stored.seq, &words_of(&stored.task)))
}

/// Writes since when what carries a task out has been out of reach, where it is not written yet; or that it no longer is.
pub(crate) fn note_unreachable(
    db: &Connection,
    id: &TaskId,
    since: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET unreachable_since = iif(?2 IS NULL, NULL, coalesce(unreachable_since, ?2))
        WHERE id = ?1 AND status = 'running'";
    db.prepare_cached(sql)?.execute(params![id.as_str(), since.map(nanoseconds)]).map(drop)
}

/// Writes the end of a task, and the words that came with it. Whether the row was not terminal before.
pub(crate) fn end(db: &Connection, ending: &Ending) -> rusqlite::Result<bool> {
    let Ending { seq, task, result_json, words, .. } = ending;
    let sql = "UPDATE task SET status = :status, started_at = :started_at, ended_at = :ended_at,
            log_bytes = :log_bytes, result = :result, attempt = :attempt, attempts = :attempts, not_before = NULL,
            unreachable_since = iif(:status = 'lost', unreachable_since, NULL)
        WHERE seq = :seq AND status IN ('queued', 'running')";
    let changed = db.prepare_cached(sql)?.execute(named_params! {
        ":seq": seq,
        ":status": task.status.as_str(),
        ":started_at": task.started_at.map(nanoseconds),
        ":ended_at": task.ended_at.map(nanoseconds),
        ":log_bytes": i64::try_from(task.log_bytes).unwrap_or(i64::MAX),
        ":result": result_json,
        ":attempt": task.attempt,
        ":attempts": attempts_json(task),
    })?;
    let has_ended = changed == 1;
    if has_ended {
        words::add(db, *seq, words)?;
    }
    Ok(has_ended)
}

/// The row of a waiting task whose turn has come.
pub(crate) fn waiting(db: &Connection, seq: i64) -> rusqlite::Result<Stored> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE seq = ?1 AND status = 'queued'");
    db.prepare_cached(&sql)?.query_row([seq], Stored::read)
}

/// Writes the end of a task of whose row not even the id or the state can be read.
pub(crate) fn end_nameless(
    db: &Connection,
    seq: i64,
    status: TaskStatus,
    result_json: &str,
) -> rusqlite::Result<()> {
    let sql = "UPDATE task SET status = ?2, ended_at = ?3, result = ?4 WHERE seq = ?1";
    let ended_at = nanoseconds(Timestamp::now());
    one_row(db.prepare_cached(sql)?.execute(params![seq, status.as_str(), ended_at, result_json])?)
}

/// A task that has not ended, as far as its turn depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    /// Its place in the order of acceptance.
    pub(crate) seq: i64,
    /// Its id.
    pub(crate) id: TaskId,
    /// Queued or running.
    pub(crate) status: TaskStatus,
    /// What it needs beside a slot.
    pub(crate) needs: Needs,
    /// When its next attempt may start, where it waits for that.
    pub(crate) not_before: Option<Timestamp>,
}

/// The rows that have not ended, oldest first in each state.
#[derive(Debug, Default)]
pub(crate) struct UnfinishedRows {
    /// Those that can be gone on with.
    pub(crate) tasks: Vec<Unfinished>,
    /// The places of those whose id or state cannot be read; whether each may have been started.
    pub(crate) nameless: Vec<(i64, bool)>,
}

/// Every row that has not ended; the registry knows which of them run on other agents.
pub(crate) fn unfinished(db: &Connection, registry: &RunnerRegistry) -> rusqlite::Result<UnfinishedRows> {
    let mut found = UnfinishedRows::default();
    for status in [TaskStatus::Queued, TaskStatus::Running] {
        let sql = "SELECT seq, id, workspace, lane, concurrency, not_before, runner FROM task
            WHERE status = ?1 ORDER BY seq";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([status.as_str()])?;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            match parsed(row, 1) {
                Ok(id) => {
                    let (needs, not_before) = (needs(row)?, time(row, 5)?);
                    // A name that is damaged is that of no runner.
                    let runner: String = row.get(6).unwrap_or_default();
                    let needs = Needs { is_elsewhere: registry.runs_elsewhere(&runner), ..needs };
                    found.tasks.push(Unfinished { seq, id, status, needs, not_before });
                }
                Err(_) => found.nameless.push((seq, status == TaskStatus::Running)),
            }
        }
    }
    found.nameless.extend(of_unknown_state(db)?.into_iter().map(|seq| (seq, true)));
    Ok(found)
}

/// What a task needs, from the columns behind its id. A name that is damaged is one like any other.
fn needs(row: &Row<'_>) -> rusqlite::Result<Needs> {
    let text = |column| {
        let bytes = row.get_ref(column)?.as_bytes_or_null().unwrap_or_default();
        Ok::<_, rusqlite::Error>(bytes.map(|name| String::from_utf8_lossy(name).into_owned()))
    };
    let concurrency = row.get::<_, Option<i64>>(4)?.and_then(|most| u32::try_from(most).ok()).unwrap_or(1);
    let lane = text(3)?.map(|name| Lane { name, concurrency: concurrency.max(1), queue: None });
    Ok(Needs { workspace: text(2)?, lane, ..Needs::default() })
}

/// The places of rows in a state that no agent writes. The index is asked for one state after the other, so that the
/// effort does not depend on the history's length.
fn of_unknown_state(db: &Connection) -> rusqlite::Result<Vec<i64>> {
    let known: Vec<String> = TaskStatus::ALL.iter().map(|status| format!("'{status}'")).collect();
    let sql = format!(
        "WITH RECURSIVE state (present) AS (
            SELECT min(status) FROM task
            UNION ALL
            SELECT (SELECT min(status) FROM task WHERE status > present)
            FROM state WHERE present IS NOT NULL
        )
        SELECT seq FROM state CROSS JOIN task ON status = present WHERE present NOT IN ({})",
        known.join(", ")
    );
    db.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The snapshots that tasks which have not ended must run from.
pub(crate) fn pinned(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT DISTINCT pinned FROM task WHERE status IN ('queued', 'running') AND pinned IS NOT NULL";
    let mut statement = db.prepare_cached(sql)?;
    // A damaged text is no manifest's digest, and keeps nobody from pruning.
    let digests = statement.query_map([], |row| parsed(row, 0))?;
    digests.collect()
}

/// A task's row, if it has not ended.
pub(crate) fn unfinished_by_id(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1 AND status IN ('queued', 'running')");
    db.prepare_cached(&sql)?.query_row([id.as_str()], Stored::read).optional()
}

/// The row in a place, if it has not ended.
pub(crate) fn unfinished_by_seq(db: &Connection, seq: i64) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE seq = ?1 AND status IN ('queued', 'running')");
    db.prepare_cached(&sql)?.query_row([seq], Stored::read).optional()
}

fn one_row(changed: usize) -> rusqlite::Result<()> {
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}
