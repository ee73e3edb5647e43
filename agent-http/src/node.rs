//! This agent as a node: what the settings say about that, made into what `agent-fleet` takes.

use std::path::Path;
use std::sync::Arc;

use agent_config::Settings;
use agent_fleet::node::{Access, Address, Node, NodeSettings};
use agent_fleet::opens::Opens;
use ct_codecs::{Base64, Encoder};
use task_runners::Scripts;
use task_service::TaskService;

use crate::agent::AgentError;
use crate::tls;

/// The node that the settings say, if they say one.
///
/// # Errors
/// When its files, its keys or its journal cannot be had.
pub(crate) async fn open(
    settings: &Settings,
    service: &TaskService,
    scripts: &Arc<Scripts>,
) -> Result<Option<Node>, AgentError> {
    let node = settings.node.clone();
    let (Some(api_server), Some(name)) = (node.api_server.clone(), node.name.clone()) else {
        return Ok(None);
    };
    let (service, scripts) = (service.clone(), scripts.clone());
    let state_dir = settings.script_executor.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        // What cannot be used at the start is told at once, and not by a node that never comes.
        access(&node)?;
        // They were checked when the settings were loaded; one that cannot be read again must not be passed over.
        let accepted: Result<Vec<_>, _> =
            node.assignment_public_keys.iter().map(|key| key.to_ascii_lowercase().parse()).collect();
        let settings = NodeSettings {
            name,
            labels: node.labels.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: service.stats().slots,
            accepted: accepted.map_err(|error| format!("node.assignment_public_keys: {error}"))?,
            state_dir,
            opens: Opens { env: node.env.clone(), work_dirs: node.work_dirs.clone() },
            address: Address {
                api_server,
                proxy: node.proxy.clone(),
                access: Arc::new(move || access(&node)),
            },
        };
        Node::open(settings, &service, scripts).map_err(|error| error.to_string())
    });
    let opened = opened.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    opened.map(Some).map_err(AgentError::Node)
}

/// Whether the files that `[node]` names can be used now. Nothing is opened or started.
///
/// # Errors
/// When one of them cannot, with what would be right.
pub fn check_node(settings: &Settings) -> Result<(), AgentError> {
    match settings.node.api_server {
        Some(_) => access(&settings.node).map(drop).map_err(AgentError::Node),
        None => Ok(()),
    }
}

/// Reads what opens the API server, and the proxy on the way: each time, since files may have changed.
fn access(node: &agent_config::NodeSettings) -> Result<Access, String> {
    let token = secret("node.token_file", node.token_file.as_deref(), |text| {
        match text.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(text.to_owned()),
            false => Err("expected a token, as `agent-cli token create` prints it"),
        }
    })?;
    let credentials =
        secret("node.proxy_credentials_file", node.proxy_credentials_file.as_deref(), |text| {
            match text.contains(':') && !text.contains(char::is_control) {
                true => Base64::encode_to_string(text).map_err(|_| "it is too long"),
                false => Err("expected user:password in one line"),
            }
        })?;
    let tls = tls::of_node(node).map_err(|error| error.to_string())?;
    let proxy_authorization = credentials.map(|encoded| format!("Basic {encoded}"));
    Ok(Access { token, tls: Arc::new(tls), proxy_authorization })
}

/// What a file says that a setting names, if it names one; nobody else may read it.
fn secret<T>(
    key: &str,
    path: Option<&Path>,
    read: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, String> {
    let Some(path) = path else { return Ok(None) };
    let said = tls::secret(path).and_then(|bytes| match String::from_utf8(bytes) {
        Ok(text) if !text.trim().is_empty() => read(text.trim()).map_err(ToOwned::to_owned),
        _ => Err("there is no text in it".to_owned()),
    });
    said.map(Some).map_err(|problem| format!("{key}: {}: {problem}", path.display()))
}
