//! What carries messages between both ends, and how one is served: a writer that sends control messages before log bytes
//! and says something in time, and a reader that notices silence.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use task_service::{LogReader, TaskId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::frame::LogFrame;

/// Silence of one's own after which a ping is sent. Proxies close connections that are idle for 30 s.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Silence of the other end after which the link is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(40);
/// Time that a write may take.
const WRITE_WITHIN: Duration = Duration::from_secs(20);

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A control message.
    Control(String),
    /// Bytes of a log with their head.
    Log(Vec<u8>),
    /// A sign of life.
    Ping,
}

/// Why a link came to its end.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end has closed it, or the network did.
    #[error("the line was cut: {0}")]
    Cut(String),
    /// Nothing came for too long.
    #[error("nothing came for {} s", GIVE_UP_AFTER.as_secs())]
    Silent,
    /// The other end takes nothing.
    #[error("nothing could be sent for {} s", WRITE_WITHIN.as_secs())]
    Stuck,
}

/// The sending half of a link.
pub trait LinkSender: Send + 'static {
    /// Sends a frame.
    fn send(&mut self, frame: Frame) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// The receiving half of a link.
pub trait LinkReceiver: Send + 'static {
    /// The next frame.
    fn receive(&mut self) -> impl Future<Output = Result<Frame, LinkError>> + Send;
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A control message.
    Control(String),
    /// Bytes of a log, which are read when they are sent.
    Log { reader: Arc<LogReader>, task: TaskId, offset: u64, bytes: u64 },
}

/// Sends what comes by the channel until that is closed; pings where there is nothing to send.
pub(crate) async fn send_all(
    mut link: impl LinkSender,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
) -> Result<(), LinkError> {
    loop {
        let frame = match timeout(PING_AFTER, outgoing.recv()).await {
            Ok(Some(Outgoing::Control(text))) => Some(Frame::Control(text)),
            Ok(Some(Outgoing::Log { reader, task, offset, bytes })) => read(&reader, task, offset, bytes),
            Ok(None) => return Ok(()),
            Err(_) => Some(Frame::Ping),
        };
        if let Some(frame) = frame {
            timeout(WRITE_WITHIN, link.send(frame)).await.map_err(|_| LinkError::Stuck)??;
        }
    }
}

/// The next frame that says something.
pub(crate) async fn receive(link: &mut impl LinkReceiver) -> Result<Frame, LinkError> {
    loop {
        match timeout(GIVE_UP_AFTER, link.receive()).await {
            Ok(Ok(Frame::Ping)) => {}
            Ok(other) => return other,
            Err(_) => return Err(LinkError::Silent),
        }
    }
}

/// Bytes of a log as a frame; none where they cannot be read, so that the other end asks again.
fn read(reader: &LogReader, task: TaskId, offset: u64, bytes: u64) -> Option<Frame> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
    match reader.read_at(offset, &mut buffer) {
        Ok(0) => None,
        Ok(count) => {
            let frame = LogFrame { task, attempt: 1, offset, bytes: &buffer[..count] };
            Some(Frame::Log(frame.encode()))
        }
        Err(error) => {
            tracing::error!(task_id = %task, %error, "a log could not be read to be sent");
            None
        }
    }
}
