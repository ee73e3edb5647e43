//! A row of the table `task` as a task.

use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use task_runners::{ExecutionResult, Task};

/// The columns that [`Stored::read`] expects, in its order.
pub(crate) const COLUMNS: &str = "seq, id, name, status, node, attempt, created_by, created_at, started_at, \
    ended_at, unreachable_since, log_bytes, runner, pinned, spec, result";

/// A task with what only the service knows about it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its place in the order of acceptance.
    pub(crate) seq: i64,
    /// The task.
    pub(crate) task: Task,
    /// Name of the runner that carries it out.
    pub(crate) runner: String,
    /// The snapshot that it must run from.
    pub(crate) pinned: Option<String>,
    /// Length of its spec and result as text, bytes.
    pub(crate) size: usize,
}

impl Stored {
    /// Reads a row of [`COLUMNS`].
    ///
    /// # Errors
    /// When a column holds what this agent never writes there. A result that cannot be read counts as none, so
    /// that the task can still be seen.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let spec: &str = text(row, 14)?;
        let result: Option<&str> = row.get_ref(15)?.as_str_or_null().map_err(|error| broken(15, error))?;
        let task = Task {
            id: parsed(row, 1)?,
            name: row.get(2)?,
            status: parsed(row, 3)?,
            node: row.get(4)?,
            attempt: row.get(5)?,
            created_by: row.get(6)?,
            created_at: time(row, 7)?.unwrap_or(Timestamp::UNIX_EPOCH),
            started_at: time(row, 8)?,
            ended_at: time(row, 9)?,
            unreachable_since: time(row, 10)?,
            log_bytes: row.get::<_, i64>(11)?.unsigned_abs(),
            spec: Arc::new(serde_json::from_str(spec).map_err(|error| broken(14, error))?),
            result: result.and_then(|json| read_result(row, json)),
        };
        Ok(Self {
            seq: row.get(0)?,
            size: spec.len() + result.map_or(0, str::len),
            runner: row.get(12)?,
            pinned: row.get(13)?,
            task,
        })
    }
}

/// A time as it stands in the database: nanoseconds since 1970. Times after 2262 do not fit and become that year.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn read_result(row: &Row<'_>, json: &str) -> Option<Arc<ExecutionResult>> {
    match serde_json::from_str(json) {
        Ok(result) => Some(Arc::new(result)),
        Err(error) => {
            let id: String = row.get(1).unwrap_or_default();
            tracing::error!(task_id = %id, %error, "the result in this task's row cannot be read");
            None
        }
    }
}

fn text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    row.get_ref(column)?.as_str().map_err(|error| broken(column, error))
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text(row, column)?.parse().map_err(|error| broken(column, error))
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let Some(nanoseconds) = row.get::<_, Option<i64>>(column)? else {
        return Ok(None);
    };
    let time = Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| broken(column, error))?;
    Ok(Some(time))
}

fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
