//! The accept loop: HTTP/1.1 over TCP, or TLS, with a limit on everything that a caller could hold on to. Headers have a time and a
//! size, connections a number, answers must be taken at a least rate; when there are too many connections the one that has kept its
//! header to itself for longest goes.
//!
//! | module | what it holds |
//! |---|---|
//! | `connections` | the table of open connections, and which goes first |
//! | `patient` | a socket and the least rate at which its bytes must be taken |
//! | `transport` | that socket as it is, or TLS on top of it |
//! | `io` | the bytes of the protocol layer on top of both: the form of what it answers itself |

mod connections;
mod io;
mod patient;
mod transport;

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
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use connections::{Connections, Serving as Served, Ticket};
use io::GuardedIo;
use patient::PatientSocket;
use transport::Transport;

use crate::tls::{ClientCertificate, Tls};

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
    /// Time for a request's header, counted from the connection's start or the end of the answer before; a TLS handshake
    /// is a part of it. An idle connection is closed after this time.
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
    tls: Option<Arc<Tls>>,
}

/// Who is at the other end of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Whether the caller of a request still waits for its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallerLeft(CancellationToken);

/// What every connection is served with.
#[derive(Clone)]
struct Serving {
    app: Router,
    limits: ServerLimits,
    stop: CancellationToken,
    tls: Option<Arc<Tls>>,
}

/// Who is at the other end, as far as the connection shows it.
#[derive(Clone, Copy)]
struct OtherEnd {
    peer: Option<Peer>,
    certificate: Option<ClientCertificate>,
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
        Ok(Self { listener, limits, connections: Connections::new(limits.connections), tls: None })
    }

    /// Speaks TLS only, where it is given.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
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
        let serving = Serving { app, limits: self.limits, stop, tls: self.tls.clone() };
        while let Some(stream) = self.accept(&serving.stop).await {
            let ticket = self.connections.enter();
            match prepare(&stream) {
                Ok(()) => {
                    tokio::spawn(serving.clone().connection(stream, ticket));
                }
                Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
            }
        }
        let Self { listener, limits, connections, .. } = self;
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

impl CallerLeft {
    /// Waits until the caller has hung up.
    pub(crate) async fn told(&self) {
        self.0.cancelled().await;
    }
}

impl Serving {
    /// Serves one connection to its end.
    async fn connection(self, stream: TcpStream, ticket: Ticket) {
        let ticket = Arc::new(ticket);
        let first_header = Instant::now() + self.limits.header;
        let peer = stream.peer_addr().ok().map(Peer);
        let socket = PatientSocket::new(stream, &self.limits);
        let opened = tokio::select! {
            opened = Transport::open(socket, self.tls.as_deref()) => opened,
            () = sleep_until(first_header) => return,
            () = ticket.told_to_go() => return,
            () = self.stop.cancelled() => return,
        };
        let (transport, certificate) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(%error, from = ?peer, "a connection ended before a request");
                return;
            }
        };
        // The protocol layer would count from the end of the handshake on.
        let is_late = async {
            sleep_until(first_header).await;
            if !ticket.waits_for_its_first() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.requests(transport, &ticket, OtherEnd { peer, certificate }) => {}
            () = ticket.told_to_go() => {}
            () = is_late => {}
        }
    }

    /// Answers requests until either side wants no more.
    async fn requests(&self, transport: Transport, ticket: &Arc<Ticket>, other_end: OtherEnd) {
        let answer = service_fn(|request| respond(&self.app, ticket, other_end, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_BUFFERED_BYTES)
            .serve_connection(TokioIo::new(GuardedIo::new(transport, ticket.clone())), answer);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Answers one request. What may change something is done to its end, and written down, also where the caller hangs up
/// meanwhile: otherwise hanging up would be a way to have things done that nobody hears of. It keeps the connection's
/// place until then, so that no more is under way than there are places, and ends with the closing time at the latest.
async fn respond(
    app: &Router,
    ticket: &Arc<Ticket>,
    other_end: OtherEnd,
    mut request: Request<Incoming>,
) -> Result<Response, Error> {
    let serving = ticket.serving();
    let OtherEnd { peer, certificate } = other_end;
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate);
    }
    // This future is dropped when the connection has gone.
    let caller_left = CallerLeft::default();
    let _left = caller_left.0.clone().drop_guard();
    request.extensions_mut().insert(caller_left);
    let changes_nothing = request.method().is_safe();
    let answer = answer(app.clone(), request, serving);
    if changes_nothing {
        return answer.await;
    }
    let ticket = ticket.clone();
    let to_the_end = async move {
        tokio::select! {
            answer = answer => answer,
            () = ticket.told_to_go() => Err(Error::other("the service stops")),
        }
    };
    tokio::spawn(to_the_end).await.map_err(Error::other)?
}

/// What the routes answer. The connection counts as serving until the answer's last byte was sent.
async fn answer(app: Router, request: Request<Incoming>, serving: Served) -> Result<Response, Error> {
    let Ok(response) = app.oneshot(request.map(Body::new)).await;
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
