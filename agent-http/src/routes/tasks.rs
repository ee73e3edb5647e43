//! Tasks: `POST /api/v1/tasks`, `GET /api/v1/tasks`, `GET /api/v1/tasks/{id}`, `POST /api/v1/tasks/{id}/cancel`.

use std::str::FromStr;
use std::sync::Arc;

use agent_config::Scope;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use task_runners::{ScriptName, Target};
use task_service::{
    Cursor, Refusal, SubmitError, Submitted, Task, TaskFilter, TaskId, TaskSpec, TaskStatus, Visible,
};

use super::wait::{self, Wait};
use super::{Answered, Refused, Segment, Unchanged, no_task, quota, visible_task};
use crate::app::AppState;
use crate::audit::Decision;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::etag::Tagged;
use crate::json::Json;
use crate::query::Query;
use crate::right::Right;
use crate::{body, schema};

/// Tasks in a page unless the caller says otherwise, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;

/// Accept a task
///
/// The task is on disk once this answers. `Prefer: wait=N` (0 to 300 seconds) answers when the task has ended, or when that
/// time is over. Scope `run`.
#[utoipa::path(
    post, path = "/api/v1/tasks", tag = "tasks", operation_id = "submit_task",
    security(("token" = ["run"])), request_body = schema::TaskSpec,
    params(("Prefer" = Option<String>, Header, description = "`wait=N`: how long to wait for the end, 0 to 300 s.")),
    responses(
        (status = 202, description = "Accepted; `Location` names the task.", body = schema::Task),
        (status = 200, description = "It has ended within the wait, or exists under this id already.", body = schema::Task),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn submit(State(state): State<AppState>, caller: Caller, request: Request) -> Answered {
    let wait = Wait::preferred(request.headers());
    let spec = body::json(request, state.body_limit()).await?;
    caller.require(Scope::Run)?;
    let named = caller.visible_script(&spec);
    caller.permits(&spec, &open_variables(&state, named, &spec).await)?;
    caller.sees_what_is_named(&spec)?;
    accept(&state, &caller, spec, wait).await
}

/// Accepts what a caller may ask for: the spec itself is read, then the task service says whether it can be run now. Both
/// ways to submit share this, and have checked scope, rights and what the token sees, in this order.
pub(super) async fn accept(state: &AppState, caller: &Caller, spec: Value, wait: Option<Wait>) -> Answered {
    let spec = TaskSpec::from_json(spec).map_err(Refusal::Invalid)?;
    // A spec that names no id cannot meet another task's.
    let again = spec.id.is_some().then(|| spec.clone());
    let Submitted { mut task, created } = match (quota::submit(state, caller, spec).await?, again) {
        (Ok(submitted), _) => submitted,
        (Err(SubmitError::Conflict { id }), Some(spec)) => {
            return Err(conflict(state, caller, spec, id).await);
        }
        (Err(SubmitError::Refused(refusal)), _) => return Err(ApiError::refused(refusal, caller)),
        (Err(error), _) => return Err(error.into()),
    };
    // Now, and not when somebody has waited for its end.
    if created {
        // Here the request's id and the task's meet; whatever is said of the task later has the latter.
        tracing::info!(task_id = %task.id, name = task.name, "accepted");
    }
    let status = Some(if created { StatusCode::ACCEPTED } else { StatusCode::OK });
    let decision = Decision { status, code: None, task: Some((task.id.as_str(), &task.name)) };
    state.audit().tell(caller.asked(), decision).await;
    let mut applied = None;
    if let Some(wait) = wait {
        let right = Right::to(state, caller, Scope::Run, &task);
        // Where the right is lost meanwhile the task stays accepted, and what becomes of it is not for this caller. Where
        // the caller has hung up nobody waits any more.
        let ended = tokio::select! {
            ended = right.during(wait.for_end_of(state, &task.id)) => ended.ok(),
            () = caller.asked().caller_left() => None,
        };
        if let Some(ended) = ended {
            // A task that is gone again has been removed with old history, and the answer is what it was.
            task = ended?.unwrap_or(task);
            applied = Some(wait);
        }
    }
    let is_done = !created || task.status.is_terminal();
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = [(LOCATION, format!("/api/v1/tasks/{}", task.id))];
    let mut response = (status, location, Json(task)).into_response();
    if let Some(wait) = applied {
        wait.applied(&mut response);
    }
    Ok(response)
}

/// The variables that a script which the token sees lets callers set, where the spec sets any: the script of this agent, or
/// of the nodes that the spec has as its target.
pub(super) async fn open_variables(state: &AppState, name: Option<ScriptName>, spec: &Value) -> Vec<String> {
    let sets_any = spec["env"].as_object().is_some_and(|env| !env.is_empty());
    let Some(name) = name.filter(|_| sets_any) else { return Vec::new() };
    if !spec["target"].is_null() {
        // What is no target is refused later.
        let target = serde_json::from_value::<Target>(spec["target"].clone());
        return target
            .map_or_else(|_| Vec::new(), |target| state.fleet().open_variables(&target, name.as_str()));
    }
    let scripts = state.scripts().clone();
    let found = tokio::task::spawn_blocking(move || scripts.get(&name).ok().flatten()?.declared).await;
    found.ok().flatten().map(|declared| declared.env.clone()).unwrap_or_default()
}

/// Why a spec is not accepted whose id another task has. What would be refused under any id is refused as that, so that a
/// spec which starts nothing tells nothing about ids; and a task that the token does not see is not spoken of.
async fn conflict(state: &AppState, caller: &Caller, spec: TaskSpec, id: TaskId) -> ApiError {
    if let Err(refusal) = check(state, spec).await {
        return ApiError::refused(refusal, caller);
    }
    match state.service().task(&id).await {
        Ok(Some(task)) if caller.sees_task(&task) => SubmitError::Conflict { id }.into(),
        // A record of a task that the history does not know.
        Ok(None) if caller.is_admin() => SubmitError::Conflict { id }.into(),
        Ok(_) => ApiError::not_found(format!(
            "the id '{id}' is for no task that this token sees, nor for a new one; leave it out or choose another"
        )),
        Err(error) => error.into(),
    }
}

/// What the runner says about a spec.
pub(super) async fn check(state: &AppState, spec: TaskSpec) -> Result<(), Refusal> {
    let runner = state.service().runners().for_spec(&spec)?.clone();
    let checked = tokio::task::spawn_blocking(move || runner.check(&spec).map(|_| ())).await;
    checked.unwrap_or_else(|error| Err(Refusal::Unavailable(error.to_string())))
}

/// List tasks
///
/// Newest first, those of the scripts that the token sees. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks", operation_id = "list_tasks",
    security(("token" = ["read"])),
    params(
        ("status" = Option<Vec<schema::Status>>, Query, description = "In one of these states; repeated, or with commas."),
        ("name" = Option<String>, Query, description = "Of exactly this script or runner."),
        ("label" = Option<Vec<String>>, Query, description = "With this label, as `team=web`; repeated, all must be there."),
        ("node" = Option<String>, Query, description = "Of this node."),
        ("since" = Option<String>, Query, description = "Accepted at this time (RFC 3339) or later."),
        ("q" = Option<String>, Query, description = "With all these words, the last of which may be the beginning of one: in its name, id, labels, parameters and arguments, who asked for it, and what went wrong."),
        ("limit" = Option<u64>, Query, description = "Most tasks in the page, 1 to 1000; 100 when left out."),
        ("cursor" = Option<String>, Query, description = "`next` of the page before.")
    ),
    responses(
        (status = 200, description = "A page of tasks.", body = schema::TaskPage),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    let mut query = Query::of(&uri);
    let mut filter = filter(&mut query);
    let limit = query.number("limit", 1, MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let cursor: Option<Cursor> = query.parsed("cursor", "cursor", "`next` of the page before, as it was");
    query.finish()?;
    filter.visible = visible_to(&caller);
    let page = state.service().list(filter, usize::try_from(limit).unwrap_or(usize::MAX), cursor).await?;
    let next = page.next.map(|cursor| cursor.to_string());
    Ok(Tagged(json!({ "tasks": page.tasks, "next": next })).into_response())
}

/// What a list is to leave out: nothing for an admin.
pub(super) fn visible_to(caller: &Caller) -> Option<Visible> {
    if caller.is_admin() {
        return None;
    }
    let caller = caller.clone();
    Some(Arc::new(move |spec| caller.sees_task_of(spec)))
}

pub(super) fn filter(query: &mut Query) -> TaskFilter {
    let (name, node) = (query.one("name"), query.one("node"));
    let mut filter = TaskFilter { name, node, ..TaskFilter::default() };
    for text in query.all("status").iter().flat_map(|text| text.split(',')) {
        match TaskStatus::from_str(text) {
            Ok(status) => filter.statuses.push(status),
            Err(_) => query.problem("status", "choice", choices()),
        }
    }
    filter.labels = query.labels();
    filter.search = query.parsed("q", "words", "1 to 16 words of letters or digits, which a task has all of");
    filter.since = query.parsed("since", "time", "a time as in RFC 3339, such as 2030-01-31T12:00:00Z");
    filter
}

fn choices() -> String {
    format!("one of {}", TaskStatus::ALL.map(TaskStatus::as_str).join(", "))
}

/// Show a task
///
/// With `wait=N`, or `Prefer: wait=N`, it answers when the task has ended, or when that time is over. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "show_task",
    security(("token" = ["read"])),
    params(
        ("id" = String, Path, description = "The task's id."),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for its end, 0 to 300.")
    ),
    responses(
        (status = 200, description = "The task as it stands.", body = schema::Task),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    parts: Parts,
) -> Answered {
    caller.require(Scope::Read)?;
    let mut query = Query::of(&parts.uri);
    let asked = query.number("wait", 0, wait::MAX_SECONDS).map(Wait::seconds);
    let mut task = visible_task(&state, &caller, &id).await?;
    query.finish()?;
    let preferred = Wait::preferred(&parts.headers);
    if let Some(wait) = asked.or(preferred) {
        let right = Right::to(&state, &caller, Scope::Read, &task);
        task = right.during(wait.for_end_of(&state, &task.id)).await??.ok_or_else(|| no_task(&task.id))?;
    }
    let mut response = Tagged(task).into_response();
    if let (None, Some(wait)) = (asked, preferred) {
        wait.applied(&mut response);
    }
    Ok(response)
}

/// Cancel a task
///
/// One that waits is cancelled at once; one that runs is asked to end and given its grace period. Asked again, it is killed
/// at once. Scope `cancel`.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    security(("token" = ["cancel"])),
    params(("id" = String, Path, description = "The task's id.")),
    responses(
        (status = 202, description = "It was asked to end.", body = schema::Task),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    request: Request,
) -> Answered {
    let task = task_to_end(&state, &caller, &id, request).await?;
    let task = state.service().cancel(&task.id).await?;
    Ok((StatusCode::ACCEPTED, Json(task)).into_response())
}

/// The task that a caller who may end it wants to end, by a request that says nothing else.
pub(super) async fn task_to_end(
    state: &AppState,
    caller: &Caller,
    id: &Segment,
    request: Request,
) -> Result<Task, ApiError> {
    let body = body::optional_json(request, state.body_limit()).await?;
    caller.require(Scope::Cancel)?;
    let task = visible_task(state, caller, id).await?;
    body::asks_nothing(body.as_ref())?;
    Ok(task)
}
