//! A row of the table `task` as a task.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::de::DeserializeOwned;
use task_runners::{RetryPolicy, Task, TaskSpec};

/// The columns that [`Stored::read`] expects, in its order.
pub(crate) const COLUMNS: &str = "seq, id, name, status, node, attempt, created_by, created_at, started_at, \
    ended_at, unreachable_since, log_bytes, runner, pinned, spec, result, retry, attempts";

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
    /// What of it is tried again.
    pub(crate) retry: RetryPolicy,
    /// Length of its spec and result as text, bytes.
    pub(crate) size: usize,
    /// The first column that does not hold what this agent writes there, if one does not. What it held is replaced.
    pub(crate) damage: Option<&'static str>,
}

/// What a list decides by whether to show a task.
pub(crate) struct Facts<'a> {
    /// What was asked for.
    pub(crate) spec: &'a TaskSpec,
    /// Who asked.
    pub(crate) created_by: &'a str,
    /// When it was accepted.
    pub(crate) created_at: Timestamp,
}

impl Stored {
    /// Reads a row of [`COLUMNS`]. A column that is damaged hides no task: its text is read as far as that can be, and
    /// a spec counts as one that only names the script, a result as none.
    ///
    /// # Errors
    /// When the id or the state cannot be read.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Self::read_if(row, |_| true)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }

    /// The same for a task that is wanted by its facts. Of one that is not, no more than these is read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_if(
        row: &Row<'_>,
        wanted: impl FnOnce(&Facts<'_>) -> bool,
    ) -> rusqlite::Result<Option<Self>> {
        let mut columns = Columns { row, damage: None };
        let name = columns.text("name", 2)?;
        let spec = columns.spec(14, &name)?;
        let created_by = columns.text("created_by", 6)?;
        let created_at = time(row, 7)?.unwrap_or(Timestamp::UNIX_EPOCH);
        if !wanted(&Facts { spec: &spec, created_by: &created_by, created_at }) {
            return Ok(None);
        }
        let task = Task {
            id: parsed(row, 1)?,
            status: parsed(row, 3)?,
            node: columns.optional_text("node", 4)?,
            attempt: columns.attempt(5)?,
            attempts: columns.json("attempts", 17)?.unwrap_or_default(),
            created_by,
            created_at,
            started_at: time(row, 8)?,
            ended_at: time(row, 9)?,
            unreachable_since: time(row, 10)?,
            log_bytes: row.get::<_, i64>(11)?.unsigned_abs(),
            spec: Arc::new(spec),
            result: columns.json("result", 15)?,
            late_result: None,
            name,
        };
        Ok(Some(Self {
            seq: row.get(0)?,
            size: bytes(row, 14)?.len() + bytes(row, 15)?.len(),
            runner: columns.text("runner", 12)?,
            pinned: columns.optional_text("pinned", 13)?,
            retry: columns.json("retry", 16)?.unwrap_or_default(),
            damage: columns.damage,
            task,
        }))
    }
}

/// Reads the columns of a row, and remembers which is damaged.
struct Columns<'r> {
    row: &'r Row<'r>,
    damage: Option<&'static str>,
}

impl Columns<'_> {
    fn text(&mut self, column: &'static str, index: usize) -> rusqlite::Result<String> {
        Ok(self.optional_text(column, index)?.unwrap_or_default())
    }

    fn optional_text(&mut self, column: &'static str, index: usize) -> rusqlite::Result<Option<String>> {
        let bytes = self.row.get_ref(index)?.as_bytes_or_null().map_err(|error| broken(index, error))?;
        let text = bytes.map(String::from_utf8_lossy);
        if matches!(text, Some(Cow::Owned(_))) {
            self.damaged(column, &"it is not UTF-8");
        }
        Ok(text.map(Cow::into_owned))
    }

    fn attempt(&mut self, index: usize) -> rusqlite::Result<u32> {
        let number: i64 = self.row.get(index)?;
        Ok(u32::try_from(number).unwrap_or_else(|error| {
            self.damaged("attempt", &error);
            1
        }))
    }

    fn spec(&mut self, index: usize, name: &str) -> rusqlite::Result<TaskSpec> {
        Ok(serde_json::from_slice(bytes(self.row, index)?).unwrap_or_else(|error| {
            self.damaged("spec", &error);
            TaskSpec::new(name)
        }))
    }

    /// What stands in a column as JSON; none where nothing does.
    fn json<T: DeserializeOwned>(
        &mut self,
        column: &'static str,
        index: usize,
    ) -> rusqlite::Result<Option<T>> {
        let json = bytes(self.row, index)?;
        if json.is_empty() {
            return Ok(None);
        }
        let read = serde_json::from_slice(json);
        Ok(read.map_err(|error| self.damaged(column, &error)).ok())
    }

    fn damaged(&mut self, column: &'static str, error: &dyn Display) {
        let seq: i64 = self.row.get(0).unwrap_or_default();
        tracing::error!(seq, column, %error, "a column of a task's row is damaged");
        self.damage.get_or_insert(column);
    }
}

/// A time as it stands in the database: nanoseconds since 1970. Times before 1677 and after 2262 do not fit, and become the
/// nearer of these years: what asks for all that came before the former asks for nothing, and not for everything.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    let nearest = if nanoseconds < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(nanoseconds).unwrap_or(nearest)
}

/// The bytes of a text; none are those of no text.
fn bytes<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r [u8]> {
    let bytes = row.get_ref(column)?.as_bytes_or_null().map_err(|error| broken(column, error))?;
    Ok(bytes.unwrap_or_default())
}

/// A text that has a grammar. What is not UTF-8 is not in it.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    String::from_utf8_lossy(bytes(row, column)?).parse().map_err(|error| broken(column, error))
}

pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let Some(nanoseconds) = row.get::<_, Option<i64>>(column)? else {
        return Ok(None);
    };
    let time = Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| broken(column, error))?;
    Ok(Some(time))
}

fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_do_not_fit_become_the_nearer_end() {
        assert_eq!(nanoseconds(Timestamp::MIN), i64::MIN);
        assert_eq!(nanoseconds(Timestamp::MAX), i64::MAX);
        assert_eq!(nanoseconds("1969-12-31T23:59:59Z".parse().unwrap()), -1_000_000_000);
    }
}
