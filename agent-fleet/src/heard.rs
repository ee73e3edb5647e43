//! When the last bytes of a connection came. A long message on a slow line is no silence, while bytes of it come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// When bytes came. Clones are handles of the same.
#[derive(Debug, Clone)]
pub struct Heard(Arc<Last>);

#[derive(Debug)]
struct Last {
    began: Instant,
    /// Milliseconds since then.
    after: AtomicU64,
}

impl Heard {
    /// Of a connection that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Last { began: Instant::now(), after: AtomicU64::new(0) }))
    }

    /// When the last bytes came, or the connection began.
    pub fn last(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.after.load(Ordering::Relaxed))
    }

    fn note(&self) {
        let after = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.after.store(after, Ordering::Relaxed);
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self::new()
    }
}

/// A stream that notes when bytes come.
#[derive(Debug)]
pub(crate) struct Listening<S> {
    stream: S,
    heard: Heard,
}

impl<S> Listening<S> {
    pub(crate) fn to(stream: S) -> Self {
        Self { stream, heard: Heard::new() }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.note();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
