//! Rows that retention removes: which they are, and how they go.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use task_runners::TaskId;

use super::row::{COLUMNS, Stored, nanoseconds, parsed, time};
use super::words;
use crate::search::words_of;

/// What a task takes on a disk with blocks of 4 KiB: its record's folder, the logs of all attempts, `task.json` and
/// `result.json`, which are about as long as spec and result in its row, and the row. No folder is looked into for that.
/// Logs count as 256 TiB at most, so that no row, whatever is in it, keeps the others from being added up.
const BYTES: &str =
    "(SELECT 4096 * (3 + log / 4096 + spec / 4096 + result / 4096) + spec + result FROM (SELECT
    CAST(min(281474976710656.0, log_bytes + (
        SELECT total(value ->> 'log_bytes') FROM json_each(iif(json_valid(attempts), attempts, '[]'))
    )) AS INTEGER) AS log,
    octet_length(spec) AS spec,
    coalesce(octet_length(result), 0) AS result))";

/// A task that has ended and may go.
#[derive(Debug, Clone)]
pub(crate) struct Old {
    /// Its place.
    pub(crate) place: i64,
    /// Its id, where that can be read.
    pub(crate) id: Option<TaskId>,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
}

impl Old {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { place: row.get(0)?, id: parsed(row, 1).ok(), bytes: row.get::<_, i64>(2)?.unsigned_abs() })
    }
}

/// Up to `most` tasks that ended before a time, the oldest first, but for those that are `held`: a list of ids as JSON.
pub(crate) fn ended_before(
    db: &Connection,
    before: Timestamp,
    held: &str,
    most: u32,
) -> rusqlite::Result<Vec<Old>> {
    // Who was accepted later cannot have ended before, and only times of acceptance have an index.
    let sql = format!(
        "SELECT seq, id, {BYTES} FROM task INDEXED BY task_hour
        WHERE hour <= ?1 / 3600000000000 AND created_at < ?1 AND ended_at < ?1
            AND status NOT IN ('queued', 'running') AND id NOT IN (SELECT value FROM json_each(?3))
        ORDER BY hour LIMIT ?2"
    );
    let mut statement = db.prepare_cached(&sql)?;
    statement.query_map(params![nanoseconds(before), most, held], Old::read)?.collect()
}

/// Up to `most` tasks behind a place that have ended, the first that were accepted first, but for those that are `held`.
pub(crate) fn oldest_ended(
    db: &Connection,
    behind: i64,
    held: &str,
    most: u32,
) -> rusqlite::Result<Vec<Old>> {
    let sql = format!(
        "SELECT seq, id, {BYTES} FROM task WHERE seq > ?1 AND status NOT IN ('queued', 'running')
            AND id NOT IN (SELECT value FROM json_each(?3))
        ORDER BY seq LIMIT ?2"
    );
    db.prepare_cached(&sql)?.query_map(params![behind, most, held], Old::read)?.collect()
}

/// When a task ended, none as long as it has not; none as well where there is no such task.
pub(crate) fn ended_at(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<Option<Timestamp>>> {
    let sql = "SELECT iif(status IN ('queued', 'running'), NULL, ended_at) FROM task WHERE id = ?1";
    db.prepare_cached(sql)?.query_row([id.as_str()], |row| time(row, 0)).optional()
}

/// How many tasks there are.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT count(*) FROM task")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// What up to `most` tasks behind a place take on the disk, and the last of their places; none when there are none.
pub(crate) fn bytes_within(db: &Connection, behind: i64, most: u32) -> rusqlite::Result<Option<(u64, i64)>> {
    let sql = format!(
        "SELECT sum(bytes), max(seq) FROM (SELECT seq, {BYTES} AS bytes FROM task WHERE seq > ?1 ORDER BY seq LIMIT ?2)"
    );
    db.prepare_cached(&sql)?.query_row(params![behind, most], |row| {
        let (bytes, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(bytes.map(i64::unsigned_abs).zip(last))
    })
}

/// Removes the rows of tasks that have ended, with their labels and words; says how many there were.
pub(crate) fn forget(db: &Connection, places: &[i64]) -> rusqlite::Result<usize> {
    let mut find = db.prepare_cached(&format!(
        "DELETE FROM task WHERE seq = ?1 AND status NOT IN ('queued', 'running') RETURNING {COLUMNS}"
    ))?;
    let mut unlabel = db.prepare_cached("DELETE FROM label WHERE key = ?1 AND value = ?2 AND seq = ?3")?;
    let (mut forgotten, mut entries) = (0, Vec::new());
    for &place in places {
        let mut rows = find.query([place])?;
        while let Some(row) = rows.next()? {
            forgotten += 1;
            // Of a row that cannot be read labels and words stay; they lead to no task, and lists know that.
            let Ok(stored) = Stored::read(row) else { continue };
            entries.extend(words_of(&stored.task).into_iter().map(|word| (word, place)));
            for (key, value) in &stored.task.spec.labels {
                unlabel.execute(params![key, value, place])?;
            }
        }
    }
    words::remove(db, entries)?;
    Ok(forgotten)
}
