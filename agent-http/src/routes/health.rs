//! For those who watch the service: `GET /healthz`, `GET /readyz`. Neither needs a token.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::{Answered, Refused};
use crate::app::AppState;
use crate::error::ApiError;
use crate::json::Json;

/// Whether the service is alive
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "alive", security(()),
    responses((status = 200, description = "It is."))
)]
pub(crate) async fn alive() -> impl IntoResponse {
    Json(json!({ "status": "alive" }))
}

/// Whether the service takes tasks
///
/// It does not while it is stopping, and while its scripts folder does not verify and no verified copy is in use. What is
/// wrong with the folder is only counted here: `GET /api/v1/scripts` names it to those who may know, and so does the log.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "ready", security(()),
    responses(
        (status = 200, description = "It does. `problems` counts what is wrong with the scripts folder meanwhile; \
            `watched` is false where changes of it are seen only when somebody asks."),
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
    let (problems, watched) = (status.problems.len(), status.unwatched.is_none());
    Ok(Json(json!({ "status": "ready", "problems": problems, "watched": watched })).into_response())
}
