//! The routes, one resource a file. A route is registered together with its description, so that the OpenAPI document lists
//! all of them; what no route knows is answered here.

mod again;
mod debug_script;
mod description;
mod docs;
mod health;
mod log;
mod log_body;
mod log_events;
mod log_search;
mod metrics;
mod nodes;
mod page;
mod quota;
mod range;
mod runners;
mod scans;
mod scripts;
mod tasks;
mod wait;

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use task_service::{Problem, Task, TaskId};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::schema::ProblemDetails;

pub(crate) use description::Description;
pub(crate) use quota::Turns;
pub(crate) use scans::LogScans;

/// What a handler gives.
type Answered = Result<Response, ApiError>;

/// The document without its paths, which come with the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "DevOps agent",
        description = "Runs vetted scripts for people and programs, shows their logs while they are written, and keeps a \
            record of what ran and how it ended. Errors are `application/problem+json` (RFC 9457) with a stable `code`."
    ),
    components(schemas(ProblemDetails), responses(Refused, Unchanged)),
    security(("token" = [])),
    modifiers(&TokenScheme)
)]
struct Document;

/// Declares how callers show who they are.
struct TokenScheme;

/// A segment of the path, as text; none when it is no UTF-8. Extracting it refuses nothing: who may ask is checked first.
pub(crate) struct Segment(Option<String>);

/// Any refusal: every status above 399 has the same form.
#[derive(utoipa::ToResponse)]
#[response(description = "Not done; `code` and `detail` say why.", content_type = "application/problem+json")]
#[expect(dead_code, reason = "it only describes")]
pub(crate) struct Refused(ProblemDetails);

/// What a caller is told who has the answer already. Its parameter is added where this is listed.
#[derive(utoipa::ToResponse)]
#[response(description = "Nothing has changed since the answer with the `ETag` that `If-None-Match` names.")]
pub(crate) struct Unchanged;

/// Every route with its description. There are no others: a test compares the router with the document.
pub(crate) fn all() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tasks::submit, tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::cancel))
        .routes(routes!(again::rerun))
        .routes(routes!(again::abandon))
        .routes(routes!(again::cancel_many))
        .routes(routes!(log::log))
        .routes(routes!(log_search::search))
        .routes(routes!(debug_script::debug_script))
        .routes(routes!(scripts::list))
        .routes(routes!(scripts::show))
        .routes(routes!(scripts::run))
        .routes(routes!(runners::list))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::connect))
        .routes(routes!(nodes::show, nodes::forget))
        .routes(routes!(nodes::drain))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(description::show))
        .routes(routes!(docs::redirect))
        .routes(routes!(docs::index))
        .routes(routes!(docs::file))
        .routes(routes!(page::page))
}

/// Answers what no route knows.
pub(crate) async fn no_route(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_route",
        format!("there is nothing at {}; /docs lists what there is", uri.path()),
    )
}

/// Answers what a route knows under another method. The router adds `Allow`.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} takes no {method}; the header `Allow` names what it takes", uri.path()),
    )
}

/// A task that the caller sees.
///
/// # Errors
/// 422 when the text is no id, 404 when there is no such task or the caller does not see it.
async fn visible_task(state: &AppState, caller: &Caller, id: &Segment) -> Result<Task, ApiError> {
    let id: TaskId = id.parsed()?;
    let task = state.service().task(&id).await?.filter(|task| caller.sees_task(task));
    task.ok_or_else(|| no_task(&id))
}

pub(crate) fn no_task(id: &TaskId) -> ApiError {
    ApiError::not_found(format!("there is no task '{id}'"))
}

/// The page of these entries, of which there is one more where there is another page, and its cursor: the name of the last
/// one.
fn page_by_name<T>(
    mut entries: Vec<T>,
    limit: usize,
    name: impl Fn(&T) -> &String,
) -> (Vec<T>, Option<String>) {
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| name(entry).clone());
    (entries, next)
}

impl Segment {
    /// The segment as it is; none when it is no UTF-8.
    fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The segment as a name of some kind.
    fn parsed<T: std::str::FromStr<Err = task_runners::NameError>>(&self) -> Result<T, ApiError> {
        let Some(text) = &self.0 else {
            return Err(ApiError::invalid(vec![Problem::new("path", "utf8", "percent-encoded UTF-8")]));
        };
        text.parse().map_err(|error: task_runners::NameError| ApiError::invalid(vec![error.0]))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(text.ok().map(|Path(text)| text)))
    }
}

impl utoipa::Modify for TokenScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}
