//! Nodes that only stand there: they dial, show who they are, ping and answer pings. A thousand of them cost little, so that
//! what is measured is the API server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_fleet::greeting::sign_hello;
use agent_fleet::keys::NodeKeys;
use agent_fleet::message::{Hello, ToNode, ToServer, VERSION, decode, encode};
use agent_fleet::node::CONNECT_PATH;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::Result;
use crate::site::token;

/// Time between two pings, as a node has it.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Kinds of frames (RFC 6455, section 5.2), with the bit of a last part.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The bit of a masked frame. The mask is zero, which changes nothing.
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0; 4];
/// Longest head of an answer, and longest message.
const MOST: usize = 64 << 10;

/// What is spoken over.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A node that has nothing but its name and its keys.
pub(crate) struct Simulated {
    name: String,
    keys: NodeKeys,
}

/// Where it dials.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) at: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Address {
    pub(crate) async fn connect(&self) -> Result<Stream> {
        let tcp = TcpStream::connect(self.at).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(tcp)) };
        let name = ServerName::try_from("localhost")?;
        Ok(Either::Right(TlsConnector::from(tls.clone()).connect(name, tcp).await?))
    }
}

impl Simulated {
    pub(crate) fn name(number: usize) -> String {
        format!("node-{number:06}")
    }

    /// The node of a number, whose keys are made in a folder.
    pub(crate) fn new(number: usize, keys: &Path) -> Result<Self> {
        let name = Self::name(number);
        let keys = NodeKeys::open(&keys.join(&name))?;
        Ok(Self { name, keys })
    }

    /// Connects and is let in.
    pub(crate) async fn connect(&self, address: &Address) -> Result<Stream> {
        let mut stream = address.connect().await?;
        let token = token(&self.name);
        let request = format!(
            "GET {CONNECT_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        head(&mut stream).await?;
        let ToNode::Challenge(challenge) = message(&mut stream).await? else {
            return Err("expected a challenge".into());
        };
        let hello = Hello {
            version: VERSION,
            nonce: challenge.nonce,
            name: self.name.clone(),
            agent: "0.0.0".to_owned(),
            key: self.keys.public(),
            sealing: self.keys.sealing_key(),
            labels: [("role".to_owned(), "simulated".to_owned())].into(),
            runners: vec!["script".to_owned()],
            capacity: 8,
            catalogue: String::new(),
            unsettled: Vec::new(),
            opens: None,
        };
        let hello = encode(&ToServer::Hello(sign_hello(&self.keys, &hello)?))?;
        write(&mut stream, TEXT, hello.as_bytes()).await?;
        match message(&mut stream).await? {
            ToNode::Welcome { .. } => Ok(stream),
            other => Err(format!("expected a welcome: {other:?}").into()),
        }
    }
}

/// Pings, and answers pings, until the line is cut.
pub(crate) async fn stand(mut stream: Stream) -> Result<()> {
    let mut pings = interval(PING_AFTER);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut head = [0; 2];
    loop {
        tokio::select! {
            read = stream.read(&mut head[..1]) => {
                if read? == 0 {
                    return Ok(());
                }
                stream.read_exact(&mut head[1..]).await?;
                let payload = payload(&mut stream, head[1]).await?;
                match head[0] {
                    PING => write(&mut stream, PONG, &payload).await?,
                    CLOSE => return Ok(()),
                    _ => {}
                }
            }
            _ = pings.tick() => write(&mut stream, PING, &[]).await?,
        }
    }
}

/// Reads the head of an answer, which says that another protocol is spoken from now on.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MOST {
            return Err("an endless head".into());
        }
        head.push(stream.read_u8().await?);
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => Err(format!("expected 101: {}", String::from_utf8_lossy(&head)).into()),
    }
}

async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Result<ToNode> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    if head[0] != TEXT {
        return Err("expected a control message".into());
    }
    let text = String::from_utf8(payload(stream, head[1]).await?)?;
    Ok(decode(&text)?)
}

/// What is behind the first two bytes of a frame of the API server, which masks nothing.
async fn payload(stream: &mut (impl AsyncRead + Unpin), length: u8) -> Result<Vec<u8>> {
    let length = match length {
        126 => usize::from(stream.read_u16().await?),
        127 => return Err("a message that is longer than any here".into()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> Result<()> {
    let mut frame = vec![kind];
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => frame.push(MASKED | short),
        _ => {
            frame.push(MASKED | 126);
            frame.extend(u16::try_from(payload.len())?.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload);
    stream.write_all(&frame).await?;
    Ok(stream.flush().await?)
}
