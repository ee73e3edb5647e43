//! For those who watch the service: `GET /healthz`, `GET /readyz`. Neither needs a token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Refused};
use crate::app::AppState;
use crate::error::ApiError;
use crate::json::Json;

/// That the service is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `alive`.
    status: &'static str,
}

/// That the service takes tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`.
    status: &'static str,
    /// What is wrong with the scripts folder meanwhile, counted.
    problems: usize,
    /// Whether changes of the folder are seen by themselves, and not only when somebody asks.
    watched: bool,
    /// There in the last two weeks of the service's certificate.
    #[schema(nullable = false, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_expires: Option<String>,
}

/// Whether the service is alive
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "alive", security(()),
    responses((status = 200, description = "It is.", body = Alive))
)]
pub(crate) async fn alive() -> impl IntoResponse {
    Json(Alive { status: "alive" })
}

/// Whether the service takes tasks
///
/// It does not while it is stopping, and while its scripts folder does not verify and no verified copy is in use. What is
/// wrong with the folder is only counted here: `GET /api/v1/scripts` names it to those who may know, and so does the log.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "ready", security(()),
    responses(
        (status = 200, description = "It does.", body = Ready),
        (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn ready(State(state): State<AppState>) -> Answered {
    if state.is_draining() {
        return Err(ApiError::draining());
    }
    let status = state.scripts().status();
    if status.verification && status.manifest.is_none() {
        return Err(ApiError::unverified(status.problems.len(), StatusCode::SERVICE_UNAVAILABLE));
    }
    let expires = state.tls().and_then(|tls| tls.expires_soon());
    let ready = Ready {
        status: "ready",
        problems: status.problems.len(),
        watched: status.unwatched.is_none(),
        certificate_expires: expires.map(|expires| expires.to_string()),
    };
    Ok(Json(ready).into_response())
}
