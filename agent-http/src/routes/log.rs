//! The log of a task as raw bytes: `GET /api/v1/tasks/{id}/log`, whole, by ranges, or followed to its end.

use agent_config::Scope;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use task_service::{LogReader, LogSource, Task};

use super::log_body::{Followed, LogBody, Part};
use super::range::{Asked, Piece, asked};
use super::{Answered, Refused, Segment, visible_task};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::schema;

/// Logs are bytes of any kind; shown as text, and never taken for anything else.
const TEXT: &str = "text/plain; charset=utf-8";
/// Tells proxies that collect answers not to.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Read a log
///
/// The bytes that the script wrote, in order, with the agent's banner above and below unless `banner=false`. With
/// `follow=true` what is there, and all that comes until the log's end. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/log", tag = "tasks", operation_id = "read_log",
    params(
        ("id" = String, Path, description = "The task's id."),
        ("banner" = Option<bool>, Query, description = "With the banners; true when left out. Without them offsets count from the script's first byte."),
        ("follow" = Option<bool>, Query, description = "Until the log's end; false when left out. `Range` is ignored then."),
        ("Range" = Option<String>, Header, description = "One range of bytes.")
    ),
    responses(
        (status = 200, description = "The log so far, or to its end.", body = String, content_type = "text/plain"),
        (status = 206, description = "The range.", body = String, content_type = "text/plain"),
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
    query.finish()?;
    match state.service().log(&task.id).await? {
        source if is_followed => follow(source, part, &task),
        LogSource::Log(reader) => piece(reader, part, &parts.headers),
        LogSource::NotYet(_) => Ok(text(StatusCode::OK, Body::empty())),
        LogSource::None => without_log(&task),
    }
}

/// The log from its beginning to its end, whenever that comes.
fn follow(source: LogSource, part: Part, task: &Task) -> Answered {
    let log = match source {
        LogSource::Log(reader) => Followed::Log(reader),
        LogSource::NotYet(wait) => Followed::NotYet(wait),
        LogSource::None => return without_log(task),
    };
    let mut response = text(StatusCode::OK, Body::new(LogBody::followed(log, part)));
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// What is there now, or the range of it that was asked for.
fn piece(reader: LogReader, part: Part, headers: &HeaderMap) -> Answered {
    let progress = reader.progress();
    let whole = part.of(&progress);
    let length = whole.to - whole.from;
    // There is no validator that `If-Range` could name.
    let range = if headers.contains_key(IF_RANGE) { None } else { headers.get(RANGE) };
    let range = range.and_then(|value| value.to_str().ok());
    // How long a log will be is not known before its end.
    let total = if progress.is_complete() { length.to_string() } else { "*".to_owned() };
    let (status, piece) = match asked(range, length) {
        Asked::Whole => (StatusCode::OK, Piece { from: 0, to: length }),
        Asked::Piece(piece) => (StatusCode::PARTIAL_CONTENT, piece),
        Asked::Unsatisfiable => {
            let detail = format!("the log has {length} bytes; nothing of the range is there");
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
            let value = format!("bytes */{length}");
            return Err(
                error.with_header(CONTENT_RANGE, value.try_into().expect("ASCII is a header's value"))
            );
        }
    };
    let absolute = Piece { from: whole.from + piece.from, to: whole.from + piece.to };
    let mut response = text(status, Body::new(LogBody::piece(reader, absolute)));
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{total}", piece.from, piece.to - 1);
        response.headers_mut().insert(CONTENT_RANGE, value.try_into().expect("ASCII is a header's value"));
    }
    response.headers_mut().insert(CONTENT_LENGTH, (piece.to - piece.from).into());
    Ok(response)
}

/// A task that never started has an empty log; of another one the log is gone.
fn without_log(task: &Task) -> Answered {
    if task.log_bytes == 0 {
        return Ok(text(StatusCode::OK, Body::empty()));
    }
    let detail = format!("the log of the task '{}' is gone: its record was removed", task.id);
    Err(ApiError::new(StatusCode::NOT_FOUND, "log_gone", detail))
}

fn text(status: StatusCode, body: Body) -> axum::response::Response {
    (status, [(CONTENT_TYPE, TEXT), (ACCEPT_RANGES, "bytes")], body).into_response()
}
