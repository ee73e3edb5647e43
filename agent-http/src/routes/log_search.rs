//! Searches a log, also while it is written: `GET /api/v1/tasks/{id}/log/search?q=`.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_config::Scope;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use serde::Serialize;
use task_service::{LogMatches, LogReader, LogSource, SearchLimits, SearchPlace};
use utoipa::ToSchema;

use super::log_body::Part;
use super::{Answered, Refused, Segment, visible_task};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::json::Json;
use crate::query::Query;
use crate::right::Right;

/// Longest text to search for, bytes.
const MAX_TEXT_BYTES: usize = 1 << 10;
/// Matches in a page unless the caller says otherwise, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;
/// Longest time of one search; it goes on with the next page.
const MAX_TIME: Duration = Duration::from_secs(5);

/// A page of matches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Matches {
    /// The lines that hold the text, in order, each once.
    matches: Vec<Match>,
    /// The `cursor` of the next page; null when all that is there was searched. A page may hold fewer matches than its
    /// limit, or none, where the log is long.
    next: Option<String>,
}

/// A line that holds the text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    /// The line, counted from 1.
    line: u64,
    /// Where the text begins in it first, bytes from the log's beginning.
    offset: u64,
    /// The line; of a long one up to 1 KiB around the text. What is no UTF-8 is replaced.
    text: String,
}

/// Where the next page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor(SearchPlace);

/// Search a log
///
/// The lines that hold a text, to the byte, also while the log is written. Lines and offsets count as in the log with the same
/// `banner`. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/log/search", tag = "tasks", operation_id = "search_log",
    security(("token" = ["read"])),
    params(
        ("id" = String, Path, description = "The task's id."),
        ("q" = String, Query, min_length = 1, max_length = 1024, pattern = "^[^\\n]*$", description = "The text, 1 to 1,024 bytes, without line ends."),
        ("banner" = Option<bool>, Query, description = "With the banners; true when left out."),
        ("attempt" = Option<u32>, Query, description = "The attempt, counted from 1; the newest that has started when left out."),
        ("limit" = Option<u64>, Query, description = "Most matches, 1 to 1,000; 100 when left out."),
        ("cursor" = Option<String>, Query, description = "`next` of the page before.")
    ),
    responses(
        (status = 200, description = "A page of matches.", body = Matches),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn search(State(state): State<AppState>, caller: Caller, id: Segment, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    let mut query = Query::of(&uri);
    let text = query.one("q").unwrap_or_default();
    if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\n') {
        query.problem("q", "text", "the text to search for, 1 to 1,024 bytes, without line ends");
    }
    let part = if query.boolean("banner").unwrap_or(true) { Part::File } else { Part::Output };
    let limit = query.number("limit", 1, MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let cursor: Option<Cursor> = query.parsed("cursor", "cursor", "`next` of a page of this search");
    let task = visible_task(&state, &caller, &id).await?;
    let attempt = super::log::attempt(&mut query, &task);
    query.finish()?;
    let log = state.service().attempt_log(&task.id, attempt).await;
    let LogSource::Log(reader) = super::log::unless_gone(log, &task, attempt)? else {
        return Ok(Json(Matches { matches: Vec::new(), next: None }).into_response());
    };
    let right = Right::to(&state, &caller, Scope::Read, &task);
    let place = right.during(state.log_scans().place(caller.name())).await??;
    let guard = Abandoned::default();
    let is_abandoned = guard.0.clone();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let searched = tokio::task::spawn_blocking(move || {
        let found = look(&reader, part, text.as_bytes(), cursor, limit, &is_abandoned);
        drop(place);
        found
    });
    match searched.await.map_err(io::Error::other).and_then(|found| found) {
        Ok(matches) => Ok(Json(matches).into_response()),
        Err(error) => Err(ApiError::unavailable(format_args!("a task's log cannot be searched: {error}"))),
    }
}

fn look(
    reader: &LogReader,
    part: Part,
    text: &[u8],
    cursor: Option<Cursor>,
    limit: usize,
    is_abandoned: &AtomicBool,
) -> io::Result<Matches> {
    let piece = part.of(&reader.progress());
    let start = SearchPlace { offset: 0, line: 1, is_told: false };
    let Cursor(mut from) = cursor.unwrap_or(Cursor(start));
    from.offset = from.offset.saturating_add(piece.from);
    let until = Instant::now() + MAX_TIME;
    let limits = SearchLimits { to: piece.to, matches: limit, until, is_abandoned };
    let LogMatches { matches, next } = reader.search(text, from, limits)?;
    let shown = |found: task_service::LineMatch| Match {
        line: found.line,
        offset: found.offset - piece.from,
        text: found.text,
    };
    let next = next.map(|next| Cursor(SearchPlace { offset: next.offset - piece.from, ..next }).to_string());
    Ok(Matches { matches: matches.into_iter().map(shown).collect(), next })
}

/// Says, when dropped with the request, that nobody waits for the matches any more.
#[derive(Debug, Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = if self.0.is_told { "-told" } else { "" };
        write!(out, "{}-{}{told}", self.0.offset, self.0.line)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (offset, rest) = text.split_once('-').ok_or(())?;
        let (line, is_told) = rest.strip_suffix("-told").map_or((rest, false), |line| (line, true));
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        let (offset, line) = (number(offset)?, number(line)?);
        // A line has a byte at least, so that a larger number is nobody's.
        if line == 0 || line - 1 > offset {
            return Err(());
        }
        Ok(Self(SearchPlace { offset, line, is_told }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for is_told in [true, false] {
            let cursor = Cursor(SearchPlace { offset: 12, line: 3, is_told });
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for wrong in ["", "1", "-", "1-", "1-0", "1-3", "1-1-", "1-1-tol", "x-1", "99999999999999999999-1"] {
            assert_eq!(wrong.parse::<Cursor>(), Err(()), "{wrong}");
        }
    }
}
