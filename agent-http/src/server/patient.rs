//! A socket whose caller must take what is written. Whoever takes it too slowly is cut off. The rate is measured here, below
//! the encryption, where bytes have left the agent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::ServerLimits;

/// A socket whose caller must take what is written.
#[derive(Debug)]
pub(super) struct PatientSocket<S = TcpStream> {
    stream: S,
    patience: Patience,
    /// When a write that waits is given up.
    deadline: Pin<Box<Sleep>>,
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

impl PatientSocket<TcpStream> {
    /// The first byte that comes, which stays to be read; none when the caller has closed.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let count = self.stream.peek(&mut byte).await?;
        Ok((count > 0).then_some(byte[0]))
    }
}

impl<S> PatientSocket<S> {
    pub(super) fn new(stream: S, limits: &ServerLimits) -> Self {
        let patience = Patience::new(limits.stall, limits.least_rate);
        Self { stream, patience, deadline: Box::pin(sleep(limits.stall)) }
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

impl<S: AsyncRead + Unpin> AsyncRead for PatientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientSocket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
