//! The link over a WebSocket (RFC 6455): control messages are text, log bytes binary.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::accepted;
use crate::heard::{Heard, Listening};
use crate::link::{Frame, LinkError, LinkReceiver, LinkSender};
use crate::message::MAX_MESSAGE_BYTES;

/// Bytes that are read at once, and that are gathered before they are written. The library's own default is 128 KiB of
/// each for every connection.
const BUFFER_BYTES: usize = 8 << 10;

/// The value of `Sec-WebSocket-Accept` for a request's `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

/// The sending half.
#[derive(Debug)]
pub struct Sender<S>(SplitSink<WebSocketStream<Listening<S>>, Message>);

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<S>(SplitStream<WebSocketStream<Listening<S>>>, Heard);

/// The bounds of every connection.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// The API server's end of a connection whose upgrade has been answered.
pub async fn accepted<S>(stream: S) -> (accepted::Sender<S>, accepted::Receiver<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    accepted::split(stream)
}

/// The two halves of a connection.
pub(crate) fn split<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<Listening<S>>,
) -> (Sender<S>, Receiver<S>) {
    let heard = socket.get_ref().heard();
    let (sink, stream) = socket.split();
    (Sender(sink), Receiver(stream, heard))
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> LinkSender for Sender<S> {
    async fn feed(&mut self, frame: Frame) -> Result<(), LinkError> {
        let message = match frame {
            Frame::Control(text) => Message::text(text),
            Frame::Log(bytes) => Message::binary(bytes),
            Frame::Ping => Message::Ping(Bytes::new()),
        };
        self.0.feed(message).await.map_err(|error| LinkError::Cut(error.to_string()))
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        self.0.flush().await.map_err(|error| LinkError::Cut(error.to_string()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> LinkReceiver for Receiver<S> {
    async fn receive(&mut self) -> Result<Frame, LinkError> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => Ok(Frame::Control(text.as_str().to_owned())),
            Some(Ok(Message::Binary(bytes))) => Ok(Frame::Log(bytes.into())),
            Some(Ok(Message::Close(_))) | None => {
                Err(LinkError::Cut("the other end has closed it".to_owned()))
            }
            Some(Ok(_)) => Ok(Frame::Ping),
            Some(Err(error)) => Err(LinkError::Cut(error.to_string())),
        }
    }

    fn heard(&self) -> Heard {
        self.1.clone()
    }
}
