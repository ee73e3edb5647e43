//! What happens to the tasks of an agent that died. Their processes were ended before, by the engine's own recovery.

use std::io;
use std::sync::Arc;

use rusqlite::Connection;
use task_runners::{ExecutionResult, Outcome, Records, TaskStatus};

use crate::keeper::Ending;
use crate::store::{Stored, Unfinished};
use crate::{run, store};

/// The code of a task whose secrets went with the agent that had accepted it.
const SECRET_GONE: &str = "secret_gone";
/// The code of a task whose row is damaged.
const ROW_DAMAGED: &str = "row_damaged";

/// Brings every task that has not ended into a state in which the service can go on with it:
///
/// | row | whole result in the record | none |
/// |---|---|---|
/// | `running` | the result's terminal state | `interrupted` |
/// | `queued` | the result's terminal state (the row is of a restored, older database) | waits on |
/// | `queued`, with secrets | the same | `interrupted`: no disk held them |
/// | `queued`, damaged | the same | `failed` |
///
/// All in one transaction, after the results of the interrupted tasks are on disk. Gives the tasks about whose end
/// nothing can be said yet, because a result is there and cannot be read.
///
/// # Errors
/// When the database cannot be read or written; a row that is damaged is no reason.
pub(crate) fn recover(db: &mut Connection, records: &Records) -> rusqlite::Result<Vec<Unfinished>> {
    match take_over(db, records) {
        // What says which rows have not ended is an index; the rows themselves may be whole.
        Err(error) if store::is_damage(&error) => {
            tracing::error!(%error, "the database's indexes are damaged and are made anew");
            db.execute_batch("REINDEX")?;
            take_over(db, records)
        }
        other => other,
    }
}

fn take_over(db: &mut Connection, records: &Records) -> rusqlite::Result<Vec<Unfinished>> {
    let rows = store::unfinished(db)?;
    let (mut endings, mut undecided, mut waiting) = (Vec::new(), Vec::new(), 0_usize);
    for task in rows.tasks {
        let stored = store::unfinished_by_seq(db, task.seq)?.ok_or_else(|| {
            store::corrupt(format!("the state of the task '{}' is not what its index says", task.id))
        })?;
        match end_of(records, &stored) {
            Ok(Some(result)) => endings.push(run::ending(stored.seq, stored.task, Arc::new(result))),
            Ok(None) => waiting += 1,
            Err(error) => {
                tracing::error!(task_id = %task.id, %error,
                    "the result of this task is there and cannot be read; how it ended is not decided before it can");
                undecided.push(task);
            }
        }
    }
    let transaction = db.transaction()?;
    for Ending { seq, task, result_json, .. } in &endings {
        store::end(&transaction, *seq, task, result_json)?;
    }
    for (seq, started) in &rows.nameless {
        end_nameless(&transaction, *seq, *started)?;
    }
    transaction.commit()?;
    let (ended, nameless) = (endings.len(), rows.nameless.len());
    if waiting + ended + nameless + undecided.len() > 0 {
        let undecided = undecided.len();
        tracing::info!(
            waiting,
            ended,
            nameless,
            undecided,
            "tasks of the last run of this agent were taken over"
        );
    }
    Ok(undecided)
}

/// How a task of an agent that died has ended; none when it waits and can go on waiting.
///
/// # Errors
/// When its result is there and cannot be read. It is not overwritten: it may be read later.
pub(crate) fn end_of(records: &Records, stored: &Stored) -> io::Result<Option<ExecutionResult>> {
    let id = &stored.task.id;
    if let Some(result) = records.read_result(id)? {
        return Ok(Some(result));
    }
    let result = match (stored.task.status, stored.damage) {
        (TaskStatus::Queued, None) if stored.task.spec.secrets.is_empty() => return Ok(None),
        (TaskStatus::Queued, None) => secret_gone(),
        (TaskStatus::Queued, Some(column)) => row_damaged(column),
        _ => records.interrupted(id),
    };
    if let Err(error) = records.write_result(id, &result) {
        tracing::error!(task_id = %id, %error, "the record of this task could not be written");
    }
    Ok(Some(result))
}

/// The result of a task that never started, because the agent that knew its secrets is gone.
fn secret_gone() -> ExecutionResult {
    let message = "the agent ended before this task's turn came, and its secrets, which are kept in memory only, are gone; \
        submit it again under another id";
    ExecutionResult::without_run(Outcome::Interrupted, SECRET_GONE, message)
}

/// The result of a task that never started, because what was asked for cannot be read any more.
pub(crate) fn row_damaged(column: &str) -> ExecutionResult {
    let message = format!(
        "the column '{column}' of this task's row is damaged, so that nothing was started; submit it again"
    );
    ExecutionResult::without_run(Outcome::NotStarted, ROW_DAMAGED, message)
}

/// Ends a row that cannot be told from others: without its id there is no record to look into.
fn end_nameless(db: &Connection, seq: i64, started: bool) -> rusqlite::Result<()> {
    tracing::error!(seq, started, "the id or the state in this row is damaged; its task is ended");
    let (status, outcome) = match started {
        true => (TaskStatus::Interrupted, Outcome::Interrupted),
        false => (TaskStatus::Failed, Outcome::NotStarted),
    };
    let message =
        "the id or the state in this task's row is damaged, so that its record could not be looked into";
    let result = ExecutionResult::without_run(outcome, ROW_DAMAGED, message);
    let result_json = serde_json::to_string(&result).unwrap_or_default();
    store::end_nameless(db, seq, status, &result_json)
}
