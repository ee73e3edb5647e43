//! Measurements for Prometheus: `GET /metrics`.

use agent_config::Scope;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::{Answered, Refused};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::metrics::Now;
use crate::server::Connections;

/// Media type of the text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Measurements
///
/// In the text format of Prometheus; `docs/metrics.md` lists them. Scope `read`, unless `http.public_metrics` is set.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "metrics",
    security(("token" = ["read"])),
    responses(
        (status = 200, description = "The measurements.", body = String, content_type = "text/plain"),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn metrics(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    connections: Option<Extension<Connections>>,
) -> Answered {
    if !state.has_public_metrics() {
        caller?.require(Scope::Read)?;
    }
    let now = Now {
        service: state.service().stats(),
        fleet: state.fleet().stats(),
        awaited: state.service().awaited().values().sum(),
        scripts: &state.scripts().status(),
        certificate_expires: state.tls().map(|tls| tls.expires()),
        connections: connections.map(|Extension(connections)| connections.count()),
        node: state.node().map(|node| node.now()),
    };
    let text = state.metrics().render(&now);
    Ok(([(CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response())
}
