//! What happens to the tasks of an agent that died. Their processes were ended before, by the engine's own recovery.

use std::io;
use std::sync::Arc;

use rusqlite::Connection;
use task_runners::{ExecutionResult, Outcome, Records, RunnerRegistry, TASK_FILE, Task, TaskId, TaskStatus};

use crate::clock::Moment;
use crate::keeper::{Ending, Retrying};
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
/// | `running`, on another agent | the same | runs on |
/// | `queued` | the result's terminal state (the row is of a restored, older database) | waits on |
/// | `queued`, with the record of a run (the same) | the same | `interrupted` |
/// | `queued`, with secrets | the same | `interrupted`: no disk held them |
/// | `queued`, damaged | the same | `failed` |
///
/// Where another attempt follows such an end, the attempt is set aside and the task waits for the next one; so it does
/// where its attempt was set aside, and only the row does not say so yet.
///
/// All in one transaction, after the results of the interrupted tasks are on disk. Gives the tasks about whose end
/// nothing can be said yet, because a result is there and cannot be read, or an attempt cannot be set aside.
///
/// # Errors
/// When the database cannot be read or written; a row that is damaged is no reason.
pub(crate) fn recover(
    db: &mut Connection,
    records: &Records,
    registry: &RunnerRegistry,
    now: Moment,
) -> rusqlite::Result<Vec<Unfinished>> {
    match take_over(db, records, registry, now) {
        // What says which rows have not ended is an index; the rows themselves may be whole.
        Err(error) if store::is_damage(&error) => {
            tracing::error!(%error, "the database's indexes are damaged and are made anew");
            db.execute_batch("REINDEX")?;
            take_over(db, records, registry, now)
        }
        other => other,
    }
}

fn take_over(
    db: &mut Connection,
    records: &Records,
    registry: &RunnerRegistry,
    now: Moment,
) -> rusqlite::Result<Vec<Unfinished>> {
    let rows = store::unfinished(db, registry)?;
    let (mut endings, mut retries, mut undecided, mut waiting) =
        (Vec::new(), Vec::new(), Vec::new(), 0_usize);
    for task in rows.tasks {
        let stored = store::unfinished_by_seq(db, task.seq)?.ok_or_else(|| {
            store::corrupt(format!("the state of the task '{}' is not what its index says", task.id))
        })?;
        match verdict(records, stored, registry) {
            Ok(Verdict::Ended(ending)) => endings.push(ending),
            Ok(Verdict::Retries(retrying)) => retries.push(retrying),
            Ok(Verdict::Waits) => waiting += 1,
            Err(error) => {
                tracing::error!(task_id = %task.id, %error,
                    "how this task goes on is not decided before this goes well; it is tried again and again");
                undecided.push(task);
            }
        }
    }
    let transaction = db.transaction()?;
    for ending in &endings {
        store::end(&transaction, ending)?;
    }
    for Retrying { ending, delay, .. } in retries.iter().map(|retrying| &**retrying) {
        store::retry(&transaction, ending.seq, &ending.next(), now.after(*delay).wall)?;
    }
    for (seq, started) in &rows.nameless {
        end_nameless(&transaction, *seq, *started)?;
    }
    transaction.commit()?;
    let (ended, retried, nameless) = (endings.len(), retries.len(), rows.nameless.len());
    if waiting + ended + retried + nameless + undecided.len() > 0 {
        let undecided = undecided.len();
        tracing::info!(
            waiting,
            ended,
            retried,
            nameless,
            undecided,
            "tasks of the last run of this agent were taken over"
        );
    }
    Ok(undecided)
}

/// What is to become of a task of an agent that died.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It waits, and can go on waiting; or runs on another agent, and goes on running.
    Waits,
    /// It has ended.
    Ended(Box<Ending>),
    /// An attempt of it has ended and was set aside, and another one follows.
    Retries(Box<Retrying>),
}

/// Decides about a task of an agent that died, by its row and its record.
///
/// # Errors
/// When a result is there and cannot be read, or an attempt cannot be set aside: that may go well later.
pub(crate) fn verdict(records: &Records, stored: Stored, registry: &RunnerRegistry) -> io::Result<Verdict> {
    let is_elsewhere = registry.runs_elsewhere(&stored.runner);
    let Stored { seq, mut task, retry, damage, .. } = stored;
    let mut aside = None;
    // Another one was to follow each of them, whether the row says so by now or not.
    while let Some(result) = attempt_result(records, &task)? {
        // Its end was asked for while it was set aside, and was acknowledged.
        if !retry.follows(task.attempt, &result) {
            return Ok(ended(records, seq, task, result));
        }
        let retrying = run::retrying(seq, task, &retry, Arc::new(result));
        task = retrying.ending.next();
        aside = Some(retrying);
    }
    let found = records.read_result(&task.id).map_err(failed("its result cannot be read"))?;
    let has_secrets = !task.spec.secrets.is_empty();
    let result = match (found, task.status, damage) {
        (Some(result), ..) => result,
        // It did not die with this agent.
        (None, TaskStatus::Running, None) if is_elsewhere => return Ok(Verdict::Waits),
        // A database that is older than the records, of a backup: it was started later.
        (None, TaskStatus::Queued, None) if was_started(records, &task.id, is_elsewhere)? => {
            records.interrupted(&task.id)
        }
        (None, TaskStatus::Queued, None) if has_secrets => secret_gone(),
        (None, TaskStatus::Queued, None) => {
            return Ok(aside.map_or(Verdict::Waits, |retrying| Verdict::Retries(Box::new(retrying))));
        }
        (None, TaskStatus::Queued, Some(column)) => row_damaged(column),
        _ => records.interrupted(&task.id),
    };
    // Without its secrets it cannot be tried again.
    if damage.is_none() && !has_secrets && retry.follows(task.attempt, &result) {
        let aside = records.set_aside(&task.id, task.attempt, &result);
        aside.map_err(failed("its attempt cannot be set aside"))?;
        return Ok(Verdict::Retries(Box::new(run::retrying(seq, task, &retry, Arc::new(result)))));
    }
    Ok(ended(records, seq, task, result))
}

/// Whether the record of a task is one of a run, or was to become one. Attempts that were set aside are not looked at. What was
/// asked is not in the record of one that runs elsewhere, and its log is: one that waits has no record.
fn was_started(records: &Records, id: &TaskId, is_elsewhere: bool) -> io::Result<bool> {
    let sign = if is_elsewhere { records.log_path(id) } else { records.folder(id).join(TASK_FILE) };
    sign.try_exists().map_err(failed("its record cannot be read"))
}

/// The result of the attempt that the row names, where it was set aside.
fn attempt_result(records: &Records, task: &Task) -> io::Result<Option<ExecutionResult>> {
    let result = records.attempt_result(&task.id, task.attempt);
    result.map_err(failed("the result of its attempt cannot be read"))
}

/// A task that has come to its end, with its result in the record.
fn ended(records: &Records, seq: i64, task: Task, result: ExecutionResult) -> Verdict {
    if let Err(error) = run::record_here(records, &task.id, &result) {
        tracing::error!(task_id = %task.id, %error, "the record of this task could not be written");
    }
    Verdict::Ended(Box::new(run::ending(seq, task, Arc::new(result))))
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
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
