//! How a node reaches its API server: TCP, TLS where the address says so, the upgrade with the node's token.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};

use tokio_util::either::Either;

use crate::websocket::{self, Receiver, Sender};

/// Where nodes connect, below the API server's address.
pub const CONNECT_PATH: &str = "/api/v1/nodes/connect";

/// What a connection is spoken over.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Where the API server is, and what opens it.
#[derive(Clone)]
pub struct Address {
    /// `ws://` or `wss://`, host and port.
    pub api_server: String,
    /// The token of the node.
    pub token: String,
    /// Whom to trust, for `wss://`.
    pub tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("api_server", &self.api_server).finish_non_exhaustive()
    }
}

/// Why there is no connection, in words.
pub(crate) type DialError = String;

/// Connects.
pub(crate) async fn dial(address: &Address) -> Result<(Sender<Stream>, Receiver<Stream>), DialError> {
    let url = format!("{}{CONNECT_PATH}", address.api_server.trim_end_matches('/'));
    let uri: Uri = url.parse().map_err(|error| format!("'{url}' is no address: {error}"))?;
    let host = uri.host().ok_or_else(|| format!("'{url}' names no host"))?;
    let is_tls = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let stream: Stream = if is_tls {
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(address.tls.clone());
        Either::Right(connector.connect(name, tcp).await.map_err(|error| error.to_string())?)
    } else {
        Either::Left(tcp)
    };
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", address.token))
        .map_err(|_| "the token has characters that no token has".to_owned())?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let opened = client_async_with_config(request, stream, Some(websocket::config())).await;
    let (socket, _) = opened.map_err(|error| refused(&error))?;
    Ok(websocket::split(socket))
}

/// What the API server said against it, where it said something.
fn refused(error: &Error) -> DialError {
    let Error::Http(response) = error else { return error.to_string() };
    let body = response.body().as_deref().unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("no reason was given");
    format!("the API server answered {}: {detail}", response.status())
}
