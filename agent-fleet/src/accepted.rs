//! The API server's end of a WebSocket (RFC 6455) whose upgrade has been answered.
//!
//! Thousands of nodes stand there and say nothing for most of the time: this end holds half a KiB for each, and no more
//! after a node has sent long messages. Libraries keep a buffer that is as long as what they read at once. What is long is
//! read past the buffer, straight into the message.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::heard::{Heard, Listening};
use crate::link::{Frame, LinkError, LinkReceiver, LinkSender};
use crate::message::MAX_MESSAGE_BYTES;

/// Bytes that are read at once while nothing long comes.
const AHEAD_BYTES: usize = 512;
/// Most memory that is made before the bytes that it is for have come.
const STEP_BYTES: usize = 64 << 10;
/// Time after which whoever sends a message that takes long is told that it is coming.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// Longest payload of a frame that is about the connection itself.
const MAX_CONTROL_BYTES: u64 = 125;

/// What the first byte of a frame says: that it is the last of its message, what nobody has agreed upon, and the kind.
const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const CONTINUED: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The bit of the second byte that says that the payload is masked, as a client's must be.
const MASKED: u8 = 0x80;

/// Both halves write: one what is to be said, the other what a ping or a close asks for.
type Writing<S> = Arc<Mutex<WriteHalf<S>>>;

/// The sending half.
#[derive(Debug)]
pub struct Sender<S> {
    writing: Writing<S>,
    /// Frames that leave together, and no room for them when they have left.
    waiting: Vec<u8>,
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<S> {
    reading: BufReader<Listening<ReadHalf<S>>>,
    writing: Writing<S>,
    /// When the node was told last that its bytes are coming.
    told: Option<Instant>,
    heard: Heard,
}

/// The head of a frame.
struct Head {
    is_last: bool,
    kind: u8,
    length: u64,
    mask: [u8; 4],
}

/// The two halves of a connection.
pub(crate) fn split<S: AsyncRead + AsyncWrite>(stream: S) -> (Sender<S>, Receiver<S>) {
    let (reading, writing) = tokio::io::split(stream);
    let writing = Arc::new(Mutex::new(writing));
    let reading = Listening::to(reading);
    let heard = reading.heard();
    let reading = BufReader::with_capacity(AHEAD_BYTES, reading);
    (
        Sender { writing: writing.clone(), waiting: Vec::new() },
        Receiver { reading, writing, told: None, heard },
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> LinkSender for Sender<S> {
    async fn feed(&mut self, frame: Frame) -> Result<(), LinkError> {
        match &frame {
            Frame::Control(text) => put(&mut self.waiting, TEXT, text.as_bytes()),
            Frame::Log(bytes) => put(&mut self.waiting, BINARY, bytes),
            Frame::Ping => put(&mut self.waiting, PING, &[]),
        }
        if self.waiting.len() < STEP_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() { Ok(()) } else { write(&self.writing, &waiting).await }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> LinkReceiver for Receiver<S> {
    async fn receive(&mut self) -> Result<Frame, LinkError> {
        let (mut message, mut kind) = (Vec::new(), CONTINUED);
        loop {
            let head = self.head().await?;
            if head.kind >= CLOSE {
                self.answer(&head).await?;
                // A sign of life, unless it came between the parts of a message, which goes on.
                if kind == CONTINUED {
                    return Ok(Frame::Ping);
                }
                continue;
            }
            match (kind, head.kind) {
                (CONTINUED, TEXT | BINARY) => kind = head.kind,
                (TEXT | BINARY, CONTINUED) => {}
                _ => return Err(broken("the parts of two messages are mixed")),
            }
            self.payload(&head, &mut message).await?;
            match (head.is_last, kind) {
                (false, _) => {}
                (true, TEXT) => {
                    let text = String::from_utf8(message);
                    return text.map(Frame::Control).map_err(|_| broken("a text is not UTF-8"));
                }
                (true, _) => return Ok(Frame::Log(message)),
            }
        }
    }

    fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    async fn head(&mut self) -> Result<Head, LinkError> {
        let mut two = [0; 2];
        self.reading.read_exact(&mut two).await.map_err(cut)?;
        let [first, second] = two;
        if first & RESERVED != 0 {
            return Err(broken("a frame uses an extension that nobody asked for"));
        }
        if second & MASKED == 0 {
            return Err(broken("a frame of a client is not masked"));
        }
        let length = match second & !MASKED {
            126 => at_least(126, u64::from(self.reading.read_u16().await.map_err(cut)?))?,
            127 => at_least(1 << 16, self.reading.read_u64().await.map_err(cut)?)?,
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        self.reading.read_exact(&mut mask).await.map_err(cut)?;
        Ok(Head { is_last: first & LAST != 0, kind: first & 0x0f, length, mask })
    }

    /// Reads the payload of a frame behind what there is of its message.
    async fn payload(&mut self, head: &Head, message: &mut Vec<u8>) -> Result<(), LinkError> {
        let from = message.len();
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let until = from.saturating_add(length);
        if until > MAX_MESSAGE_BYTES {
            return Err(broken("a message is longer than any may be"));
        }
        while message.len() < until {
            let left = until - message.len();
            message.reserve(left.min(STEP_BYTES));
            let mut rest = (&mut self.reading).take(left as u64);
            if rest.read_buf(message).await.map_err(cut)? == 0 {
                return Err(broken("it ended in a frame"));
            }
            if message.len() < until {
                self.tell_that_it_comes().await?;
            }
        }
        unmask(&mut message[from..], head.mask);
        Ok(())
    }

    /// A node that waits behind its own long message on a slow line would take silence for a cut. RFC 6455, 5.5.3: a pong
    /// may come unasked.
    async fn tell_that_it_comes(&mut self) -> Result<(), LinkError> {
        let since = *self.told.get_or_insert_with(Instant::now);
        if since.elapsed() < SIGN_EVERY {
            return Ok(());
        }
        self.told = Some(Instant::now());
        say(&self.writing, PONG, &[]).await
    }

    /// Answers a frame that is about the connection itself.
    async fn answer(&mut self, head: &Head) -> Result<(), LinkError> {
        if !head.is_last || head.length > MAX_CONTROL_BYTES {
            return Err(broken("a control frame is in parts, or too long"));
        }
        let mut payload = Vec::new();
        self.payload(head, &mut payload).await?;
        match head.kind {
            PING => say(&self.writing, PONG, &payload).await,
            PONG => Ok(()),
            CLOSE => {
                let code = closing_code(&payload)?;
                // The other end may have gone already.
                let _ = say(&self.writing, CLOSE, code).await;
                Err(LinkError::Cut("the other end has closed it".to_owned()))
            }
            _ => Err(broken("a frame's kind is not known")),
        }
    }
}

/// A length is told in the fewest bytes that hold it (RFC 6455, 5.2).
fn at_least(least: u64, length: u64) -> Result<u64, LinkError> {
    if length < least { Err(broken("a length is told in more bytes than it needs")) } else { Ok(length) }
}

/// The code with which a connection is closed, where there is one: those that may travel (RFC 6455, 7.4), with words in UTF-8.
fn closing_code(payload: &[u8]) -> Result<&[u8], LinkError> {
    let Some((code, words)) = payload.split_at_checked(2) else {
        return if payload.is_empty() { Ok(payload) } else { Err(broken("half a code closes it")) };
    };
    let number = u16::from_be_bytes([code[0], code[1]]);
    if !matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999) || std::str::from_utf8(words).is_err() {
        return Err(broken("a code closes it that nobody may send"));
    }
    Ok(code)
}

/// Writes a frame that is about the connection itself.
async fn say<S: AsyncWrite>(writing: &Writing<S>, kind: u8, payload: &[u8]) -> Result<(), LinkError> {
    let mut frame = Vec::new();
    put(&mut frame, kind, payload);
    write(writing, &frame).await
}

/// Puts a whole message as one frame behind others. What an API server says is short.
fn put(frames: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    frames.reserve(10 + payload.len());
    frames.push(LAST | kind);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frames.push(short),
        (_, Ok(middle)) => {
            frames.push(126);
            frames.extend(middle.to_be_bytes());
        }
        _ => {
            frames.push(127);
            frames.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frames.extend(payload);
}

/// Writes whole frames.
async fn write<S: AsyncWrite>(writing: &Writing<S>, frames: &[u8]) -> Result<(), LinkError> {
    let mut writing = writing.lock().await;
    writing.write_all(frames).await.map_err(cut)?;
    writing.flush().await.map_err(cut)
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let twice = u64::from_ne_bytes([mask, mask].as_flattened().try_into().unwrap_or_default());
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(found) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(found) ^ twice).to_ne_bytes());
        }
    }
    words.into_remainder().iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn cut(error: std::io::Error) -> LinkError {
    LinkError::Cut(error.to_string())
}

fn broken(what: &str) -> LinkError {
    LinkError::Cut(format!("this is no WebSocket: {what}"))
}
