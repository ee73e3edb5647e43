//! A log as the body of an answer, read chunk by chunk when the connection has room for one. Memory is one chunk a reader,
//! and a reader that takes nothing is felt by nobody.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use task_service::{LogProgress, LogReader, LogSource, LogWait, TaskId, TaskService};
use tracing::Span;

use super::range::Piece;
use crate::metrics::Following;

/// Most bytes that are read at once. No more than the connection buffers, which then holds one chunk at a time: hundreds of
/// callers who read nothing hold half of what they would with twice as much.
pub(super) const CHUNK_BYTES: usize = 24 << 10;

/// Which part of a log file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, with both banners.
    File,
    /// What the script wrote.
    Output,
}

/// A log that is followed to its end.
#[derive(Debug)]
pub(super) enum Followed {
    /// It is written, or was.
    Log(LogReader),
    /// Its task has not started.
    NotYet(Waiting),
}

/// A log that is waited for, and what it is of.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) wait: LogWait,
    pub(super) service: TaskService,
    pub(super) id: TaskId,
    pub(super) attempt: u32,
}

/// The body.
pub(super) struct LogBody {
    next: NextChunk,
    /// Bytes that will still come, where that is known.
    remaining: Option<u64>,
    _following: Option<Following>,
    /// The request that it answers.
    span: Span,
}

/// Gives the next chunk; none at the end.
type NextChunk = Pin<Box<dyn Future<Output = io::Result<Option<Chunk>>> + Send>>;

/// Some bytes, and what comes behind them.
struct Chunk {
    bytes: Bytes,
    next: NextChunk,
}

impl Part {
    /// Where the part lies in the file, as far as that has come.
    pub(super) fn of(self, progress: &LogProgress) -> Piece {
        let Piece { from, to } = match self {
            Self::File => Piece { from: 0, to: progress.bytes },
            Self::Output => {
                Piece { from: progress.header_bytes, to: progress.body_end.unwrap_or(progress.bytes) }
            }
        };
        Piece { from: from.min(to), to }
    }
}

impl LogBody {
    /// A piece of a log, all of which is there.
    pub(super) fn piece(reader: LogReader, piece: Piece) -> Self {
        let next = next_of_piece(reader, piece);
        Self { next, remaining: Some(piece.to - piece.from), _following: None, span: Span::current() }
    }

    /// A part of a log up to its end, without its first `skipped` bytes.
    pub(super) fn followed(log: Followed, part: Part, skipped: u64, following: Following) -> Self {
        let next = match log {
            Followed::Log(reader) => first_of_followed(reader, part, skipped),
            Followed::NotYet(waiting) => first_once_opened(waiting, part, skipped),
        };
        Self { next, remaining: None, _following: Some(following), span: Span::current() }
    }
}

impl Body for LogBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let _of_the_request = self.span.clone().entered();
        let chunk = ready!(self.next.as_mut().poll(context));
        Poll::Ready(match chunk {
            Ok(Some(Chunk { bytes, next })) => {
                self.next = next;
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Ok(None) => {
                self.remaining = Some(0);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a log could not be read to its end");
                self.remaining = Some(0);
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn next_of_piece(reader: LogReader, piece: Piece) -> NextChunk {
    Box::pin(async move {
        // Its length was promised already: where it is shorter the answer is cut off, so that nobody takes it for whole.
        let (reader, bytes) = read_chunk(reader, piece).await?;
        let rest = Piece { from: piece.from + bytes.len() as u64, ..piece };
        Ok(Some(Chunk { bytes: bytes.into(), next: next_of_piece(reader, rest) }))
    })
}

fn first_once_opened(waiting: Waiting, part: Part, skipped: u64) -> NextChunk {
    Box::pin(async move {
        let Waiting { wait, service, id, attempt } = waiting;
        match wait.opened().await.map_err(io::Error::other)? {
            LogSource::Log(reader) => first_of_followed(reader, part, skipped).await,
            LogSource::NotYet(wait) => {
                first_once_opened(Waiting { wait, service, id, attempt }, part, skipped).await
            }
            LogSource::None => {
                let task = service.task(&id).await.map_err(io::Error::other)?;
                match task.is_some_and(|task| task.log_bytes_of(attempt) > 0) {
                    true => Err(log_gone()),
                    false => Ok(None),
                }
            }
        }
    })
}

fn first_of_followed(mut reader: LogReader, part: Part, skipped: u64) -> NextChunk {
    Box::pin(async move {
        // Where the part begins is known with the first byte: that of a task on a node may still be on its way.
        let progress = reader.wait_beyond(0).await;
        let from = part.of(&progress).from.saturating_add(skipped);
        next_of_followed(reader, part, from).await
    })
}

fn next_of_followed(mut reader: LogReader, part: Part, from: u64) -> NextChunk {
    Box::pin(async move {
        let progress = reader.wait_beyond(from).await;
        let to = part.of(&progress).to;
        if from >= to {
            // The log is complete: where it is not, there is more than `from` by now.
            return Ok(None);
        }
        let (reader, bytes) = read_chunk(reader, Piece { from, to }).await?;
        let behind = from + bytes.len() as u64;
        Ok(Some(Chunk { bytes: bytes.into(), next: next_of_followed(reader, part, behind) }))
    })
}

/// Reads the beginning of a piece of a log, a chunk at most, on a thread that may wait for the disk.
///
/// # Errors
/// When it cannot be read, or the file ends before the piece.
pub(super) async fn read_chunk(reader: LogReader, piece: Piece) -> io::Result<(LogReader, Vec<u8>)> {
    let wanted = usize::try_from(piece.to - piece.from).unwrap_or(usize::MAX).min(CHUNK_BYTES);
    // Made here: the memory of the many threads that wait for the disk would be theirs to keep.
    let mut bytes = vec![0; wanted];
    let read = tokio::task::spawn_blocking(move || {
        let count = reader.read_at(piece.from, &mut bytes)?;
        bytes.truncate(count);
        Ok::<_, io::Error>((reader, bytes))
    });
    let (reader, bytes) = read.await.map_err(io::Error::other)??;
    if bytes.is_empty() {
        let message = "the log file is shorter than its record says";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok((reader, bytes))
}

/// What cuts an answer whose log was removed before it could be opened.
pub(super) fn log_gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the log is gone: its record was removed")
}
