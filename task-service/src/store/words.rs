//! The index of words: an FTS5 table without content of its own, since the words are made from the rows. It holds which
//! words a task has, not where, and takes about 50 bytes a task.
//!
//! It is written by the one that writes the rows, in the same transaction. As all of it can be made again from the rows,
//! damage in it is no damage to the history: it is noticed at the next start, which makes it anew.
//!
//! It has no positions and columns, which saves half the room, and its tokenizer takes our words as they are.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, params};

use super::check;
use super::row::{COLUMNS, Stored};
use crate::search::{Search, words_of};

/// Most words that a beginning stands for. Of more it would be looked for as a word of its own: all tasks of so many words
/// cannot be put in order in time.
const MAX_COMPLETIONS: usize = 256;
/// A task's place, and its words where they are new or have changed; none where it is gone.
pub(crate) type Change = (i64, Option<String>);

/// Writes what has changed. Must be called within a transaction, and once in it: each call makes a segment of its own.
/// An index that is damaged is left as it is.
///
/// # Errors
/// When the database cannot be written.
pub(crate) fn write(db: &Connection, changes: &[Change]) -> rusqlite::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    db.prepare_cached("SAVEPOINT words")?.execute([])?;
    // Another savepoint has FTS5 write what it has gathered now, so that it cannot fail at the commit.
    let written = write_all(db, changes)
        .and_then(|()| db.prepare_cached("SAVEPOINT written")?.execute([]).map(drop))
        .and_then(|()| db.prepare_cached("RELEASE written")?.execute([]).map(drop));
    match written {
        Err(error) if is_damaged(&error) && !db.is_autocommit() => {
            check::mark(Path::new(db.path().unwrap_or_default()), &error);
            db.prepare_cached("ROLLBACK TO words")?.execute([])?;
        }
        other => other?,
    }
    db.prepare_cached("RELEASE words")?.execute([]).map(drop)
}

/// Whether it is the index that cannot be written, and not the disk. What FTS5 says of blocks that it did not write is any
/// error, a violated constraint too.
fn is_damaged(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    let of_the_index = [ErrorCode::DatabaseCorrupt, ErrorCode::ConstraintViolation, ErrorCode::Unknown];
    code.is_some_and(|code| of_the_index.contains(&code))
}

fn write_all(db: &Connection, changes: &[Change]) -> rusqlite::Result<()> {
    let mut forget = db.prepare_cached("DELETE FROM task_text WHERE rowid = ?1")?;
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO task_text (rowid, words) VALUES (?1, ?2)")?;
    for (place, words) in changes {
        match words {
            Some(words) => insert.execute(params![place, words])?,
            None => forget.execute([place])?,
        };
    }
    Ok(())
}

/// Makes the index of all rows. Must be called within a transaction, with the tables empty.
pub(crate) fn fill(db: &Connection) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT INTO task_text (rowid, words) VALUES (?1, ?2)")?;
    let mut rows_read = db.prepare(&format!("SELECT {COLUMNS} FROM task ORDER BY seq"))?;
    let mut rows = rows_read.query([])?;
    while let Some(row) = rows.next()? {
        // Who cannot be read is not found, in lists neither.
        if let Ok(stored) = Stored::read(row) {
            insert.execute(params![stored.seq, words_of(&stored.task)])?;
        }
    }
    Ok(())
}

/// Makes the index anew.
pub(crate) fn make_anew(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute("INSERT INTO task_text (task_text) VALUES ('delete-all')", [])?;
    fill(&transaction)?;
    transaction.commit()
}

/// What a search is in the language of FTS5; none when no task has such words. There are only letters and digits in it
/// from the caller, each word in quotes, so that no text means anything else.
pub(crate) fn expression(db: &Connection, search: &Search) -> rusqlite::Result<Option<String>> {
    let (whole, beginning) = search.parts();
    let ends = completions(db, beginning)?;
    if ends.is_empty() {
        return Ok(None);
    }
    let quoted = |word: &String| format!("\"{word}\"");
    let ends: Vec<String> = ends.iter().map(quoted).collect();
    let parts = whole.iter().map(quoted).chain([format!("({})", ends.join(" OR "))]);
    Ok(Some(parts.collect::<Vec<_>>().join(" AND ")))
}

/// The words that begin so, or the beginning itself where there are too many. FTS5 has an operator for that, which puts
/// all their tasks together before the first is given; a word each is looked up as far as it is asked for.
fn completions(db: &Connection, beginning: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached("SELECT term FROM task_word WHERE term >= ?1 LIMIT 1")?;
    let mut found: Vec<String> = Vec::new();
    let mut next = term(&mut statement, beginning)?;
    while let Some(word) = next.filter(|word| word.starts_with(beginning)) {
        if found.len() == MAX_COMPLETIONS {
            return Ok(vec![beginning.to_owned()]);
        }
        // The least text behind this word: the table has an entry for each task of a word, which are passed so.
        next = term(&mut statement, &format!("{word}\0"))?;
        found.push(word);
    }
    Ok(found)
}

fn term(statement: &mut Statement<'_>, least: &str) -> rusqlite::Result<Option<String>> {
    statement.query_row([least], |row| row.get(0)).optional()
}
