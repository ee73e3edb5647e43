//! How a node reaches its API server: TCP, by a proxy where there is one, TLS where the address says so, and the upgrade
//! with what proves who the node is.

mod proxy;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, Uri};
use tokio_util::either::Either;

use crate::heard::Listening;
use crate::websocket::{self, Receiver, Sender};

/// Where nodes connect, below the API server's address.
pub const CONNECT_PATH: &str = "/api/v1/nodes/connect";
/// Time that one address of a host has to accept a connection. Longer would be spent waiting for a line that is back already.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// What a connection is spoken over.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Where the API server is, and what opens it.
#[derive(Clone)]
pub struct Address {
    /// `ws://` or `wss://`, host and port.
    pub api_server: String,
    /// `http://`, host and port of the proxy on the way, where there is one.
    pub proxy: Option<String>,
    /// Reads what opens both, before each connection: files may have changed. It may take its time, and says what is wrong.
    pub access: Arc<dyn Fn() -> Result<Access, String> + Send + Sync>,
}

/// What opens an API server, and the proxy on the way.
pub struct Access {
    /// The node's token; none where its certificate proves who it is.
    pub token: Option<String>,
    /// Whom to trust for `wss://`, and the node's certificate where it has one.
    pub tls: Arc<ClientConfig>,
    /// What the proxy is told of who calls: the value of `Proxy-Authorization`.
    pub proxy_authorization: Option<String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api_server, proxy, .. } = self;
        f.debug_struct("Address")
            .field("api_server", api_server)
            .field("proxy", proxy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// Why there is no connection, in words that say what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody could be reached. That may change soon.
    Away(String),
    /// Somebody was, and does not want this node. That changes when a person does something.
    Refused(String),
}

impl Failure {
    /// As the API server says it.
    pub(super) fn refused(code: &str, message: &str) -> Self {
        Self::Refused(format!("refused, {code}: {message}"))
    }
}

/// A host and a port, as an address names them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Connects.
pub(super) async fn dial(address: &Address) -> Result<(Sender<Stream>, Receiver<Stream>), Failure> {
    let url = format!("{}{CONNECT_PATH}", address.api_server.trim_end_matches('/'));
    let is_tls = url.starts_with("wss:");
    let place = place(&url, if is_tls { 443 } else { 80 })?;
    let read = address.access.clone();
    let access = tokio::task::spawn_blocking(move || read()).await;
    let access = access.map_err(|error| Failure::Away(error.to_string()))?.map_err(Failure::Away)?;
    let tcp = match &address.proxy {
        None => connect(&place).await?,
        Some(proxy) => proxy::connect(proxy, access.proxy_authorization.as_deref(), &place).await?,
    };
    let stream: Stream =
        if is_tls { Either::Right(shake_hands(tcp, &place, &access).await?) } else { Either::Left(tcp) };
    upgrade(url, stream, &access).await
}

/// The place that an address names.
fn place(url: &str, usual_port: u16) -> Result<Place, Failure> {
    let wrong = |problem: &str| Failure::Refused(format!("'{url}' is no address: {problem}"));
    let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
    let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Place { host, port: uri.port_u16().unwrap_or(usual_port) })
}

/// A connection to the first address of a host that takes one.
async fn connect(place: &Place) -> Result<TcpStream, Failure> {
    let failed = |error: &dyn fmt::Display| Failure::Away(format!("cannot connect to {place}: {error}"));
    let found = lookup_host((place.host.as_str(), place.port)).await;
    let mut last = Failure::Away(format!("cannot connect to {place}: that name has no address"));
    for address in found.map_err(|error| failed(&error))? {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tcp.set_nodelay(true).map_err(|error| failed(&error))?;
                return Ok(tcp);
            }
            Ok(Err(error)) => last = failed(&error),
            Err(_) => last = failed(&format!("no answer within {} s", CONNECT_WITHIN.as_secs())),
        }
    }
    Err(last)
}

async fn shake_hands(
    tcp: TcpStream,
    place: &Place,
    access: &Access,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(place.host.clone());
    let name = name.map_err(|error| Failure::Refused(format!("'{}' is no name: {error}", place.host)))?;
    let connector = TlsConnector::from(access.tls.clone());
    connector.connect(name, tcp).await.map_err(|error| Failure::Away(words::of_tls(&error, place)))
}

/// Asks for the WebSocket.
async fn upgrade(
    url: String,
    stream: Stream,
    access: &Access,
) -> Result<(Sender<Stream>, Receiver<Stream>), Failure> {
    let mut request = url.into_client_request().map_err(|error| Failure::Refused(error.to_string()))?;
    if let Some(token) = &access.token {
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let bearer =
            bearer.map_err(|_| Failure::Refused("the token has characters that no token has".to_owned()))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    match client_async_with_config(request, Listening::to(stream), Some(websocket::config())).await {
        Ok((socket, _)) => Ok(websocket::split(socket)),
        Err(Error::Http(response)) => Err(refused(&response)),
        Err(Error::Io(error)) => Err(Failure::Away(words::of_io(&error))),
        Err(error) => Err(Failure::Away(format!("the API server answers as none does: {error}"))),
    }
}

/// What the API server said against it, where it said something.
fn refused(response: &Response) -> Failure {
    let body = response.body().as_deref().unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason was given");
    let words = format!("the API server answered {}: {detail}", response.status());
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Refused(words),
        _ => Failure::Away(words),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_a_node_sends_leaves_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let dialled = connect(&Place { host: at.ip().to_string(), port: at.port() }).await.unwrap();
        assert!(dialled.nodelay().unwrap());
        // The twin: nobody else asks for that.
        assert!(!TcpStream::connect(at).await.unwrap().nodelay().unwrap());
    }
}
