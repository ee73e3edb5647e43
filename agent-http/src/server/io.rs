//! A connection's bytes. A caller who takes what waits for it too slowly is cut off; and what the protocol layer answers by
//! itself, before any request reaches a route, gets the form of all other errors.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::connections::{Serving, Ticket};
use super::{MAX_HEADER_BYTES, MAX_HEADERS, ServerLimits};
use crate::error::{ApiError, PROBLEM_JSON};

/// A connection whose caller must take what is written.
#[derive(Debug)]
pub(super) struct GuardedIo {
    stream: TcpStream,
    ticket: Arc<Ticket>,
    patience: Patience,
    /// When a write that waits is given up.
    deadline: Pin<Box<Sleep>>,
    /// What is written in place of the protocol layer's own answer.
    replacement: Bytes,
}

/// For how long a caller may still keep bytes waiting. Waiting uses it up and bytes that are taken earn it back, so that
/// whoever takes less than the least rate is cut off in the end, however it spreads what it takes.
#[derive(Debug)]
struct Patience {
    most: Duration,
    /// Bytes that earn a second.
    rate: u64,
    left: Duration,
    waiting_since: Option<Instant>,
}

/// An answer's body. The connection counts as serving until it has ended.
#[derive(Debug)]
pub(super) struct WatchedBody {
    body: Body,
    _serving: Serving,
}

impl GuardedIo {
    pub(super) fn new(stream: TcpStream, ticket: Arc<Ticket>, limits: &ServerLimits) -> Self {
        let patience = Patience::new(limits.stall, limits.least_rate);
        let deadline = Box::pin(sleep(limits.stall));
        Self { stream, ticket, patience, deadline, replacement: Bytes::new() }
    }

    /// What a write has led to: bytes taken, or waiting for as long as it may.
    fn watched(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => self.patience.taken(count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if let Some(until) = self.patience.begin() {
                    self.deadline.as_mut().reset(until);
                }
                ready!(self.deadline.as_mut().poll(context));
                let message = "the caller takes its bytes too slowly";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
            }
        }
        written
    }

    /// While no request is served, only the protocol layer itself has something to say: that it cannot read one.
    fn replace(&mut self, written: &[u8]) -> bool {
        if !self.ticket.is_waiting() || !self.replacement.is_empty() {
            return false;
        }
        let Some(error) = protocol_error(written) else { return false };
        let json = error.to_json();
        let head = String::from_utf8_lossy(written);
        let status_line = head.lines().next().unwrap_or_default();
        let length = json.len();
        self.replacement = format!(
            "{status_line}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {length}\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\n\r\n{json}"
        )
        .into();
        true
    }

    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(context, &self.replacement);
            let count = ready!(self.watched(written, context))?;
            let _ = self.replacement.split_to(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Patience {
    fn new(most: Duration, rate: u64) -> Self {
        Self { most, rate: rate.max(1), left: most, waiting_since: None }
    }

    /// Begins to wait, if that has not begun: gives the time at which it is over.
    fn begin(&mut self) -> Option<Instant> {
        if self.waiting_since.is_some() {
            return None;
        }
        let now = Instant::now();
        self.waiting_since = Some(now);
        Some(now + self.left)
    }

    /// Ends the waiting with so many bytes taken.
    fn taken(&mut self, count: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let earned = Duration::from_micros((count as u64).saturating_mul(1_000_000) / self.rate);
        self.left = self.most.min(self.left + earned);
    }
}

impl AsyncRead for GuardedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for GuardedIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [slice] = slices
            && self.replace(slice)
        {
            return Poll::Ready(Ok(slice.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        self.ticket.sent_all();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl WatchedBody {
    pub(super) fn new(body: Body, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The error that a status line of the protocol layer stands for.
fn protocol_error(head: &[u8]) -> Option<ApiError> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = StatusCode::from_bytes(digits).ok()?;
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => ("malformed_request", "this is no HTTP/1.1 request".to_owned()),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "header_too_large",
            format!(
                "a request has at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes in front of its body"
            ),
        ),
        _ => return None,
    };
    Some(ApiError::new(status, code, detail))
}
