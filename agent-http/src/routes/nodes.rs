//! Nodes: `GET /api/v1/nodes`, `GET` and `DELETE /api/v1/nodes/{name}`, `POST /api/v1/nodes/{name}/drain`, and `GET
//! /api/v1/nodes/connect`, by which they come.

use agent_config::Scope;
use agent_fleet::controller::DrainError;
use agent_fleet::websocket;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use task_runners::Problems;
use task_service::Problem;

use super::{Answered, Refused, Segment, page_by_name};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::json::Json;
use crate::query::Query;
use crate::right::Right;
use crate::server::Stopping;
use crate::{body, schema};

/// The version of WebSocket (RFC 6455).
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// Characters of a WebSocket's key, sixteen bytes in base64, before the two that fill it up.
const KEY_TEXT: usize = 22;

/// Nodes in a page unless the caller says otherwise, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;

/// List nodes
///
/// The nodes that have ever connected and were not forgotten, by name. Scope `admin`.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "nodes", operation_id = "list_nodes",
    security(("token" = ["admin"])),
    params(
        ("limit" = Option<u64>, Query, description = "Most nodes in the page, 1 to 1000; 100 when left out."),
        ("cursor" = Option<String>, Query, description = "`next` of the page before.")
    ),
    responses(
        (status = 200, description = "A page of nodes.", body = schema::NodePage),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller, uri: Uri) -> Answered {
    caller.require(Scope::Admin)?;
    let mut query = Query::of(&uri);
    let limit = query.number("limit", 1, MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let cursor = query.one("cursor");
    if cursor.as_deref() == Some("") {
        query.problem("cursor", "cursor", "`next` of the page before, as it was");
    }
    query.finish()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = state.fleet().nodes(cursor.as_deref(), limit + 1);
    let (nodes, next) = page_by_name(found, limit, |node| &node.name);
    Ok(Json(json!({ "nodes": nodes, "next": next })).into_response())
}

/// Show a node
///
/// Whether it is connected, and what it offers. Scope `admin`.
#[utoipa::path(
    get, path = "/api/v1/nodes/{name}", tag = "nodes", operation_id = "show_node",
    security(("token" = ["admin"])),
    params(("name" = String, Path, description = "The node's name.")),
    responses(
        (status = 200, description = "The node.", body = schema::Node),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn show(State(state): State<AppState>, caller: Caller, name: Segment, uri: Uri) -> Answered {
    caller.require(Scope::Admin)?;
    let node = name.text().and_then(|name| state.fleet().node(name));
    let node = node.ok_or_else(|| no_node(&name))?;
    Query::of(&uri).finish()?;
    Ok(Json(node).into_response())
}

/// Drain a node
///
/// It takes no new tasks from now on, also after a restart of this agent: those that it was handed go on, those that name it
/// wait, and other nodes of its pools take the rest. `{"enabled": false}` ends that. Scope `admin`.
#[utoipa::path(
    post, path = "/api/v1/nodes/{name}/drain", tag = "nodes", operation_id = "drain_node",
    security(("token" = ["admin"])),
    request_body = Option<schema::Drain>,
    params(("name" = String, Path, description = "The node's name.")),
    responses(
        (status = 202, description = "The node, which takes no new tasks, or takes them again.", body = schema::Node),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn drain(
    State(state): State<AppState>,
    caller: Caller,
    name: Segment,
    request: Request,
) -> Answered {
    let body = body::optional_json(request, state.body_limit()).await?;
    caller.require(Scope::Admin)?;
    if name.text().and_then(|name| state.fleet().node(name)).is_none() {
        return Err(no_node(&name));
    }
    let enabled = is_enabled(body)?;
    let node = state.fleet().drain(name.text().unwrap_or_default(), enabled).await?;
    Ok((StatusCode::ACCEPTED, Json(node)).into_response())
}

/// Forget a node
///
/// Its key, labels and scripts are not known any more, and whoever comes under its name is a new node. It must not be
/// connected, nor have tasks that have not ended. Its token is not changed by that. Scope `admin`.
#[utoipa::path(
    delete, path = "/api/v1/nodes/{name}", tag = "nodes", operation_id = "forget_node",
    security(("token" = ["admin"])),
    params(("name" = String, Path, description = "The node's name.")),
    responses(
        (status = 204, description = "It is forgotten."),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn forget(
    State(state): State<AppState>,
    caller: Caller,
    name: Segment,
    uri: Uri,
) -> Answered {
    caller.require(Scope::Admin)?;
    let known = name.text().filter(|name| state.fleet().node(name).is_some());
    let known = known.ok_or_else(|| no_node(&name))?;
    Query::of(&uri).finish()?;
    state.fleet().forget(known, state.service()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Whether the body asks for it, as none does.
fn is_enabled(body: Option<Value>) -> Result<bool, ApiError> {
    let mut fields = match body {
        None => return Ok(true),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            let expected = "no body, or a JSON object with `enabled`";
            return Err(ApiError::invalid(vec![Problem::new("body", "object", expected)]));
        }
    };
    let mut problems = Problems::default();
    let enabled = match fields.shift_remove("enabled") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(enabled)) => enabled,
        Some(_) => {
            problems.push(Problem::new("enabled", "boolean", "true or false"));
            true
        }
    };
    problems.extend(fields.keys().map(|name| {
        let expected = "left out: only `enabled` is taken";
        Problem::new(name.escape_debug().to_string(), "unknown_field", expected)
    }));
    if problems.is_empty() { Ok(enabled) } else { Err(ApiError::invalid(problems.into_vec())) }
}

fn no_node(name: &Segment) -> ApiError {
    DrainError::NoNode(name.text().unwrap_or_default().to_owned()).into()
}

/// Connect as a node
///
/// The WebSocket of the node of the token's name. Scope `node`.
#[utoipa::path(
    get, path = "/api/v1/nodes/connect", tag = "nodes", operation_id = "connect_node",
    security(("token" = ["node"])),
    responses(
        (status = 101, description = "The connection speaks WebSocket from now on."),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn connect(State(state): State<AppState>, caller: Caller, mut request: Request) -> Answered {
    caller.require(Scope::Node)?;
    // No node is a web page.
    if request.headers().contains_key(ORIGIN) {
        let detail = "nodes send no Origin; web pages cannot be nodes";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "origin_forbidden", detail));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (Some(key), Some(upgrade)) = (websocket_key(request.headers()), upgrade) else {
        let detail = "this is where nodes connect: send the headers of a WebSocket upgrade, version 13";
        let error = ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail);
        let error = error.with_header(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(error.with_header(SEC_WEBSOCKET_VERSION, VERSION));
    };
    let accept = HeaderValue::from_str(&websocket::accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| ApiError::internal())?;
    let stopping = request.extensions().get::<Stopping>().cloned().ok_or_else(ApiError::internal)?;
    drop(tokio::spawn(serve(state, caller, upgrade, stopping)));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Serves a node until its line is cut, its token is taken away or expires, or the service stops.
async fn serve(state: AppState, caller: Caller, upgrade: OnUpgrade, Stopping(stopping): Stopping) {
    let name = caller.name();
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(node = name, %error, "a node's connection was gone"),
    };
    let (sender, receiver) = websocket::accepted(TokioIo::new(upgraded)).await;
    tokio::select! {
        why = state.fleet().serve(name, sender, receiver) => {
            tracing::info!(node = name, why, "a node's connection has ended");
        }
        () = Right::of(&state, &caller, Scope::Node).cut() => {
            tracing::warn!(node = name, "a node's connection was cut: its token is not accepted any more");
        }
        () = stopping.cancelled() => {}
    }
}

/// The key of a WebSocket upgrade (RFC 6455, section 4.2.1), if the headers are those of one.
fn websocket_key(headers: &HeaderMap) -> Option<&HeaderValue> {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    let is_upgrade = has(CONNECTION, "upgrade") && has(UPGRADE, "websocket");
    let is_known = headers.get(SEC_WEBSOCKET_VERSION) == Some(&VERSION);
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_sound = |key: &&HeaderValue| {
        let text = key.as_bytes().strip_suffix(b"==");
        text.is_some_and(|text| text.len() == KEY_TEXT && text.iter().all(is_base64))
    };
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade && is_known).filter(is_sound)
}
