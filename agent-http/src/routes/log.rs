//! The log of a task: `GET /api/v1/tasks/{id}/log`, whole, by ranges, from a line on, or followed to its end.

use std::io;

use agent_config::Scope;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use task_service::{LogError, LogProgress, LogReader, LogSource, Task};

use super::log_body::{Followed, LogBody, Part, Waiting};
use super::log_events;
use super::range::{self, Asked, NO_END, Piece, asked};
use super::scans::ScanPlace;
use super::{Answered, Refused, Segment, Unchanged, visible_task};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::etag;
use crate::metrics::{Following, Form};
use crate::query::Query;
use crate::right::Right;
use crate::schema;

/// Logs are bytes of any kind; shown as text, and never taken for anything else.
const TEXT: &str = "text/plain; charset=utf-8";
/// Where in the log an answer begins that was asked for by a line, bytes.
const LOG_OFFSET: HeaderName = HeaderName::from_static("log-offset");
/// Tells proxies that collect answers not to.
pub(super) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Read a log
///
/// The bytes that the script wrote, in order, with the agent's banner above and below unless `banner=false`. With
/// `follow=true` what is there, and all that comes until the log's end; a range without an end, as `bytes=100-`, then says
/// from where (RFC 8673), and every other range is ignored. A log that has ended has an `ETag`. Scope `read`.
///
/// Each attempt of a task has a log of its own. Without `attempt` it is that of the newest one that has started; who
/// follows it gets it to the end of that attempt.
///
/// With `Accept: text/event-stream` the log is followed as events: each carries a chunk of up to 64 KiB as JSON
/// `{"offset": N, "text": "..."}`, or `{"offset": N, "base64": "..."}` where its bytes are not UTF-8, and as its `id` the
/// offset behind that. `Last-Event-ID` goes on there. The last event, `end`, carries the task as it stands when the attempt
/// is over: one that is not terminal goes on with the next attempt. A stream that ends without it was cut.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/log", tag = "tasks", operation_id = "read_log",
    security(("token" = ["read"])),
    params(
        ("id" = String, Path, description = "The task's id."),
        ("banner" = Option<bool>, Query, description = "With the banners; true when left out. Without them offsets count from the script's first byte."),
        ("follow" = Option<bool>, Query, description = "Until the log's end; false when left out."),
        ("line" = Option<u64>, Query, description = "From the beginning of this line on, counted from 1; the header `Log-Offset` says where that is. A `Range` is ignored then."),
        ("attempt" = Option<u32>, Query, description = "The attempt, counted from 1."),
        ("Range" = Option<String>, Header, description = "One range of bytes."),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of the log that the range is of; of another one all comes."),
        ("Last-Event-ID" = Option<String>, Header, description = "With events: the `id` of the last one that came, a whole number.")
    ),
    responses(
        (status = 200, description = "The log so far, or to its end.", content((String = "text/plain"), (String = "text/event-stream"))),
        (status = 206, description = "The range. `Content-Range` of a log that is followed ends with 9007199254740991: how long it will be is not known.", body = String, content_type = "text/plain"),
        (status = 304, response = Unchanged),
        (status = 404, description = "There is no such task or attempt, or its log has no such line yet.", body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = 416, description = "Nothing of the range is there.", body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn log(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    parts: Parts,
) -> Answered {
    caller.require(Scope::Read)?;
    let mut query = Query::of(&parts.uri);
    let part = if query.boolean("banner").unwrap_or(true) { Part::File } else { Part::Output };
    let is_followed = query.boolean("follow").unwrap_or(false);
    let task = visible_task(&state, &caller, &id).await?;
    let line = query.number("line", 1, u64::MAX);
    let attempt = attempt(&mut query, &task);
    query.finish()?;
    let wanted = Wanted { attempt, part, line, is_followed };
    let right = Right::to(&state, &caller, Scope::Read, &task);
    let place = match wanted.line {
        Some(_) => Some(right.during(state.log_scans().place(caller.name())).await??),
        None => None,
    };
    Ok(right.guard(answer(&state, place, &task, wanted, &parts.headers).await?))
}

/// What is wanted of the logs of a task.
struct Wanted {
    attempt: u32,
    part: Part,
    line: Option<u64>,
    is_followed: bool,
}

async fn answer(
    state: &AppState,
    place: Option<ScanPlace>,
    task: &Task,
    wanted: Wanted,
    headers: &HeaderMap,
) -> Answered {
    let Wanted { attempt, part, line, is_followed } = wanted;
    let log = unless_gone(state.service().attempt_log(&task.id, attempt).await, task, attempt);
    let (log, from) = match line.zip(place) {
        Some((line, place)) => {
            from_line(place, log?, part, line).await.map(|(log, from)| (Ok(log), Some(from)))?
        }
        None => (log, None),
    };
    if log_events::are_asked_for(headers) {
        let from = log_events::resumed_from(headers)?.or(from).unwrap_or(0);
        return log_events::answer(state, (task.id.clone(), attempt), log, part, from);
    }
    let following = is_followed.then(|| state.metrics().following(Form::Bytes));
    let log = match (log?, from) {
        (LogSource::Log(reader), Some(from)) => return Ok(rest(reader, part, from, following)),
        (log, _) => log,
    };
    match (log, following) {
        // All that a log which is complete will ever have is there.
        (LogSource::Log(reader), Some(following)) if !reader.progress().is_complete() => {
            follow(Followed::Log(reader), part, headers, following)
        }
        (LogSource::Log(reader), _) => {
            let tag = tag(task, attempt, part, &reader.progress());
            piece(reader, part, headers, tag)
        }
        (LogSource::NotYet(wait), Some(following)) => {
            let waiting = Waiting { wait, service: state.service().clone(), id: task.id.clone(), attempt };
            follow(Followed::NotYet(waiting), part, headers, following)
        }
        (LogSource::NotYet(_), None) => Ok(text(StatusCode::OK, Body::empty())),
        (LogSource::None, _) => Ok(text(StatusCode::OK, Body::empty())),
    }
}

/// The attempt whose log is asked for: the newest one that has started where none is named.
pub(super) fn attempt(query: &mut Query, task: &Task) -> u32 {
    let number = query.number("attempt", 1, u32::MAX.into());
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_else(|| task.newest_started())
}

/// The log and where a line of a part of it begins, counted within the part.
async fn from_line(
    place: ScanPlace,
    log: LogSource,
    part: Part,
    line: u64,
) -> Result<(LogSource, u64), ApiError> {
    let no_line =
        || ApiError::new(StatusCode::NOT_FOUND, "no_line", format!("the log has no line {line} yet"));
    let LogSource::Log(reader) = log else { return Err(no_line()) };
    // Where its marks are lost the whole log is read.
    let found = tokio::task::spawn_blocking(move || {
        let Piece { from, to } = part.of(&reader.progress());
        let offset = reader.line_offset(from, to, line)?;
        drop(place);
        Ok::<_, io::Error>((reader, offset.map(|offset| offset - from)))
    });
    match found.await.map_err(io::Error::other).and_then(|found| found) {
        Ok((reader, Some(offset))) => Ok((LogSource::Log(reader), offset)),
        Ok((_, None)) => Err(no_line()),
        Err(error) => Err(ApiError::unavailable(format_args!("a task's log cannot be read: {error}"))),
    }
}

/// What is there behind an offset of a part, and all that comes where it is followed.
fn rest(reader: LogReader, part: Part, from: u64, following: Option<Following>) -> Response {
    let Piece { from: start, to } = part.of(&reader.progress());
    let body = match following {
        Some(following) => LogBody::followed(Followed::Log(reader), part, from, following),
        None => LogBody::piece(reader, Piece { from: start + from, to }),
    };
    let mut response = text(StatusCode::OK, Body::new(body));
    response.headers_mut().insert(LOG_OFFSET, from.into());
    response
}

/// The log to its end, whenever that comes: from its beginning, or from where the range says.
fn follow(log: Followed, part: Part, headers: &HeaderMap, following: Following) -> Answered {
    let from = range::from(range_of(headers, None));
    let body = Body::new(LogBody::followed(log, part, from.unwrap_or(0), following));
    let mut response = match from {
        None => text(StatusCode::OK, body),
        Some(from) => {
            let mut response = text(StatusCode::PARTIAL_CONTENT, body);
            response.headers_mut().insert(CONTENT_RANGE, ascii(format!("bytes {from}-{NO_END}/*")));
            response
        }
    };
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The range that is asked for, where that may be given.
fn range_of<'a>(headers: &'a HeaderMap, tag: Option<&HeaderValue>) -> Option<&'a str> {
    if etag::permits_range(headers, tag) { headers.get(RANGE)?.to_str().ok() } else { None }
}

/// What stands for a part of a log that has ended, whose bytes are what they are for good. One that grows is another thing
/// with each byte, of which nobody needs to be told: its offsets mean the same for ever.
fn tag(task: &Task, attempt: u32, part: Part, progress: &LogProgress) -> Option<HeaderValue> {
    let Piece { from, to } = part.of(progress);
    // An id may be another task's once the history has forgotten this one.
    let text = format!("{} {} {attempt} {from}-{to}", task.id, task.created_at);
    progress.is_complete().then(|| etag::of(text.as_bytes()))
}

/// What is there now, or the range of it that was asked for.
fn piece(reader: LogReader, part: Part, headers: &HeaderMap, tag: Option<HeaderValue>) -> Answered {
    let progress = reader.progress();
    let whole = part.of(&progress);
    let length = whole.to - whole.from;
    // How long a log will be is not known before its end.
    let total = if progress.is_complete() { length.to_string() } else { "*".to_owned() };
    let (status, piece) = match asked(range_of(headers, tag.as_ref()), length) {
        Asked::Whole => (StatusCode::OK, Piece { from: 0, to: length }),
        Asked::Piece(piece) => (StatusCode::PARTIAL_CONTENT, piece),
        Asked::Unsatisfiable => {
            let detail = format!("the log has {length} bytes; nothing of the range is there");
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
            return Err(error.with_header(CONTENT_RANGE, ascii(format!("bytes */{length}"))));
        }
    };
    let absolute = Piece { from: whole.from + piece.from, to: whole.from + piece.to };
    let mut response = text(status, Body::new(LogBody::piece(reader, absolute)));
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{total}", piece.from, piece.to - 1);
        response.headers_mut().insert(CONTENT_RANGE, ascii(value));
    }
    response.headers_mut().insert(CONTENT_LENGTH, (piece.to - piece.from).into());
    if let Some(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// The log of an attempt. One that never started has none, and nothing is missing; of another one it is gone.
///
/// # Errors
/// 404 where it is gone, so that nobody takes it for empty.
pub(super) fn unless_gone(
    log: Result<LogSource, LogError>,
    task: &Task,
    attempt: u32,
) -> Result<LogSource, ApiError> {
    match log? {
        LogSource::None if task.log_bytes_of(attempt) > 0 => {
            let detail = format!("the log of the task '{}' is gone: its record was removed", task.id);
            Err(ApiError::new(StatusCode::NOT_FOUND, "log_gone", detail))
        }
        log => Ok(log),
    }
}

fn ascii(value: String) -> HeaderValue {
    value.try_into().expect("ASCII is a header's value")
}

fn text(status: StatusCode, body: Body) -> Response {
    (status, [(CONTENT_TYPE, TEXT), (ACCEPT_RANGES, "bytes")], body).into_response()
}
