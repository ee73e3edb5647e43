//! A log as server-sent events (HTML Living Standard, section 9.2): chunks of what is there, each with the offset
//! behind it, and at the end the task. One event is held at a time, so that a reader that takes nothing is felt by nobody.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use ct_codecs::{Base64, Encoder};
use futures_util::stream;
use task_service::{LogError, LogReader, LogSource, Problem, Task, TaskId, TaskService};
use tokio::time::{Instant, sleep_until, timeout};

use super::log::X_ACCEL_BUFFERING;
use super::log_body::{CHUNK_BYTES, Part, log_gone, read_chunk};
use super::range::Piece;
use crate::app::AppState;
use crate::error::ApiError;
use crate::metrics::{Following, Form};

/// The media type.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Where a caller says how far it has come.
const LAST_EVENT_ID: &str = "last-event-id";
/// Most bytes of an event's text as it is written: JSON makes six of a control character, base64 four of three bytes. What
/// would be longer is cut, so that a log of nothing else takes no more memory than another.
const MOST_WRITTEN: usize = CHUNK_BYTES;
/// Least time between two chunks: 50 a second. What is written meanwhile comes in one.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Silence after which a comment says that the connection lives; proxies close those that are idle for 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a browser is to come back after a cut, milliseconds.
const RETRY: &str = "retry: 1000\n\n";

/// Whether the headers ask for events.
pub(super) fn are_asked_for(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = texts.flat_map(|text| text.split(','));
    types.any(|media_type| {
        let essence = media_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

/// The offset behind which a caller goes on, if it says how far it has come.
///
/// # Errors
/// 422 when that is no offset: to begin anew would repeat what it has.
pub(super) fn resumed_from(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let offset = id.to_str().ok().and_then(|text| text.parse().ok());
    offset.map(Some).ok_or_else(|| {
        let expected = "the `id` of the last event: a whole number";
        ApiError::invalid(vec![Problem::new("Last-Event-ID", "range", expected)])
    })
}

/// The answer: the log of an attempt of a task from the offset `from` of a part of it, to the end of the attempt.
pub(super) fn answer(
    state: &AppState,
    (id, attempt): (TaskId, u32),
    log: Result<LogSource, ApiError>,
    part: Part,
    from: u64,
) -> Result<Response, ApiError> {
    let (source, next) = (source(log?), Instant::now());
    let had_log = matches!(source, Source::Log(_));
    let (service, following) = (state.service().clone(), state.metrics().following(Form::Events));
    let events = Events {
        service,
        id,
        attempt,
        source,
        had_log,
        part,
        at: from,
        held: 0,
        next,
        _following: following,
    };
    let first = stream::once(async { Ok(Bytes::from_static(RETRY.as_bytes())) });
    let rest = stream::unfold(events, |mut events| async {
        let text = events.next().await.transpose()?;
        Some((text.map(Bytes::from), events))
    });
    let body = Body::from_stream(stream::StreamExt::chain(first, rest));
    let mut response = ([(CONTENT_TYPE, EVENT_STREAM), (CACHE_CONTROL, "no-store")], body).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, "no".parse().expect("it is a header's value"));
    Ok(response)
}

/// The events of one log, one after the other.
struct Events {
    service: TaskService,
    id: TaskId,
    attempt: u32,
    source: Source,
    /// Whether there was a log to read.
    had_log: bool,
    part: Part,
    /// The offset behind what was sent, counted within the part.
    at: u64,
    /// Bytes behind it that are the beginning of a character whose rest is still to come.
    held: u64,
    /// The earliest time of the next chunk.
    next: Instant,
    _following: Following,
}

/// Where the next event comes from.
enum Source {
    /// The task has not started.
    NotYet(Pin<Box<dyn Future<Output = Result<LogSource, LogError>> + Send>>),
    /// It is written, or was.
    Log(LogReader),
    /// All of it was sent; the attempt is about to end.
    Complete,
    /// Nothing more comes.
    Over,
}

fn source(log: LogSource) -> Source {
    match log {
        LogSource::Log(reader) => Source::Log(reader),
        LogSource::NotYet(wait) => Source::NotYet(Box::pin(wait.opened())),
        LogSource::None => Source::Complete,
    }
}

impl Events {
    /// The next event or comment; none at the end.
    async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            match &mut self.source {
                Source::NotYet(opened) => match timeout(HEARTBEAT, opened).await {
                    Ok(log) => {
                        self.source = source(log.map_err(io::Error::other)?);
                        self.had_log = matches!(self.source, Source::Log(_));
                    }
                    Err(_) => return Ok(Some(heartbeat())),
                },
                Source::Log(_) => {
                    if let Some(text) = self.chunk().await? {
                        return Ok(Some(text));
                    }
                }
                Source::Complete => {
                    let ended = self.service.wait_attempt(&self.id, self.attempt);
                    let ended = timeout(HEARTBEAT, ended).await;
                    let Ok(task) = ended else { return Ok(Some(heartbeat())) };
                    self.source = Source::Over;
                    // Without an end, when the service stops or the task was removed, the caller comes back and asks.
                    let task = task.map_err(io::Error::other)?.filter(|task| task.is_over(self.attempt));
                    let lacks_its_log = |task: &Task| !self.had_log && task.log_bytes_of(self.attempt) > 0;
                    if task.as_ref().is_some_and(lacks_its_log) {
                        // It was removed before it was opened: without an end nobody takes it for empty.
                        return Err(log_gone());
                    }
                    return Ok(task.map(|task| end(self.at, &task)));
                }
                Source::Over => return Ok(None),
            }
        }
    }

    /// What is there behind the last event, or a comment where nothing comes; none when the source has changed or what
    /// came makes no event yet.
    async fn chunk(&mut self) -> io::Result<Option<String>> {
        let Source::Log(reader) = &mut self.source else { return Ok(None) };
        sleep_until(self.next).await;
        let start = self.part.of(&reader.progress()).from;
        let from = start.saturating_add(self.at);
        let Ok(progress) = timeout(HEARTBEAT, reader.wait_beyond(from.saturating_add(self.held))).await
        else {
            return Ok(Some(heartbeat()));
        };
        let Piece { from: begins, to } = self.part.of(&progress);
        if begins != start {
            // Only now is it known where the part begins.
            return Ok(None);
        }
        if from >= to {
            self.source = Source::Complete;
            return Ok(None);
        }
        let bytes = self.read(from, to).await?;
        let is_last = progress.is_complete() && from + bytes.len() as u64 >= to;
        let bytes = if is_last { &bytes[..] } else { &bytes[..whole_characters(&bytes)] };
        if bytes.is_empty() {
            // At most three bytes, the beginning of a character.
            self.held = to - from;
            return Ok(None);
        }
        let bytes = &bytes[..fitting(bytes)];
        (self.at, self.held) = (self.at + bytes.len() as u64, 0);
        self.next = Instant::now() + LEAST_PAUSE;
        Ok(Some(event(self.at, bytes)))
    }

    /// Reads the beginning of what is there, on a thread that may wait for the disk.
    async fn read(&mut self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let Source::Log(reader) = std::mem::replace(&mut self.source, Source::Over) else {
            return Ok(Vec::new());
        };
        let (reader, bytes) = read_chunk(reader, Piece { from, to }).await?;
        self.source = Source::Log(reader);
        Ok(bytes)
    }
}

/// How many of the bytes are no beginning of a character whose rest is missing.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// How many of the bytes fit into one event.
fn fitting(bytes: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.len().min(MOST_WRITTEN / 4 * 3) };
    let mut sum = 0;
    let does_not_fit = |byte: &u8| {
        sum += written(*byte);
        sum > MOST_WRITTEN
    };
    bytes.iter().position(does_not_fit).map_or(bytes.len(), |end| text.floor_char_boundary(end))
}

/// A chunk that ends before the offset `end`.
fn event(end: u64, bytes: &[u8]) -> String {
    let offset = end - bytes.len() as u64;
    let (form, text) = match std::str::from_utf8(bytes) {
        Ok(text) => ("text", Cow::Borrowed(text)),
        Err(_) => ("base64", Base64::encode_to_string(bytes).expect("the codec makes its own room").into()),
    };
    // Made in one piece: it may be the largest thing that is held for somebody who reads nothing.
    let mut event = Vec::with_capacity(text.bytes().map(written).sum::<usize>() + 128);
    event.extend_from_slice(format!("id: {end}\ndata: {{\"offset\":{offset},\"{form}\":").as_bytes());
    serde_json::to_writer(&mut event, &text).expect("a text has a form in JSON");
    event.extend_from_slice(b"}\n\n");
    String::from_utf8(event).expect("JSON is UTF-8")
}

/// How many bytes JSON makes of one of a text.
fn written(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// The last event.
fn end(at: u64, task: &Task) -> String {
    // A task has only text, numbers and maps with text as keys: JSON has all of these, and no line ends between them.
    let task = serde_json::to_string(task).unwrap_or_else(|_| "null".to_owned());
    format!("id: {at}\nevent: end\ndata: {task}\n\n")
}

fn heartbeat() -> String {
    ": nothing new\n\n".to_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn events_are_text_where_it_is_text_and_base64_elsewhere() {
        assert_eq!(event(5, b"a\r\nb\n"), "id: 5\ndata: {\"offset\":0,\"text\":\"a\\r\\nb\\n\"}\n\n");
        assert_eq!(event(12, &[0xff, 0]), "id: 12\ndata: {\"offset\":10,\"base64\":\"/wA=\"}\n\n");
    }

    #[test]
    fn a_character_is_not_torn_apart_while_its_rest_may_come() {
        let euro = "€".as_bytes();
        assert_eq!(whole_characters(euro), 3);
        assert_eq!(whole_characters(&euro[..2]), 0);
        assert_eq!(whole_characters(&[b"ab", &euro[..1]].concat()), 2);
        // What can be no character, whatever comes, is not waited for.
        assert_eq!(whole_characters(&[b'a', 0xff, b'b']), 3);
    }

    #[test]
    fn no_event_is_longer_as_it_is_written_whatever_is_in_it() {
        let torn = "\u{1}€".repeat(CHUNK_BYTES / 4);
        let lines = format!("{}\n", "x".repeat(63)).repeat(CHUNK_BYTES / 64);
        for (bytes, least) in [
            (vec![0; CHUNK_BYTES], CHUNK_BYTES / 6 - 1),
            (vec![0xff; CHUNK_BYTES], CHUNK_BYTES / 4 * 3),
            (torn.into_bytes(), CHUNK_BYTES / 9 * 4 - 4),
            (lines.into_bytes(), CHUNK_BYTES - CHUNK_BYTES / 64),
            (vec![b'x'; CHUNK_BYTES], CHUNK_BYTES),
        ] {
            let fitting = &bytes[..fitting(&bytes)];
            let event = event(CHUNK_BYTES as u64, fitting);
            assert!(
                event.len() < CHUNK_BYTES + 64 && fitting.len() >= least,
                "{} of {}",
                event.len(),
                fitting.len()
            );
            assert_eq!(event.contains("\"text\""), bytes[0] != 0xff, "a character was torn apart");
        }
    }

    #[test]
    fn events_are_asked_for_by_their_media_type_alone() {
        let asked = |text| are_asked_for(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))]));
        assert!(asked("text/event-stream") && asked("text/plain, Text/Event-Stream;q=0.9"));
        assert!(!asked("*/*") && !asked("text/event-streams") && !asked(""));
    }
}
