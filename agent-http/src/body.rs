//! Reads the body of a request within its bounds: media type, size, time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde_json::Value;
use task_runners::Problems;
use task_service::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;

/// Time that every body has, and the bytes a second that it must bring to get more of it.
const TIME: Duration = Duration::from_secs(10);
const LEAST_RATE: u64 = 16 << 10;
/// What is read and dropped of a body that is not wanted, so that its sender gets to read the answer: bytes and time.
const DROPPED_BYTES: u64 = 8 << 20;
const DROPPED_TIME: Duration = Duration::from_secs(5);

/// The JSON of a body that may not be empty.
///
/// # Errors
/// As [`optional_json`], and 400 for an empty one.
pub(crate) async fn json(request: Request, limit: u64) -> Result<Value, ApiError> {
    optional_json(request, limit).await?.ok_or_else(|| not_json("it is empty"))
}

/// The JSON of a body; none when it is empty.
///
/// # Errors
/// 415 for another media type than JSON, 413 for more than `limit` bytes, 408 for one that does not come, 400 for one
/// that is not JSON.
pub(crate) async fn optional_json(request: Request, limit: u64) -> Result<Option<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut reader = Reader::of(&parts.headers, body, is_json(&parts.headers));
    let Some(bytes) = reader.read(limit).await? else { return Ok(None) };
    parsed(&bytes).map(Some)
}

/// A body of which nobody knows yet who sent it, and its part of the room for such.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The bytes of a body as they came, for whoever checks a signature of them: JSON, or a form that may hold some. Anybody may
/// send one, so that all that are held at a time share some room, a permit for each byte.
///
/// # Errors
/// As [`optional_json`], but that nothing is read as JSON; and 503 where the room is taken.
pub(crate) async fn unproven(
    request: Request,
    limit: u64,
    room: &Arc<Semaphore>,
) -> Result<Unproven, ApiError> {
    let (parts, body) = request.into_parts();
    let is_accepted = is_json(&parts.headers) || is_form(&parts.headers);
    let mut reader = Reader::of(&parts.headers, body, is_accepted);
    reader.shared = Some(room.clone());
    let bytes = reader.read(limit).await?.unwrap_or_default();
    Ok(Unproven { headers: parts.headers, bytes, _room: reader.room })
}

/// Bytes read as JSON.
///
/// # Errors
/// 400 for what is none.
pub(crate) fn parsed(bytes: &[u8]) -> Result<Value, ApiError> {
    if bytes.is_empty() {
        return Err(not_json("it is empty"));
    }
    serde_json::from_slice(bytes).map_err(|error| not_json(&error.to_string()))
}

/// Makes sure that a body asks for nothing: there is none, or an empty object.
///
/// # Errors
/// 422 naming the fields that are there.
pub(crate) fn asks_nothing(body: Option<&Value>) -> Result<(), ApiError> {
    let unknown = |name: &String| {
        let expected = "left out: this takes no fields";
        Problem::new(name.escape_debug().to_string(), "unknown_field", expected)
    };
    let mut problems = Problems::default();
    match body {
        None => {}
        Some(Value::Object(fields)) => problems.extend(fields.keys().map(unknown)),
        Some(_) => problems.push(Problem::new("body", "empty", "no body, or an empty object")),
    }
    if problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(problems.into_vec())) }
}

struct Reader {
    body: Body,
    /// The sender waits to be told that the body is wanted.
    expects_continue: bool,
    /// Its media type is one that is taken.
    is_accepted: bool,
    read: u64,
    /// The room that it shares with others, where it does, and what it has of it.
    shared: Option<Arc<Semaphore>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Reader {
    fn of(headers: &HeaderMap, body: Body, is_accepted: bool) -> Self {
        let expects_continue = headers.contains_key(EXPECT);
        Self { body, expects_continue, is_accepted, read: 0, shared: None, room: None }
    }

    async fn read(&mut self, limit: u64) -> Result<Option<Vec<u8>>, ApiError> {
        let declared = self.body.size_hint().lower();
        if declared > 0 && !self.is_accepted {
            return self.refuse(unsupported()).await;
        }
        if declared > limit {
            return self.refuse(too_large(limit)).await;
        }
        let mut bytes = Vec::new();
        let began = Instant::now();
        while let Some(chunk) = self.chunk(began + self.patience()).await? {
            if !self.is_accepted {
                return self.refuse(unsupported()).await;
            }
            if self.read > limit {
                return self.refuse(too_large(limit)).await;
            }
            if !self.takes_room(chunk.len()) {
                return self.refuse(no_room()).await;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// Takes room for more bytes. It waits for none: those who have some might wait for each other.
    fn takes_room(&mut self, bytes: usize) -> bool {
        let Some(shared) = &self.shared else { return true };
        // What is taken in all is counted in 32 bits.
        let more = u32::try_from(bytes).ok().filter(|_| u32::try_from(self.read).is_ok());
        let more = more.and_then(|bytes| shared.clone().try_acquire_many_owned(bytes).ok());
        let Some(more) = more else { return false };
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        true
    }

    /// Time that the body has from its beginning, by what has come of it.
    fn patience(&self) -> Duration {
        TIME + Duration::from_secs(self.read / LEAST_RATE)
    }

    /// The next bytes, at least one; none at the end.
    async fn chunk(&mut self, until: Instant) -> Result<Option<Bytes>, ApiError> {
        loop {
            match timeout_at(until, self.body.frame()).await.map_err(|_| too_slow())? {
                None => return Ok(None),
                Some(Err(error)) => {
                    let detail = format!("the body cannot be read: {error}");
                    return Err(ApiError::new(StatusCode::BAD_REQUEST, "body_unreadable", detail).closing());
                }
                Some(Ok(frame)) => {
                    // Trailers are of no use here.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.read += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Drops what is left of the body, then gives the error. A sender that waits to be told to go on sends nothing.
    async fn refuse<T>(&mut self, error: ApiError) -> Result<T, ApiError> {
        if !(self.expects_continue && self.read == 0) {
            let until = Instant::now() + DROPPED_TIME;
            // Time over, or all of it dropped, or no more to be had: the answer is the same.
            while self.read < DROPPED_BYTES && matches!(self.chunk(until).await, Ok(Some(_))) {}
        }
        Err(if self.body.is_end_stream() { error } else { error.closing() })
    }
}

/// Whether the body is declared as JSON (RFC 9110, section 8.3).
fn is_json(headers: &HeaderMap) -> bool {
    is_declared(headers, "application/json")
}

/// Whether the body is declared as a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    is_declared(headers, "application/x-www-form-urlencoded")
}

fn is_declared(headers: &HeaderMap, wanted: &str) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(wanted)
}

pub(crate) fn unsupported() -> ApiError {
    let detail = "the body must be JSON, declared with `Content-Type: application/json`";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail)
}

fn too_large(limit: u64) -> ApiError {
    let detail = format!("the body is larger than {limit} bytes, the limit that limits.body sets");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

fn no_room() -> ApiError {
    let detail =
        "too many requests come at once of which it is not known yet who sends them; send it again later";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "hooks_busy", detail).later()
}

fn too_slow() -> ApiError {
    let detail = format!(
        "the body did not come in time: it has {}s, and a second more for each {LEAST_RATE} bytes",
        TIME.as_secs()
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail).closing()
}

pub(crate) fn not_json(reason: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "not_json", format!("the body is not JSON: {reason}"))
}
