//! The registry: `GET /api/v1/runners`.

use agent_config::Scope;
use axum::extract::State;
use axum::http::Uri;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{Answered, Refused, Unchanged};
use crate::app::AppState;
use crate::auth::Caller;
use crate::etag::Tagged;
use crate::query::Query;
use crate::schema;

/// List runners
///
/// The ways to do a task that a spec may name, beside scripts. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/runners", tag = "scripts", operation_id = "list_runners",
    security(("token" = ["read"])),
    responses(
        (status = 200, description = "The runners, by name.", body = schema::RunnerList),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    Query::of(&uri).finish()?;
    let runners: Vec<Value> = state
        .service()
        .runners()
        .list()
        .map(|runner| json!({ "name": runner.name(), "description": runner.description() }))
        .collect();
    Ok(Tagged(json!({ "runners": runners })).into_response())
}
