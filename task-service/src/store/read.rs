//! Reads one task, and pages of tasks in the order of acceptance, newest first.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use task_runners::{Task, TaskId, TaskStatus};

use super::row::{COLUMNS, Stored, nanoseconds};
use crate::list::TaskFilter;

/// A page ends early when its specs and results are this long together, so that a list needs no more memory than a
/// few large tasks.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A page ends early when this many tasks were looked at and most of them were not for the caller's eyes.
const MAX_SCANNED: usize = 20_000;

/// One task.
pub(crate) fn by_id(db: &Connection, id: &TaskId) -> rusqlite::Result<Option<Task>> {
    let sql = format!("SELECT {COLUMNS} FROM task WHERE id = ?1");
    let stored = db.prepare_cached(&sql)?.query_row([id.as_str()], Stored::read).optional()?;
    Ok(stored.map(|stored| stored.task))
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
    let oldest = oldest_place(&snapshot, filter)?;
    let mut page = Page { tasks: Vec::new(), bytes: 0, scanned: 0, before };
    loop {
        let places = places(&snapshot, filter, (oldest, page.before), limit + 1)?;
        let last = places.len() <= limit;
        for place in places {
            if page.tasks.len() == limit || page.bytes >= MAX_PAGE_BYTES || page.scanned == MAX_SCANNED {
                return Ok((page.tasks, Some(page.before)));
            }
            page.look_at(&snapshot, filter, place)?;
        }
        if last {
            return Ok((page.tasks, None));
        }
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
        match db.prepare_cached(&sql)?.query_row([place], Stored::read) {
            Ok(stored) if filter.shows(&stored.task) => {
                self.bytes += stored.size;
                self.tasks.push(stored.task);
                Ok(())
            }
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

/// The lowest place that `since` leaves. Clocks step, so that it is no replacement for comparing each row's time; but
/// it keeps a list of the last hour from reading the whole history.
fn oldest_place(db: &Connection, filter: &TaskFilter) -> rusqlite::Result<i64> {
    let Some(since) = filter.since else {
        return Ok(0);
    };
    let sql = "SELECT min(seq) FROM task INDEXED BY task_created WHERE created_at >= ?1";
    let oldest: Option<i64> = db.prepare_cached(sql)?.query_row([nanoseconds(since)], |row| row.get(0))?;
    Ok(oldest.unwrap_or(i64::MAX))
}

/// The places of up to `count` tasks within `range` (from, before), newest first.
///
/// An index on a column holds the places in their order, but only within one value of it: a set of states is
/// therefore asked for one by one, and merged. So the effort depends on the page's length, not on the history's.
fn places(
    db: &Connection,
    filter: &TaskFilter,
    range: (i64, i64),
    count: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut statuses = filter.statuses.clone();
    statuses.sort_unstable_by_key(|status| status.as_str());
    statuses.dedup();
    if statuses.is_empty() && filter.name.is_some() {
        statuses.extend(TaskStatus::ALL);
    }
    if statuses.is_empty() || !filter.labels.is_empty() {
        return Query::new(filter, range, &statuses).run(db, count);
    }
    let mut merged = Vec::new();
    for status in statuses {
        merged.extend(Query::new(filter, range, &[status]).run(db, count)?);
    }
    merged.sort_unstable_by(|a, b| b.cmp(a));
    merged.truncate(count);
    Ok(merged)
}

/// A query for places, while it is put together.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    fn new(filter: &TaskFilter, (from, before): (i64, i64), statuses: &[TaskStatus]) -> Self {
        let mut labels = filter.labels.iter();
        let mut query = match labels.next() {
            // The first label leads: its key holds the places in order. CROSS JOIN keeps SQLite from swapping.
            Some((key, value)) => {
                let mut query = Self::starting("label AS l CROSS JOIN task AS t ON t.seq = l.seq", "l.seq");
                query.condition("l.key = ", key.clone());
                query.condition("l.value = ", value.clone());
                query.condition("l.seq >= ", from);
                query.condition("l.seq < ", before);
                query
            }
            None => {
                let mut query = Self::starting("task AS t", "t.seq");
                query.condition("t.seq >= ", from);
                query.condition("t.seq < ", before);
                query
            }
        };
        for (key, value) in labels {
            query.sql.push_str(" AND EXISTS (SELECT 1 FROM label AS m WHERE m.seq = t.seq");
            query.condition("m.key = ", key.clone());
            query.condition("m.value = ", value.clone());
            query.sql.push(')');
        }
        if let [status] = statuses {
            query.condition("t.status = ", status.as_str().to_owned());
        } else if !statuses.is_empty() {
            let names: Vec<String> = statuses.iter().map(|status| format!("'{status}'")).collect();
            query.sql.push_str(&format!(" AND t.status IN ({})", names.join(", ")));
        }
        if let Some(name) = &filter.name {
            query.condition("t.name = ", name.clone());
        }
        if let Some(created_by) = &filter.created_by {
            query.condition("t.created_by = ", created_by.clone());
        }
        if let Some(since) = filter.since {
            query.condition("+t.created_at >= ", nanoseconds(since));
        }
        query
    }

    fn starting(tables: &str, place: &str) -> Self {
        Self { sql: format!("SELECT {place} AS place FROM {tables} WHERE TRUE"), values: Vec::new() }
    }

    fn condition(&mut self, left: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql.push_str(&format!(" AND {left}?{}", self.values.len()));
    }

    fn run(mut self, db: &Connection, count: usize) -> rusqlite::Result<Vec<i64>> {
        self.values.push(Value::from(i64::try_from(count).unwrap_or(i64::MAX)));
        self.sql.push_str(&format!(" ORDER BY place DESC LIMIT ?{}", self.values.len()));
        let mut statement = db.prepare_cached(&self.sql)?;
        statement.query_map(params_from_iter(self.values), |row| row.get(0))?.collect()
    }
}
