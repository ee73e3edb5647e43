//! The database `agent.db`: SQLite in WAL mode with `synchronous = FULL`, so that what was committed survives a
//! power loss (<https://sqlite.org/pragma.html#pragma_synchronous>).
//!
//! | module | what it holds |
//! |---|---|
//! | `schema` | the tables, and how an older database becomes a newer one |
//! | `open` | opening, and setting a damaged file aside |
//! | `copy` | a copy of it while it is in use |
//! | `check` | looking for damage |
//! | `row` | a row as a task |
//! | `write` | every statement that changes something |
//! | `read` | one task, and pages of them |
//! | `places` | where the tasks of a page are, by the indexes |
//! | `words` | the index of words |
//! | `old` | what retention removes |
//! | `readers` | the connections for reading |

mod check;
mod copy;
mod old;
mod open;
mod places;
mod read;
mod readers;
mod row;
mod schema;
mod words;
mod write;

pub(crate) use check::in_background as check_in_background;
pub(crate) use copy::{copy, copy_any};
pub(crate) use old::{Old, bytes_within, count, ended_at, ended_before, forget, oldest_ended};
pub use open::StoreError;
pub(crate) use open::{corrupt, is_damage, open, open_anew};
pub(crate) use read::{by_id, digest_by_id, page, whereabouts};
pub(crate) use readers::Readers;
pub(crate) use row::{Facts, Stored};
pub(crate) use write::{
    NewTask, Unfinished, cancels, end, end_nameless, insert, mark_running, note_cancel, note_node,
    note_unreachable, pinned, put_back, retry, unfinished, unfinished_by_id, unfinished_by_seq, waiting,
};

/// Name of the database in a state folder.
pub(crate) const DATABASE_FILE: &str = "agent.db";
