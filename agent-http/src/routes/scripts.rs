//! Scripts: `GET /api/v1/scripts`, `GET /api/v1/scripts/{name}`, `POST /api/v1/scripts/{name}/run`.
//!
//! `{name}` is one percent-encoded segment; a GET may write its slashes plainly.

use agent_config::Scope;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use task_runners::{ScriptName, Scripts};
use task_service::Refusal;

use super::wait::Wait;
use super::{Answered, Refused, Segment, tasks};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::{body, schema};

/// List scripts
///
/// Those that the token sees, and what stands behind them. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/scripts", tag = "scripts", operation_id = "list_scripts",
    responses(
        (status = 200, description = "The scripts, by name.", body = schema::ScriptPage),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    Query::of(&uri).finish()?;
    let (mut entries, mut status) = look(&state, &caller, |scripts| {
        let entries = match scripts.list() {
            // Then there are none that could be run; the status says why.
            Err(Refusal::Unverified { .. }) => Vec::new(),
            entries => entries?,
        };
        Ok((entries, scripts.status()))
    })
    .await?;
    entries.retain(|entry| caller.sees(&entry.name));
    status.problems = caller.seen_problems(&status.problems);
    Ok(Json(json!({ "scripts": entries, "next": null, "verification": status })).into_response())
}

/// Show a script
///
/// The name is percent-encoded, or has plain slashes. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/scripts/{name}", tag = "scripts", operation_id = "show_script",
    params(("name" = String, Path, description = "The script's name.")),
    responses(
        (status = 200, description = "The script.", body = schema::Script),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn show(State(state): State<AppState>, caller: Caller, name: Segment, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    let name = visible(&caller, &name)?;
    Query::of(&uri).finish()?;
    let wanted = name.clone();
    let entry = look(&state, &caller, move |scripts| scripts.get(&wanted)).await?;
    let entry = entry.ok_or_else(|| Refusal::NotFound { name: name.to_string() })?;
    Ok(Json(entry).into_response())
}

/// Run a script
///
/// Accepts a task as `POST /api/v1/tasks` does; the body is a task spec without `name`, and may be left out. Scope `run`.
#[utoipa::path(
    post, path = "/api/v1/scripts/{name}/run", tag = "scripts", operation_id = "run_script", request_body = Option<schema::RunSpec>,
    params(
        ("name" = String, Path, description = "The script's name, percent-encoded."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: how long to wait for the end, 0 to 300 s.")
    ),
    responses(
        (status = 202, description = "Accepted; `Location` names the task.", body = schema::Task),
        (status = 200, description = "It has ended within the wait, or exists under this id already.", body = schema::Task),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn run(
    State(state): State<AppState>,
    caller: Caller,
    name: Segment,
    request: Request,
) -> Answered {
    let wait = Wait::preferred(request.headers());
    let spec = body::optional_json(request, state.body_limit()).await?.unwrap_or_else(|| Map::new().into());
    caller.require(Scope::Run)?;
    let named_in_path = visible(&caller, &name).ok();
    caller.permits(&spec, &tasks::open_variables(&state, named_in_path, &spec).await)?;
    let name = visible(&caller, &name)?;
    // A runner's name has the form of a script's, and would win over it.
    if state.service().runners().get(name.as_str()).is_some() {
        return Err(Refusal::NotFound { name: name.to_string() }.into());
    }
    tasks::accept(&state, &caller, named(spec, &name)?, wait).await
}

/// The spec with the name from the path.
fn named(spec: Value, name: &ScriptName) -> Result<Value, ApiError> {
    match spec {
        Value::Object(fields) if fields.contains_key("name") => {
            let expected = "left out: the path names the script";
            Err(Refusal::invalid("name", "unknown_field", expected).into())
        }
        Value::Object(mut fields) => {
            fields.insert("name".to_owned(), name.as_str().into());
            Ok(fields.into())
        }
        // What is no object is refused as a spec, with the words for that.
        other => Ok(other),
    }
}

fn visible(caller: &Caller, name: &Segment) -> Result<ScriptName, ApiError> {
    let name: ScriptName = name.parsed()?;
    if caller.sees(name.as_str()) {
        Ok(name)
    } else {
        Err(Refusal::NotFound { name: name.to_string() }.into())
    }
}

/// Looks into the scripts folder on a thread that may wait for the disk.
async fn look<T: Send + 'static>(
    state: &AppState,
    caller: &Caller,
    look: impl FnOnce(&Scripts) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, ApiError> {
    let scripts = state.scripts().clone();
    match tokio::task::spawn_blocking(move || look(&scripts)).await {
        Ok(found) => found.map_err(|refusal| ApiError::refused(refusal, caller)),
        Err(error) => {
            tracing::error!(%error, "the scripts folder could not be looked at");
            Err(ApiError::internal())
        }
    }
}
