//! A connection's bytes as the protocol layer reads and writes them: what that answers by itself, before any request reaches
//! a route, gets the form of all other errors.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::{Serving, Ticket};
use super::{MAX_HEADER_BYTES, MAX_HEADERS};
use crate::error::{ApiError, PROBLEM_JSON};

/// A connection whose table is told when its bytes are sent. Of TLS, it sees the plaintext.
#[derive(Debug)]
pub(super) struct GuardedIo<S> {
    stream: S,
    ticket: Arc<Ticket>,
    /// What is written in place of the protocol layer's own answer.
    replacement: Bytes,
}

/// An answer's body. The connection counts as serving until it has ended.
#[derive(Debug)]
pub(super) struct WatchedBody {
    body: Body,
    _serving: Serving,
}

impl<S: AsyncWrite + Unpin> GuardedIo<S> {
    pub(super) fn new(stream: S, ticket: Arc<Ticket>) -> Self {
        Self { stream, ticket, replacement: Bytes::new() }
    }

    /// While no request is served, only the protocol layer itself has something to say: that it cannot read one.
    fn replace(&mut self, written: &[u8]) -> bool {
        if !self.ticket.is_waiting() || !self.replacement.is_empty() {
            return false;
        }
        let Some(error) = protocol_error(written) else { return false };
        self.replacement = last_answer(&error).into();
        true
    }

    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.replacement))?;
            let _ = self.replacement.split_to(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        // What is encrypted may still wait below.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.ticket.sent_all();
        Poll::Ready(Ok(()))
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

/// An error as the whole answer to what is no request, behind which the connection ends.
pub(super) fn last_answer(error: &ApiError) -> String {
    let (status, json) = (error.status(), error.to_json());
    let length = json.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {length}\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n{json}"
    )
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
