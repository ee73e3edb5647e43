//! The accept loop: HTTP/1.1 over TCP with a limit on everything that a caller could hold on to. Headers have a time and a
//! size, connections a number, answers must be taken at a least rate; when there are too many connections the one that has kept its
//! header to itself for longest goes.
//!
//! | module | what it holds |
//! |---|---|
//! | `connections` | the table of open connections, and which goes first |
//! | `io` | a connection's bytes: the least rate of writes, and the form of what the protocol layer answers itself |

mod connections;
mod io;

use std::io::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use connections::{Connections, Ticket};
use io::GuardedIo;

/// Most headers in one request, and the bytes that they may take together with the request line.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Most bytes that wait in the agent for one slow reader, beside one chunk of the body; and in the kernel.
const MAX_BUFFERED_BYTES: usize = 32 << 10;
const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// Silence after which the kernel asks whether the other end is still there, and how often it asks in vain.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBES: u32 = 3;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a caller may hold on to, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Most connections at one time.
    pub connections: usize,
    /// Time for a request's header, counted from the connection's start or the end of the answer before. An idle
    /// connection is closed after this time.
    pub header: Duration,
    /// Time for which a caller may keep bytes waiting that it does not take.
    pub stall: Duration,
    /// Bytes that earn a second of that time back: whoever takes less in a second is cut off in the end.
    pub least_rate: u64,
    /// Time that connections have to end by themselves when the server stops.
    pub closing: Duration,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: ServerLimits,
    connections: Connections,
}

/// Who is at the other end of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    app: Router,
    limits: ServerLimits,
    stop: CancellationToken,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            least_rate: 16 << 10,
            closing: Duration::from_secs(5),
        }
    }
}

impl Server {
    /// Listens on an address; with port 0 the system chooses one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(address: SocketAddr, limits: ServerLimits) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, limits, connections: Connections::new(limits.connections) })
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled: then nothing more is accepted, requests under way get their time, and what is
    /// still open after that is closed.
    pub async fn serve(self, app: Router, stop: CancellationToken) {
        let serving = Serving { app, limits: self.limits, stop };
        while let Some(stream) = self.accept(&serving.stop).await {
            let ticket = self.connections.enter();
            match prepare(&stream) {
                Ok(()) => {
                    tokio::spawn(serving.clone().connection(stream, ticket));
                }
                Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
            }
        }
        let Self { listener, limits, connections } = self;
        drop(listener);
        if tokio::time::timeout(limits.closing, connections.all_gone()).await.is_err() {
            connections.close_all();
            connections.all_gone().await;
        }
    }

    /// The next connection, once there is room for it; none when the server is to stop.
    async fn accept(&self, stop: &CancellationToken) -> Option<TcpStream> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.accept_one() => accepted,
            };
            match accepted {
                Ok(stream) => return Some(stream),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> Result<TcpStream, Error> {
        // The newcomer comes first: an attacker who fills the table cannot keep honest callers waiting behind it.
        let (stream, _) = self.listener.accept().await?;
        self.connections.room().await;
        Ok(stream)
    }
}

impl Serving {
    /// Serves one connection to its end.
    async fn connection(self, stream: TcpStream, ticket: Ticket) {
        let Self { app, limits, stop } = self;
        let ticket = Arc::new(ticket);
        let peer = stream.peer_addr().ok().map(Peer);
        let answer = service_fn(|request: Request<Incoming>| respond(&app, &ticket, peer, request));
        let io = TokioIo::new(GuardedIo::new(stream, ticket.clone(), &limits));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_BUFFERED_BYTES)
            .serve_connection(io, answer);
        let mut connection = pin!(connection);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                () = ticket.told_to_go() => return,
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Answers one request. The connection counts as serving until the answer's last byte was sent.
async fn respond(
    app: &Router,
    ticket: &Arc<Ticket>,
    peer: Option<Peer>,
    mut request: Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let serving = ticket.serving();
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let response = app.clone().oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| Body::new(io::WatchedBody::new(body, serving))))
}

fn prepare(stream: &TcpStream) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER / PROBES).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    // Otherwise the kernel buffers megabytes for a caller who reads nothing.
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)
}

/// Whether only the connection that was about to be accepted has failed (accept(2)).
fn is_of_one_connection(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
