//! Reads one task, and pages of tasks in the order of acceptance, newest first.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use task_runners::{Task, TaskId};

use super::places::{Next, Places};
use super::row::{COLUMNS, Stored, nanoseconds, time};
use crate::list::TaskFilter;

/// A page ends early when its specs and results are this long together, so that a list needs no more memory than a
/// few large tasks.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A page ends early when this many tasks were looked at and most of them were not for the caller's eyes.
const MAX_SCANNED: usize = 5000;
/// The lowest place of the hours from that of a time on; behind all places where there are none.
const OLDEST_PLACE: &str = "
    WITH RECURSIVE present (hour, place) AS (
        SELECT * FROM (SELECT hour, seq FROM task INDEXED BY task_hour
            WHERE hour >= ?1 / 3600000000000 ORDER BY hour, seq LIMIT 1)
        UNION ALL
        SELECT next.hour, next.seq FROM present JOIN task AS next ON next.seq = (
            SELECT seq FROM task INDEXED BY task_hour WHERE hour > present.hour ORDER BY hour, seq LIMIT 1)
    )
    SELECT coalesce(min(place), 9223372036854775807) FROM present";

/// One task.
pub(crate) fn by_id(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<Task>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
    let stored = db.prepare_cached(&sql)?.query_row([id.as_str()], Stored::read).optional()?;
    Ok(stored.map(|stored| stored.task))
}

/// Where a task runs, and since when that is out of reach.
pub(crate) fn whereabouts(
    db: &Connection,
    id: &TaskId,
) -> rusqlite::Result<Option<(Option<String>, Option<Timestamp>)>> {
    let sql = "SELECT node, unreachable_since FROM task WHERE id = ?1";
    let read = |row: &Row<'_>| Ok((row.get(0)?, time(row, 1)?));
    db.prepare_cached(sql)?.query_row([id.as_str()], read).optional()
}

/// The digest of the spec under which an id was accepted.
pub(crate) fn digest_by_id(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<[u8; 32]>> {
    let sql = "SELECT request_sha256 FROM task WHERE id = ?1";
    db.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()
}

/// A page of tasks that were accepted before the place `before`, newest first, and the place to go on from.
pub(crate) fn page(
    db: &Connection,
    filter: &TaskFilter,
    limit: usize,
    before: i64,
) -> rusqlite::Result<(Vec<Task>, Option<i64>)> {
    // One transaction is one state of the database, whatever is accepted meanwhile.
    let snapshot = db.unchecked_transaction()?;
    let mut places = Places::new(&snapshot, filter, oldest_place(&snapshot, filter)?)?;
    let mut page = Page { tasks: Vec::new(), bytes: 0, scanned: 0, before };
    loop {
        let place = match places.at_or_before(page.before.saturating_sub(1))? {
            Next::None => return Ok((page.tasks, None)),
            Next::Later(place) => return Ok((page.tasks, Some(place))),
            Next::Found(place) => place,
        };
        if page.tasks.len() == limit || page.bytes >= MAX_PAGE_BYTES || page.scanned == MAX_SCANNED {
            return Ok((page.tasks, Some(page.before)));
        }
        page.look_at(&snapshot, filter, place)?;
    }
}

/// A page that is being filled.
struct Page {
    tasks: Vec<Task>,
    bytes: usize,
    scanned: usize,
    before: i64,
}

impl Page {
    fn look_at(&mut self, db: &Connection, filter: &TaskFilter, place: i64) -> rusqlite::Result<()> {
        self.scanned += 1;
        self.before = place;
        let sql = format!("SELECT {COLUMNS} FROM task WHERE seq = ?1");
        let read = |row: &Row<'_>| Stored::read_if(row, |facts| filter.shows(facts));
        match db.prepare_cached(&sql)?.query_row([place], read).optional() {
            Ok(Some(Some(stored))) => {
                self.bytes += stored.size;
                self.tasks.push(stored.task);
                Ok(())
            }
            // Not wanted; or an index names a row that is not there, which is damage that hides nothing.
            Ok(_) => Ok(()),
            // One row that cannot be read must not hide all others.
            Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
                tracing::error!(seq = place, %error, "a task's row cannot be read and is left out of a list");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// A place before which `since` leaves nothing. Clocks step, so that it is no replacement for comparing each row's time;
/// but it keeps a list of the last hour from reading the whole history.
///
/// Within each hour an index has the lowest place first. So it takes as many look-ups as there are hours since then, and
/// none where the whole history is wanted.
fn oldest_place(db: &Connection, filter: &TaskFilter) -> rusqlite::Result<i64> {
    let Some(since) = filter.since.map(nanoseconds) else {
        return Ok(0);
    };
    let first = "SELECT created_at FROM task ORDER BY seq LIMIT 1";
    let first: Option<i64> = db.prepare_cached(first)?.query_row([], |row| row.get(0)).optional()?;
    if first.is_none_or(|first| first >= since) {
        return Ok(0);
    }
    db.prepare_cached(OLDEST_PLACE)?.query_row([since], |row| row.get(0))
}
