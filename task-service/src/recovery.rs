//! What happens to the tasks of an agent that died. Their processes were ended before, by the engine's own recovery.

use std::fs;
use std::sync::Arc;

use rusqlite::Connection;
use task_runners::{ExecutionResult, LogSummary, Outcome, Records, TaskId, TaskStatus};

use crate::keeper::Ending;
use crate::store::Unfinished;
use crate::{run, store};

/// Brings every task that has not ended into a state in which the service can go on with it:
///
/// | row | whole result in the record | none |
/// |---|---|---|
/// | `running` | the result's terminal state | `interrupted` |
/// | `queued` | the result's terminal state (the row is of a restored, older database) | waits on |
///
/// All in one transaction, after the results of the interrupted tasks are on disk.
pub(crate) fn recover(db: &mut Connection, records: &Records) -> rusqlite::Result<()> {
    let mut endings = Vec::new();
    let (mut interrupted, mut waiting) = (0_u32, 0_u32);
    for Unfinished { id, status, .. } in store::unfinished(db)? {
        let result = match (read(records, &id), status) {
            (Some(result), _) => result,
            (None, TaskStatus::Queued) => {
                waiting += 1;
                continue;
            }
            (None, _) => {
                interrupted += 1;
                interrupt(records, &id)
            }
        };
        if let Some(stored) = store::unfinished_by_id(db, &id)? {
            endings.push(run::ending(stored.task, Arc::new(result)));
        }
    }
    let transaction = db.transaction()?;
    for Ending { task, result_json } in &endings {
        store::end(&transaction, task, result_json)?;
    }
    transaction.commit()?;
    if waiting > 0 || !endings.is_empty() {
        let finished = endings.len() - interrupted as usize;
        tracing::info!(waiting, interrupted, finished, "tasks of the last run of this agent were taken over");
    }
    Ok(())
}

fn read(records: &Records, id: &TaskId) -> Option<ExecutionResult> {
    records.read_result(id).unwrap_or_else(|error| {
        tracing::error!(task_id = %id, %error, "the result of this task cannot be read and counts as none");
        None
    })
}

/// The result of a task that the agent's death has cut off, which is also written to its record.
fn interrupt(records: &Records, id: &TaskId) -> ExecutionResult {
    let mut result = ExecutionResult::without_run(
        Outcome::Interrupted,
        "agent_died",
        "the agent died while this task ran; what was left of it was ended at the next start",
    );
    // What stands in the log is worth reading, although nobody has closed it.
    if let Ok(log) = fs::metadata(records.log_path(id)) {
        let incomplete = Some("the agent died while it was written".to_owned());
        result.log = LogSummary { bytes: log.len(), incomplete, ..LogSummary::default() };
    }
    if let Err(error) = records.write_result(id, &result) {
        tracing::error!(task_id = %id, %error, "the record of this interrupted task could not be written");
    }
    result
}
