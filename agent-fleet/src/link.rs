//! What carries messages between both ends, and how one is served: a writer that sends what comes in its order, reads log bytes
//! only then, and says something in time, and a reader that notices silence.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use task_service::{LogReader, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::frame::LogFrame;
use crate::heard::Heard;

/// Silence of one's own after which a ping is sent. Proxies close connections that are idle for 30 s.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Silence of the other end after which the link is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(40);
/// The same where somebody waits for what the link carries: a line that was cut is noticed, or works again, before it is
/// missed. Both together cost nothing where nothing runs.
const BUSY_PING_AFTER: Duration = Duration::from_secs(2);
const BUSY_GIVE_UP_AFTER: Duration = Duration::from_secs(7);
/// Time that every write may take, and the bytes a second that it must get rid of to have more of it.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
const LEAST_RATE: u64 = 16 << 10;
/// Frames that leave together, and those of them that are made beside each other.
const MOST_TOGETHER: usize = 32;
const MADE_TOGETHER: usize = 8;
/// Messages that wait to leave before nothing more is read of whoever they are for.
const PLACES: usize = 1024;

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

impl Frame {
    /// How long it is.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Control(text) => text.len(),
            Self::Log(bytes) => bytes.len(),
            Self::Ping => 0,
        }
    }

    /// Time that its write may take more than others.
    fn more_time(&self) -> Duration {
        Duration::from_secs(self.bytes() as u64 / LEAST_RATE)
    }
}

/// Why a link came to its end.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end has closed it, or the network did.
    #[error("the line was cut: {0}")]
    Cut(String),
    /// Nothing came for too long.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other end takes nothing.
    #[error("a message could not be sent within {} s", .0.as_secs())]
    Stuck(Duration),
}

/// The sending half of a link.
pub trait LinkSender: Send + 'static {
    /// Takes a frame to send. It may leave only with those behind it, at [`flush`](Self::flush).
    fn feed(&mut self, frame: Frame) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Sends what it was fed.
    fn flush(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Sends a frame.
    fn send(&mut self, frame: Frame) -> impl Future<Output = Result<(), LinkError>> + Send {
        async {
            self.feed(frame).await?;
            self.flush().await
        }
    }
}

/// The receiving half of a link.
pub trait LinkReceiver: Send + 'static {
    /// The next frame.
    fn receive(&mut self) -> impl Future<Output = Result<Frame, LinkError>> + Send;

    /// When bytes came, also those of a frame that is not whole yet.
    fn heard(&self) -> Heard;
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A control message.
    Control(String),
    /// The same, with its place in the [`Queue`].
    Placed { text: String, _place: OwnedSemaphorePermit },
    /// One that is not said again before this one has left: as long as it waits, `_waits` is held.
    Once { text: String, _waits: Arc<()> },
    /// Bytes of a log, which are read when they are sent.
    Log { reader: Arc<LogReader>, task: TaskId, offset: u64, bytes: u64 },
    /// What is made when it is sent.
    Later(Later),
}

impl Outgoing {
    /// The frame; none where it cannot be made.
    async fn made(self) -> Option<Frame> {
        match self {
            Self::Control(text) | Self::Placed { text, .. } | Self::Once { text, .. } => {
                Some(Frame::Control(text))
            }
            Self::Log { reader, task, offset, bytes } => log_frame(&reader, task, offset, bytes),
            Self::Later(Later(making)) => making.await,
        }
    }
}

/// A frame that is made when it is sent; none where it cannot be made then.
pub(crate) struct Later(Pin<Box<dyn Future<Output = Option<Frame>> + Send>>);

impl Later {
    pub(crate) fn new(making: impl Future<Output = Option<Frame>> + Send + 'static) -> Self {
        Self(Box::pin(making))
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later(..)")
    }
}

/// What waits to leave by one connection. Whoever is at its other end is not heard while there is too much of it: one that
/// says much and reads little could otherwise have its answers fill the memory.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    places: Arc<Semaphore>,
}

impl Queue {
    /// An empty one, and where what was put into it is taken out.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, to_send) = mpsc::unbounded_channel();
        (Self { outgoing, places: Arc::new(Semaphore::new(PLACES)) }, to_send)
    }

    /// Has a message leave behind those that wait. One for which there is no place waits all the same: it is for who asked
    /// before to say no more.
    pub(crate) fn say(&self, text: String) {
        let message = match self.places.clone().try_acquire_owned() {
            Ok(place) => Outgoing::Placed { text, _place: place },
            Err(_) => Outgoing::Control(text),
        };
        self.send(message);
    }

    /// The same for what is more than a message.
    pub(crate) fn send(&self, outgoing: Outgoing) {
        // A line that is gone is made again.
        let _ = self.outgoing.send(outgoing);
    }

    /// The places in it.
    pub(crate) fn places(&self) -> Places {
        Places(self.places.clone())
    }
}

/// The places of a [`Queue`], which ends without them.
#[derive(Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    /// Waits until there is one.
    pub(crate) async fn one_is_free(&self) {
        // It is never closed.
        drop(self.0.acquire().await);
    }
}

/// How often a sign of life is given, and how soon one is missed.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Whether somebody waits for what the link carries; without it nobody ever does.
    is_busy: Option<watch::Receiver<bool>>,
}

impl Pace {
    /// Never in a hurry: what an end keeps to that has thousands of links.
    pub(crate) fn calm() -> Self {
        Self { is_busy: None }
    }

    /// In a hurry while that says so.
    pub(crate) fn of(is_busy: watch::Receiver<bool>) -> Self {
        Self { is_busy: Some(is_busy) }
    }

    fn is_busy(&self) -> bool {
        self.is_busy.as_ref().is_some_and(|is_busy| *is_busy.borrow())
    }

    fn ping_after(&self) -> Duration {
        if self.is_busy() { BUSY_PING_AFTER } else { PING_AFTER }
    }

    fn give_up_after(&self) -> Duration {
        if self.is_busy() { BUSY_GIVE_UP_AFTER } else { GIVE_UP_AFTER }
    }

    /// Waits until it is another one.
    async fn changed(&mut self) {
        if let Some(is_busy) = &mut self.is_busy
            && is_busy.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Sends what comes by the channel until that is closed, what waits together in one write; pings where there is nothing to
/// send. Who becomes busy has something to send, so that the pace is looked at then.
pub(crate) async fn send_all(
    mut link: impl LinkSender,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    pace: Pace,
) -> Result<(), LinkError> {
    loop {
        let mut waiting = Vec::new();
        match timeout(pace.ping_after(), outgoing.recv_many(&mut waiting, MOST_TOGETHER)).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => within(WRITE_WITHIN, link.feed(Frame::Ping)).await?,
        }
        let mut frames = stream::iter(waiting).map(Outgoing::made).buffered(MADE_TOGETHER);
        // A long message may have been taken and not have left: it has its time for that as well.
        let mut most = WRITE_WITHIN;
        while let Some(frame) = frames.next().await {
            if let Some(frame) = frame {
                most = most.max(WRITE_WITHIN + frame.more_time());
                within(most, link.feed(frame)).await?;
            }
        }
        within(most, link.flush()).await?;
    }
}

/// Does what has to be done in that time.
async fn within(
    most: Duration,
    sending: impl Future<Output = Result<(), LinkError>>,
) -> Result<(), LinkError> {
    timeout(most, sending).await.unwrap_or(Err(LinkError::Stuck(most)))
}

/// The next frame that says something.
pub(crate) async fn receive(link: &mut impl LinkReceiver, pace: &mut Pace) -> Result<Frame, LinkError> {
    loop {
        match next(link, pace).await? {
            Frame::Ping => {}
            frame => return Ok(frame),
        }
    }
}

/// The next frame, unless nothing of it comes for longer than the pace of the moment allows.
async fn next(link: &mut impl LinkReceiver, pace: &mut Pace) -> Result<Frame, LinkError> {
    let (began, heard) = (Instant::now(), link.heard());
    // Half a frame may have come, so that this goes on whatever becomes of the pace.
    let mut coming = pin!(link.receive());
    loop {
        let (since, patience) = (heard.last().max(began), pace.give_up_after());
        tokio::select! {
            come = timeout_at(since + patience, &mut coming) => match come {
                Ok(come) => return come,
                // A part of it came meanwhile.
                Err(_) if heard.last() > since => {}
                Err(_) => return Err(LinkError::Silent(patience)),
            },
            () = pace.changed() => {}
        }
    }
}

/// Bytes of a log as a frame; none where they cannot be read, so that the other end asks again.
pub(crate) fn log_frame(reader: &LogReader, task: TaskId, offset: u64, bytes: u64) -> Option<Frame> {
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
