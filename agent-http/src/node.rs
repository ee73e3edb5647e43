//! This agent as a node: what the settings say about that, made into what `agent-fleet` takes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use agent_config::Settings;
use agent_fleet::node::{Address, Node, NodeSettings};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use crate::agent::AgentError;
use crate::app::AppState;
use crate::tls;

/// Longest token that is read, with its line end.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The node that the settings say, if they say one.
///
/// # Errors
/// When its token, its CAs, its keys or its journal cannot be had.
pub(crate) async fn open(settings: &Settings, state: &AppState) -> Result<Option<Node>, AgentError> {
    let node = settings.node.clone();
    let (Some(api_server), Some(name), Some(token_file)) = (node.api_server, node.name, node.token_file)
    else {
        return Ok(None);
    };
    let (service, scripts) = (state.service().clone(), state.scripts().clone());
    let state_dir = settings.script_executor.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let token = token(&token_file)
            .map_err(|error| format!("node.token_file: {}: {error}", token_file.display()))?;
        let tls = Arc::new(client(node.ca.as_deref(), api_server.starts_with("wss:"))?);
        // They were checked when the settings were loaded; one that cannot be read again must not be passed over.
        let accepted: Result<Vec<_>, _> =
            node.assignment_public_keys.iter().map(|key| key.to_ascii_lowercase().parse()).collect();
        let settings = NodeSettings {
            name,
            labels: node.labels,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: service.stats().slots,
            address: Address { api_server, token, tls },
            accepted: accepted.map_err(|error| format!("node.assignment_public_keys: {error}"))?,
            state_dir,
        };
        Node::open(settings, &service, scripts).map_err(|error| error.to_string())
    });
    let opened = opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    opened.map(Some).map_err(AgentError::Node)
}

/// Reads a token that nobody else may read.
fn token(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == nix::unistd::geteuid().as_raw() || metadata.uid() == 0;
    if !metadata.is_file() || !is_ours || metadata.mode() & 0o077 != 0 {
        let problem =
            "expected a file of root or of the user of the service that nobody else may read (mode 0600)";
        return Err(io::Error::other(problem));
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    let token = text.trim();
    match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(io::Error::other("expected a token, as `agent-cli token create` prints it")),
    }
}

/// Whom the node trusts: the CAs of a file, and nobody else.
fn client(ca: Option<&Path>, is_tls: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in tls::certificates("node.ca", path).map_err(|error| error.to_string())? {
                roots.add(certificate).map_err(|error| format!("node.ca: {}: {error}", path.display()))?;
            }
        }
        None if is_tls => return Err("node.ca must be given with wss://".to_owned()),
        None => {}
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be used: {error}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
