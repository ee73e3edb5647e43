//! The accept loop: HTTP/1.1 over TCP, TLS or a Unix socket, with a limit on everything that a caller could hold on to. Headers have a time and a
//! size, connections a number, of each peer and in all, answers must be taken at a least rate; when there are too many
//! connections the one that has kept its header to itself for longest goes, or one that takes nothing of what anybody may have.
//!
//! | module | what it holds |
//! |---|---|
//! | `connections` | the table of open connections, and which goes first |
//! | `listeners` | what is listened on, and a connection as it comes |
//! | `local` | the Unix socket's file, and what lies in its place |
//! | `patient` | a socket and the least rate at which its bytes must be taken |
//! | `transport` | that socket as it is, or TLS on top of it |
//! | `io` | the bytes of the protocol layer on top of both: the form of what it answers itself |

mod connections;
mod io;
mod listeners;
mod local;
mod patient;
mod transport;

use std::io::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use connections::{Connections, OpenConnections, Place};
use connections::{Serving as Served, Ticket};
use io::GuardedIo;
use listeners::{Listeners, Socket};
pub use local::{LocalSocket, SocketError};
use transport::Transport;

use crate::error::ApiError;
use crate::peer::{Peer, PeerKey};
use crate::tls::{ClientCertificate, Tls};

/// Most headers in one request, and the bytes that they may take together with the request line.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Most bytes that wait in the agent for one slow reader, beside one chunk of the body.
const MAX_BUFFERED_BYTES: usize = 24 << 10;
/// Part of all connections that one peer may have, unless the settings say another number, and the least that this can be.
const PEERS_PART: usize = 4;
const LEAST_PER_PEER: usize = 64;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a caller may hold on to, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Most connections at one time, without those of nodes.
    pub connections: usize,
    /// Most of them that one peer may have, an address or a user, without those that serve somebody with a token. 0 is a
    /// quarter of all, and 64 at least; a number that is not below all is no bound.
    pub connections_per_peer: usize,
    /// Most connections of nodes, which speak WebSocket.
    pub upgraded: usize,
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
    listeners: Listeners,
    limits: ServerLimits,
    connections: Connections,
    tls: Option<Arc<Tls>>,
}

/// Cancelled when the server stops: what was upgraded ends by itself then.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

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
    connections: Connections,
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
            connections_per_peer: 0,
            upgraded: 100_000,
            header: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            least_rate: 16 << 10,
            closing: Duration::from_secs(5),
        }
    }
}

impl ServerLimits {
    /// Most connections of one peer, as a number.
    fn most_a_peer(&self) -> usize {
        let most = match self.connections_per_peer {
            0 => (self.connections / PEERS_PART).max(LEAST_PER_PEER),
            set => set,
        };
        // Where one peer may have them all, who goes for whom is for the rules of all.
        if most < self.connections { most } else { usize::MAX }
    }
}

impl Server {
    /// Listens on an address; with port 0 the system chooses one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn listen(address: SocketAddr, limits: ServerLimits) -> Result<Self, Error> {
        let listeners = Listeners::bind(address).await?;
        let connections = Connections::new(&limits);
        Ok(Self { listeners, limits, connections, tls: None })
    }

    /// Listens on a Unix socket as well, where it is given.
    #[must_use]
    pub fn with_socket(self, socket: Option<LocalSocket>) -> Self {
        Self { listeners: self.listeners.with_local(socket), ..self }
    }

    /// Speaks TLS only, where it is given; not over a Unix socket.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// The address that is listened on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.listeners.address()
    }

    /// Serves until `stop` is cancelled: then nothing more is accepted, requests under way get their time, and what is
    /// still open after that is closed.
    pub async fn serve(self, app: Router, stop: CancellationToken) {
        let (tls, connections) = (self.tls.clone(), self.connections.clone());
        let serving = Serving { app, limits: self.limits, stop, tls, connections };
        while let Some(socket) = self.accept(&serving.stop).await {
            let ticket = self.connections.enter(key_of(&socket));
            match socket.prepare() {
                Ok(()) => {
                    tokio::spawn(serving.clone().connection(socket, ticket));
                }
                Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
            }
        }
        let Self { listeners, limits, connections, .. } = self;
        drop(listeners);
        if tokio::time::timeout(limits.closing, connections.all_gone()).await.is_err() {
            connections.close_all();
            connections.all_gone().await;
        }
    }

    /// The next connection, once there is room for it; none when the server is to stop.
    async fn accept(&self, stop: &CancellationToken) -> Option<Socket> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.accept_one() => accepted,
            };
            match accepted {
                Ok(socket) => return Some(socket),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> Result<Socket, Error> {
        // The newcomer comes first: an attacker who fills the table cannot keep honest callers waiting behind it.
        let socket = self.listeners.accept().await?;
        self.connections.room(key_of(&socket)).await;
        Ok(socket)
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
    async fn connection(self, socket: Socket, ticket: Ticket) {
        let ticket = Arc::new(ticket);
        let first_header = Instant::now() + self.limits.header;
        let peer = socket.peer();
        let opened = tokio::select! {
            opened = Transport::open(socket, &self.limits, &ticket, self.tls.as_deref()) => opened,
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
        let answer = service_fn(|request| self.respond(ticket, other_end, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_BUFFERED_BYTES)
            .serve_connection(TokioIo::new(GuardedIo::new(transport, ticket.clone())), answer)
            .with_upgrades();
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

    /// Answers one request. What may change something is done to its end, and written down, also where the caller hangs
    /// up meanwhile: otherwise hanging up would be a way to have things done that nobody hears of. It keeps the
    /// connection's place until then, so that no more is under way than there are places, and ends with the closing time
    /// at the latest.
    async fn respond(
        &self,
        ticket: &Arc<Ticket>,
        other_end: OtherEnd,
        mut request: Request<Incoming>,
    ) -> Result<Response, Error> {
        let serving = ticket.serving().ok_or_else(|| Error::other("the connection goes for another"))?;
        let OtherEnd { peer, certificate } = other_end;
        request.extensions_mut().insert(self.connections.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(certificate);
        }
        request.extensions_mut().insert(ticket.place());
        request.extensions_mut().insert(Stopping(self.stop.clone()));
        // This future is dropped when the connection has gone.
        let caller_left = CallerLeft::default();
        let _left = caller_left.0.clone().drop_guard();
        request.extensions_mut().insert(caller_left);
        let changes_nothing = request.method().is_safe();
        let answer = answer(self.app.clone(), request, serving);
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
}

/// What the routes answer. The connection counts as serving until the answer's last byte was sent.
async fn answer(app: Router, request: Request<Incoming>, serving: Served) -> Result<Response, Error> {
    let Ok(mut response) = app.oneshot(request.map(Body::new)).await;
    if response.status() == StatusCode::NOT_MODIFIED {
        // The router counts the body that there is not; that would be taken for the length of the whole answer.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !serving.upgraded() {
        let detail =
            "as many nodes are connected as this agent has open files for; raise its limit (LimitNOFILE)";
        response = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_nodes", detail).into_response();
    }
    Ok(response.map(|body| Body::new(io::WatchedBody::new(body, serving))))
}

/// As whose it counts.
fn key_of(socket: &Socket) -> Option<PeerKey> {
    socket.peer().map(|peer| peer.key())
}

/// Whether only the connection that was about to be accepted has failed (accept(2)).
fn is_of_one_connection(error: &Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
