//! Places in the order of acceptance that fit all of several conditions, newest first.
//!
//! Each condition is an index that gives its places in order, from any place on. Where all of them name the same place,
//! a task is found; otherwise all go on from the lowest that was named. So the effort depends on the rarest condition, not
//! on the history's length, and each statement is a search in one index.

use std::collections::{BTreeSet, VecDeque};

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, params_from_iter};
use task_runners::TaskStatus;

use super::words;
use crate::list::TaskFilter;

/// Most places that are read ahead from an index. What is read and passed over is lost.
const MOST_AHEAD: usize = 256;
/// Places that may be looked up for one page in all indexes together, about 1 µs each.
const MAX_EFFORT: usize = 30_000;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A place that fits all conditions.
    Found(i64),
    /// It took too long to say. Everything down to this place, itself left out, was looked at.
    Later(i64),
    /// There is none.
    None,
}

/// The places that fit all conditions of a filter.
pub(crate) struct Places<'db> {
    conditions: Vec<Condition<'db>>,
    oldest: i64,
    effort: usize,
}

/// The places of one condition: those of any of its values.
struct Condition<'db> {
    statement: CachedStatement<'db>,
    indexed: Vec<Indexed>,
}

/// The places of one value in an index.
struct Indexed {
    values: Vec<Value>,
    /// Read ahead, newest first.
    ahead: VecDeque<i64>,
    /// How many are read at a time.
    batch: usize,
    /// Whether there is nothing behind what was read ahead.
    is_over: bool,
}

impl<'db> Places<'db> {
    /// The places from `oldest` on that fit a filter, as far as indexes can tell.
    pub(crate) fn new(db: &'db Connection, filter: &TaskFilter, oldest: i64) -> rusqlite::Result<Self> {
        let conditions = queries(db, filter)?.into_iter().map(|query| Condition::new(db, query));
        Ok(Self { conditions: conditions.collect::<Result<_, _>>()?, oldest, effort: 0 })
    }

    /// The newest place that is not newer than `place`.
    pub(crate) fn at_or_before(&mut self, mut place: i64) -> rusqlite::Result<Next> {
        let mut agreed = 0;
        // In turns, until all have named the same.
        for turn in (0..self.conditions.len()).cycle() {
            if self.effort > MAX_EFFORT {
                return Ok(Next::Later(place.saturating_add(1)));
            }
            match self.conditions[turn].at_or_before(place, &mut self.effort)? {
                Some(found) if found < self.oldest => return Ok(Next::None),
                Some(found) if found == place => agreed += 1,
                Some(found) => (place, agreed) = (found, 1),
                None => return Ok(Next::None),
            }
            if agreed == self.conditions.len() {
                return Ok(Next::Found(place));
            }
        }
        Ok(Next::None)
    }
}

impl<'db> Condition<'db> {
    fn new(db: &'db Connection, query: Query) -> rusqlite::Result<Self> {
        let indexed = |values| Indexed { values, ahead: VecDeque::new(), batch: 1, is_over: false };
        Ok(Self {
            statement: db.prepare_cached(&query.sql)?,
            indexed: query.values.into_iter().map(indexed).collect(),
        })
    }

    fn at_or_before(&mut self, place: i64, effort: &mut usize) -> rusqlite::Result<Option<i64>> {
        let mut newest = None;
        for indexed in &mut self.indexed {
            let passed = indexed.pass(place);
            if indexed.ahead.is_empty() && !indexed.is_over {
                // Who steps from place to place reads more at a time, who leaps reads little.
                indexed.batch = if passed <= 1 { (indexed.batch * 2).min(MOST_AHEAD) } else { 1 };
                indexed.read(&mut self.statement, place)?;
                *effort += 2 + indexed.batch / 4;
            }
            newest = newest.max(indexed.ahead.front().copied());
        }
        *effort += 1;
        Ok(newest)
    }
}

impl Indexed {
    /// Drops what was read ahead and is newer than a place; how many that were.
    fn pass(&mut self, place: i64) -> usize {
        let before = self.ahead.len();
        while self.ahead.front().is_some_and(|&next| next > place) {
            self.ahead.pop_front();
        }
        before - self.ahead.len()
    }

    fn read(&mut self, statement: &mut CachedStatement<'_>, place: i64) -> rusqlite::Result<()> {
        let bounds = [place, i64::try_from(self.batch).unwrap_or(i64::MAX)].map(Value::from);
        let values = self.values.iter().cloned().chain(bounds);
        let rows = statement.query_map(params_from_iter(values), |row| row.get(0))?;
        self.ahead = rows.collect::<Result<_, _>>()?;
        self.is_over = self.ahead.len() < self.batch;
        Ok(())
    }
}

/// A statement that gives the places of a condition, and the values that fit it. The place to begin with and the number of
/// rows are added to the values.
struct Query {
    sql: String,
    values: Vec<Vec<Value>>,
}

impl Query {
    /// Places of rows of a table, or of one of its indexes, where `condition` holds of `count` values.
    fn new(table: &str, place: &str, condition: &str, count: usize) -> Self {
        let (from, limit) = (count + 1, count + 2);
        let sql = format!(
            "SELECT {place} FROM {table} WHERE {condition} AND {place} <= ?{from} ORDER BY {place} DESC LIMIT ?{limit}"
        );
        Self { sql, values: Vec::new() }
    }

    fn or<const N: usize>(mut self, values: [&str; N]) -> Self {
        self.values.push(values.map(|value| Value::from(value.to_owned())).to_vec());
        self
    }
}

/// The statement of each condition.
fn queries(db: &Connection, filter: &TaskFilter) -> rusqlite::Result<Vec<Query>> {
    let mut queries = Vec::new();
    if let Some(search) = &filter.search {
        let (whole, beginning) = search.parts();
        let query = || Query::new("word", "seq", "text = ?1", 1);
        queries.extend(whole.iter().map(|word| query().or([word])));
        let completions = words::completions(db, beginning)?;
        queries.push(completions.iter().fold(query(), |query, word| query.or([word])));
    }
    for (key, value) in &filter.labels {
        queries.push(Query::new("label", "seq", "key = ?1 AND value = ?2", 2).or([key, value]));
    }
    if let Some(node) = &filter.node {
        queries.push(Query::new("task INDEXED BY task_node", "seq", "node = ?1", 1).or([node]));
    }
    let statuses: BTreeSet<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    if let Some(name) = &filter.name {
        // In the order of places for each state only.
        let query = Query::new("task INDEXED BY task_name", "seq", "name = ?1 AND status = ?2", 2);
        let all = TaskStatus::ALL.map(TaskStatus::as_str).into_iter();
        let wanted = all.filter(|status| statuses.is_empty() || statuses.contains(status));
        queries.push(wanted.fold(query, |query, status| query.or([name, status])));
    } else if !statuses.is_empty() {
        let query = Query::new("task INDEXED BY task_status", "seq", "status = ?1", 1);
        queries.push(statuses.into_iter().fold(query, |query, status| query.or([status])));
    }
    if queries.is_empty() {
        queries.push(Query::new("task", "seq", "TRUE", 0).or([]));
    }
    Ok(queries)
}
