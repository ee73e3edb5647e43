//! What is done to tasks that are there: `POST /api/v1/tasks/{id}/rerun`, `POST /api/v1/tasks/{id}/abandon`, `POST
//! /api/v1/tasks:cancel`.

use std::collections::BTreeSet;

use agent_config::Scope;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use task_runners::Problems;
use task_service::{CancelError, Cursor, Problem, TaskFilter, TaskId, TaskStatus};
use utoipa::ToSchema;

use super::wait::Wait;
use super::{Answered, Refused, Segment, tasks, visible_task};
use crate::app::AppState;
use crate::audit::Decision;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::json::Json;
use crate::query::Query;
use crate::{body, schema};

/// Tasks that are looked at at once when many are cancelled.
const PAGE: usize = 100;
/// Time in which the end of a task that was given up is told by the answer.
const TOLD_WITHIN_S: u64 = 5;
/// Most tasks that one request cancels: more than wait at most by default.
const MOST_CANCELLED: usize = 20_000;

/// The tasks that were asked to end.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CancelledTasks {
    /// Their ids.
    #[schema(value_type = Vec<String>)]
    cancelled: BTreeSet<TaskId>,
    /// Those that could not be asked just now, because what became of them cannot be read or written; the log says why.
    #[schema(value_type = Vec<String>)]
    failed: BTreeSet<TaskId>,
    /// Whether there are more, because one request cancels 20,000 at most.
    more: bool,
}

/// Run a task again
///
/// Accepts a new task with the spec of this one, as it was given, under an id of its own. What is destructive is confirmed again:
/// `{"confirm": "<the script's name>"}`. Scope `run`.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/rerun", tag = "tasks", operation_id = "rerun_task",
    security(("token" = ["run"])),
    request_body = Option<schema::Rerun>,
    params(
        ("id" = String, Path, description = "The task's id."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: how long to wait for the end, 0 to 300 s.")
    ),
    responses(
        (status = 202, description = "Accepted; `Location` names the new task.", body = schema::Task),
        (status = 200, description = "It has ended within the wait.", body = schema::Task),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn rerun(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    request: Request,
) -> Answered {
    let wait = Wait::preferred(request.headers());
    let body = body::optional_json(request, state.body_limit()).await?;
    caller.require(Scope::Run)?;
    let task = visible_task(&state, &caller, &id).await?;
    let mut spec = serde_json::to_value(&*task.spec).map_err(ApiError::unavailable)?;
    let named = caller.visible_script(&spec);
    caller.permits(&spec, &tasks::open_variables(&state, named, &spec).await)?;
    let confirm = confirmed(body)?;
    if let Value::Object(fields) = &mut spec {
        // Ids are used once, and what was confirmed was the run before.
        fields.shift_remove("id");
        fields.shift_remove("confirm");
        fields.extend(confirm.map(|confirm| ("confirm".to_owned(), confirm)));
    }
    tasks::accept(&state, &caller, spec, wait).await
}

/// What the body confirms.
fn confirmed(body: Option<Value>) -> Result<Option<Value>, ApiError> {
    let mut fields = match body {
        None => return Ok(None),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            let expected = "no body, or a JSON object with `confirm`";
            return Err(ApiError::invalid(vec![Problem::new("body", "object", expected)]));
        }
    };
    let confirm = fields.shift_remove("confirm");
    let mut problems = Problems::default();
    problems.extend(fields.keys().map(|name| {
        let expected = "left out: a task is run again as it was asked for; only `confirm` is taken";
        Problem::new(name.escape_debug().to_string(), "unknown_field", expected)
    }));
    if problems.is_empty() { Ok(confirm) } else { Err(ApiError::invalid(problems.into_vec())) }
}

/// Give a task up
///
/// For tasks of nodes that stay away: it ends as `lost`. What comes of it after all is kept as its `late_result` and in its
/// log, and its node is to end it as soon as it is back. A task of this agent, or one that waits, is cancelled instead, which
/// ends it for certain. Scope `cancel`.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/abandon", tag = "tasks", operation_id = "abandon_task",
    security(("token" = ["cancel"])),
    params(("id" = String, Path, description = "The task's id.")),
    responses(
        (status = 202, description = "It was given up.", body = schema::Task),
        (status = 409, description = "It has ended, waits, or is a task of this agent.", body = schema::ProblemDetails, content_type = "application/problem+json"),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn abandon(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    request: Request,
) -> Answered {
    let task = tasks::task_to_end(&state, &caller, &id, request).await?;
    if task.status.is_terminal() {
        return Err(CancelError::AlreadyEnded(task.status).into());
    }
    let on_a_node = task.node.as_deref().filter(|_| task.status == TaskStatus::Running);
    let Some(node) = on_a_node else {
        let why = if task.spec.target.is_some() {
            "waits, and on no node"
        } else {
            "is this agent's own, and not out of reach"
        };
        let detail = format!("the task '{}' {why}; cancel it instead", task.id);
        return Err(ApiError::new(StatusCode::CONFLICT, "not_on_a_node", detail));
    };
    state.fleet().abandon(node, &task.id, caller.name()).await?;
    let ended = Wait::seconds(TOLD_WITHIN_S).for_end_of(&state, &task.id).await?;
    Ok((StatusCode::ACCEPTED, Json(ended.unwrap_or(task))).into_response())
}

/// Cancel many tasks
///
/// All tasks that have not ended and match the filters, of which there must be one at least; those that wait first, so that
/// none of them starts meanwhile. Scope `cancel`.
#[utoipa::path(
    post, path = "/api/v1/tasks:cancel", tag = "tasks", operation_id = "cancel_tasks",
    security(("token" = ["cancel"])),
    params(
        ("status" = Option<Vec<schema::Status>>, Query, description = "`queued` or `running`; both when left out."),
        ("name" = Option<String>, Query, description = "Of exactly this script or runner."),
        ("label" = Option<Vec<String>>, Query, description = "With this label, as `team=web`; repeated, all must be there."),
        ("node" = Option<String>, Query, description = "Of this node."),
        ("since" = Option<String>, Query, description = "Accepted at this time (RFC 3339) or later."),
        ("q" = Option<String>, Query, description = "With all these words, as in the list of tasks.")
    ),
    responses(
        (status = 202, description = "They were asked to end.", body = CancelledTasks),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn cancel_many(State(state): State<AppState>, caller: Caller, request: Request) -> Answered {
    let uri = request.uri().clone();
    let body = body::optional_json(request, state.body_limit()).await?;
    caller.require(Scope::Cancel)?;
    let mut query = Query::of(&uri);
    let filter = tasks::filter(&mut query);
    let is_any = filter.statuses.is_empty() && filter.labels.is_empty();
    let is_anybodys = filter.name.is_none() && filter.node.is_none() && filter.search.is_none();
    if is_any && is_anybodys && filter.since.is_none() {
        query.problem("status", "required", "one filter at least; `status=queued,running` for all tasks");
    }
    if filter.statuses.iter().any(|status| status.is_terminal()) {
        query.problem("status", "choice", "`queued` or `running`: other tasks have ended");
    }
    query.finish()?;
    body::asks_nothing(body.as_ref())?;
    let mut tasks = CancelledTasks::default();
    for status in [TaskStatus::Queued, TaskStatus::Running] {
        if filter.statuses.is_empty() || filter.statuses.contains(&status) {
            let one = TaskFilter { statuses: vec![status], ..filter.clone() };
            tasks.more |= cancel_all(&state, &caller, one, &mut tasks).await?;
        }
    }
    Ok((StatusCode::ACCEPTED, Json(tasks)).into_response())
}

/// Cancels all tasks of a filter that the caller sees, page by page. Says whether some are left.
async fn cancel_all(
    state: &AppState,
    caller: &Caller,
    mut filter: TaskFilter,
    tasks: &mut CancelledTasks,
) -> Result<bool, ApiError> {
    let service = state.service();
    filter.visible = tasks::visible_to(caller);
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = service.list(filter.clone(), PAGE, cursor).await?;
        for task in page.tasks {
            if tasks.cancelled.len() >= MOST_CANCELLED {
                return Ok(true);
            }
            // One that was asked while it waited may run by now: asked again it would be killed.
            if tasks.cancelled.contains(&task.id) {
                continue;
            }
            match service.cancel(&task.id).await {
                Ok(task) => {
                    let status = Some(StatusCode::ACCEPTED);
                    let decision =
                        Decision { status, code: None, task: Some((task.id.as_str(), &task.name)) };
                    state.audit().tell_also(caller.asked(), decision).await;
                    tasks.cancelled.insert(task.id);
                }
                // It has ended by itself meanwhile, or was removed.
                Err(CancelError::AlreadyEnded(_) | CancelError::NotFound(_)) => {}
                // One that cannot be asked keeps none of the others.
                Err(error) => {
                    tracing::warn!(task_id = %task.id, %error, "one of many tasks was not cancelled");
                    tasks.failed.insert(task.id);
                }
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(false);
        }
    }
}
