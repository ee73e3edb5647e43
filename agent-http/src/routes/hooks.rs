//! Hooks: `POST /hooks/{name}`. No token opens it; a signature does, and whoever signs is told what became of the request and
//! nothing of the inside.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use task_service::{Refusal, SubmitError, Submitted, Task, TaskSpec};

use super::{Answered, Refused, Segment};
use crate::app::AppState;
use crate::audit::{Asked, Decision};
use crate::body::Unproven;
use crate::error::ApiError;
use crate::hooks::{Delivery, Hook, Hooks, Payload};
use crate::json::Json;
use crate::server::Place;
use crate::{body, schema};

/// Where they are.
const PREFIX: &str = "/hooks/";
/// What a signature may ask to come back for, in the place of the token of other routes.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Signature realm=\"devops-agent\"");
/// The code in the audit log of a request that is signed and starts nothing, and what measurements call outcomes.
const IGNORED: &str = "ignored";
const ACCEPTED: &str = "accepted";
const REPEATED: &str = "repeated";

/// What became of a request.
enum Outcome {
    Accepted(Box<Task>),
    /// A delivery that was accepted before.
    Repeated(Box<Task>),
    Ignored(String),
}

/// Whether a request is one that no token is asked of: to exactly one segment below the prefix.
pub(crate) fn needs_no_token(request: &Request) -> bool {
    let name = request.uri().path().strip_prefix(PREFIX);
    request.method() == Method::POST && name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// Deliver to a hook
///
/// Starts the script of the hook, where the request is signed as the hook's scheme has it. A delivery that is sent again
/// answers the task that exists. The form in which GitHub may send, `payload=`, is taken too.
#[utoipa::path(
    post, path = "/hooks/{name}", tag = "hooks", operation_id = "deliver_to_hook",
    security(("github" = []), ("gitlab" = []), ("standard" = [])),
    request_body(content = Value, content_type = "application/json", description = "Whatever the sender sends, signed."),
    params(("name" = String, Path, description = "The hook's name.")),
    responses(
        (status = 202, description = "Accepted; `Location` names the task, for those who have a token.", body = schema::HookTask),
        (status = 200, description = "The task of a delivery that was accepted before; or nothing, where the hook ignores the event.", body = schema::HookAnswer),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn deliver(State(state): State<AppState>, name: Segment, request: Request) -> Answered {
    let hooks = state.hooks();
    let outcome = received(&state, &hooks, &name, request).await;
    let word = match &outcome {
        Ok(Outcome::Accepted(_)) => ACCEPTED,
        Ok(Outcome::Repeated(_)) => REPEATED,
        Ok(Outcome::Ignored(_)) => IGNORED,
        Err(error) => error.code(),
    };
    state.metrics().hook_asked(name.text().filter(|name| hooks.has(name)), word);
    outcome.map(Outcome::into_response)
}

/// Takes a request in the order that the design has: nothing of its content is looked at before its signature.
async fn received(
    state: &AppState,
    hooks: &Arc<Hooks>,
    name: &Segment,
    request: Request,
) -> Result<Outcome, ApiError> {
    let asked = request.extensions().get::<Arc<Asked>>().cloned().ok_or_else(ApiError::internal)?;
    let place = request.extensions().get::<Place>().cloned();
    let sent = body::unproven(request, state.body_limit(), state.unproven()).await?;
    let (hook, Unproven { headers, bytes, .. }) = signed(hooks, name, sent).await?;
    asked.came_with(hook.caller());
    let delivery = Delivery::of(hook.scheme(), &headers, Timestamp::now());
    if !delivery.is_fresh {
        return Err(stale());
    }
    asked.let_in();
    // There is none where another server is in front of the routes.
    place.iter().for_each(Place::for_somebody);
    hook.take_call().map_err(|wait| ApiError::rate_limited(&format!("the hook '{}'", hook.name()), wait))?;
    let payload = Payload::read(hook.scheme(), &headers, &bytes)?;
    if let Some(why) = hook.ignores(&payload, &delivery) {
        let decision = Decision { status: Some(StatusCode::OK), code: Some(IGNORED), task: None };
        state.audit().tell(&asked, decision).await;
        return Ok(Outcome::Ignored(why));
    }
    submit(state, &asked, &hook, hook.spec(&payload, &delivery)).await
}

/// The hook that a request is signed for. That reads all of it, twice, on a thread that may take its time.
async fn signed(
    hooks: &Arc<Hooks>,
    name: &Segment,
    sent: Unproven,
) -> Result<(Arc<Hook>, Unproven), ApiError> {
    let (hooks, name) = (hooks.clone(), name.text().map(str::to_owned));
    let looked = tokio::task::spawn_blocking(move || {
        let hook = hooks.signed_for(name.as_deref(), &sent.headers, &sent.bytes);
        hook.map(|hook| (hook, sent))
    });
    looked.await.map_err(ApiError::unavailable)?.ok_or_else(unsigned)
}

/// Submits what a request asks for, as any task is.
async fn submit(state: &AppState, asked: &Asked, hook: &Hook, spec: Value) -> Result<Outcome, ApiError> {
    let spec =
        TaskSpec::from_json(spec).map_err(Refusal::Invalid).map_err(|refusal| refused(hook, refusal))?;
    // A runner's name has the form of a script's, and would win over it.
    if state.service().runners().get(&spec.name).is_some() {
        return Err(refused(hook, Refusal::NotFound { name: spec.name }));
    }
    let submitted = state.service().submit(spec, hook.caller()).await;
    let Submitted { task, created } = submitted.map_err(|error| not_accepted(hook, error))?;
    if created {
        tracing::info!(task_id = %task.id, name = task.name, hook = hook.name(), "accepted");
    }
    let status = Some(if created { StatusCode::ACCEPTED } else { StatusCode::OK });
    let decision = Decision { status, code: None, task: Some((task.id.as_str(), &task.name)) };
    state.audit().tell(asked, decision).await;
    let task = Box::new(task);
    Ok(if created { Outcome::Accepted(task) } else { Outcome::Repeated(task) })
}

/// Why a task was not accepted, as far as the sender may know.
fn not_accepted(hook: &Hook, error: SubmitError) -> ApiError {
    let code = error.code();
    match error {
        SubmitError::Refused(refusal) => refused(hook, refusal),
        SubmitError::Conflict { .. } => {
            let detail = "this delivery was accepted before, with other values: either its sender has changed it, or the hook \
                was set up otherwise since. It is not started again";
            ApiError::new(StatusCode::CONFLICT, code, detail)
        }
        SubmitError::Full { .. } | SubmitError::ScriptFull { .. } | SubmitError::SecretsFull { .. } => {
            let detail = "as many tasks wait as may; send it again later";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, detail).later()
        }
        SubmitError::Busy { .. } | SubmitError::Draining | SubmitError::Unavailable(_) => error.into(),
    }
}

/// A spec that was refused: what the request brought is told, what only somebody of this agent can mend is for its log.
fn refused(hook: &Hook, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Invalid(_) | Refusal::Unavailable(_) => refusal.into(),
        Refusal::Unverified { .. }
        | Refusal::NotFound { .. }
        | Refusal::NoNode { .. }
        | Refusal::Broken { .. } => {
            tracing::warn!(hook = hook.name(), reason = %refusal, "a hook cannot run its script");
            let detail = "the hook cannot run its script now; the agent's log shows why. Send it again later";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "hook_unusable", detail).later()
        }
    }
}

/// 401 in the same words whether there is no such hook or the signature is wrong.
fn unsigned() -> ApiError {
    let detail = "there is no such hook, or the request is not signed with its secret as its scheme has it";
    ApiError::new(StatusCode::UNAUTHORIZED, "signature_invalid", detail)
        .with_header(WWW_AUTHENTICATE, CHALLENGE)
}

fn stale() -> ApiError {
    let detail = format!(
        "the request is signed for another time: webhook-timestamp is more than five minutes from {}, what this agent's clock \
         says",
        Timestamp::now()
    );
    ApiError::new(StatusCode::UNAUTHORIZED, "delivery_stale", detail).with_header(WWW_AUTHENTICATE, CHALLENGE)
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        let (status, task) = match self {
            Self::Ignored(why) => return Json(json!({ IGNORED: why })).into_response(),
            Self::Accepted(task) => (StatusCode::ACCEPTED, task),
            Self::Repeated(task) => (StatusCode::OK, task),
        };
        let location = [(LOCATION, format!("/api/v1/tasks/{}", task.id))];
        (status, location, Json(json!({ "id": task.id, "status": task.status }))).into_response()
    }
}
