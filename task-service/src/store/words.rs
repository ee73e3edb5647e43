//! The index of words: a row for each word of each task, in the order of words and then of places, as labels have it. It is
//! written with the row of the task, in the same savepoint.
//!
//! Each change costs the same, however long the history is and whatever was removed from it. FTS5, which takes a sixth
//! of the room, puts large parts of its index together now and then while everybody waits, for seconds where most of
//! them are of tasks that were removed.

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::row::{COLUMNS, Stored};
use crate::search::words_of;

/// Most words that a beginning stands for. Of more it would be looked for as a word of its own: all tasks of so many words
/// cannot be put in order in time.
const MAX_COMPLETIONS: usize = 256;
/// Entries that are put in order before they are written, about 32 bytes each: who writes in the order of the index
/// touches each of its pages once.
const IN_ORDER: usize = 1 << 20;

/// Adds words of the task in a place. Those that it has already stay.
pub(crate) fn add(db: &Connection, place: i64, words: &[String]) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO word (text, seq) VALUES (?1, ?2)")?;
    words.iter().try_for_each(|word| insert.execute(params![word, place]).map(drop))
}

/// Removes words of tasks, each with the place of its task.
pub(crate) fn remove(db: &Connection, mut entries: Vec<(String, i64)>) -> rusqlite::Result<()> {
    entries.sort_unstable();
    let mut delete = db.prepare_cached("DELETE FROM word WHERE text = ?1 AND seq = ?2")?;
    entries.iter().try_for_each(|(word, place)| delete.execute(params![word, place]).map(drop))
}

/// Makes the index of all rows. Must be called within a transaction, with the table empty.
pub(crate) fn fill(db: &Connection) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT INTO word (text, seq) VALUES (?1, ?2)")?;
    let mut write = |entries: &mut Vec<(String, i64)>| {
        entries.sort_unstable();
        entries.drain(..).try_for_each(|(word, place)| insert.execute(params![word, place]).map(drop))
    };
    let mut all = db.prepare(&format!("SELECT {COLUMNS} FROM task ORDER BY seq"))?;
    let (mut rows, mut entries) = (all.query([])?, Vec::new());
    while let Some(row) = rows.next()? {
        // Who cannot be read is not found, in lists neither.
        if let Ok(stored) = Stored::read(row) {
            entries.extend(words_of(&stored.task).into_iter().map(|word| (word, stored.seq)));
        }
        if entries.len() >= IN_ORDER {
            write(&mut entries)?;
        }
    }
    write(&mut entries)
}

/// The words that begin so, or the beginning itself where there are too many.
pub(crate) fn completions(db: &Connection, beginning: &str) -> rusqlite::Result<Vec<String>> {
    let mut next = db.prepare_cached("SELECT text FROM word WHERE text >= ?1 ORDER BY text LIMIT 1")?;
    let mut next_to = db.prepare_cached("SELECT text FROM word WHERE text > ?1 ORDER BY text LIMIT 1")?;
    let mut found: Vec<String> = Vec::new();
    let mut word = first(&mut next, beginning)?;
    while let Some(one) = word.filter(|word| word.starts_with(beginning)) {
        if found.len() == MAX_COMPLETIONS {
            return Ok(vec![beginning.to_owned()]);
        }
        word = first(&mut next_to, &one)?;
        found.push(one);
    }
    Ok(found)
}

fn first(statement: &mut Statement<'_>, bound: &str) -> rusqlite::Result<Option<String>> {
    statement.query_row([bound], |row| row.get(0)).optional()
}
