//! What every answer passes last: the headers that all have in common, the count of answers and refusals, and an answer
//! for a request whose handler failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::AppState;
use crate::audit::{Asked, Decision};
use crate::auth;
use crate::error::{ApiError, ErrorCode};
use crate::peer::Peer;
use crate::server::CallerLeft;

/// What answers have unless their handler says otherwise. Nothing that a browser shows of an answer may load or run
/// anything, or be read by pages of others: in a sandbox an answer has an origin of its own. Browsers show no sandboxed page
/// that has a policy for openers too, so that only pages without a sandbox have one.
const COMMON: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox"),
];

/// The id of the request, in each answer and in the audit log.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Refusals for who calls, or under which name.
const REFUSED_FOR_WHOM: [StatusCode; 3] =
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::MISDIRECTED_REQUEST];

/// Completes, audits, counts and logs an answer.
pub(crate) async fn complete(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let asked = Arc::new(asked(&request));
    let is_public = auth::is_public(request.uri().path(), state.has_public_metrics());
    request.extensions_mut().insert(asked.clone());
    let mut unanswered = Unanswered { state: &state, asked: &asked, is_open: !is_public };
    // Of the highest level, so that each line has it however little is logged.
    let span = tracing::error_span!("request", request = asked.id);
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    // What everybody may see is no decision, unless a token showed more of it, or it was refused all the same.
    if !is_public || asked.token().is_some() || REFUSED_FOR_WHOM.contains(&response.status()) {
        let code = response.extensions().get::<ErrorCode>().map(|ErrorCode(code)| *code);
        state.audit().tell(&asked, Decision { status: Some(response.status()), code, task: None }).await;
    }
    unanswered.is_open = false;
    let headers = response.headers_mut();
    for (name, value) in COMMON {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(&asked.id) {
        headers.insert(X_REQUEST_ID, id);
    }
    let route = response.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    state.metrics().answered(&asked.method, route, response.status());
    if let Some(ErrorCode(code)) = response.extensions().get() {
        state.metrics().refused(code);
    }
    span.in_scope(|| log(&asked, is_public, &response, began.elapsed()));
    response
}

/// Says what was answered. Of what everybody may see only those hear who want to hear much.
fn log(asked: &Asked, is_public: bool, response: &Response, took: Duration) {
    let status = response.status().as_u16();
    let token = asked.token();
    let code = response.extensions().get::<ErrorCode>().map(|ErrorCode(code)| *code);
    let (method, path, took_ms) =
        (asked.method.as_str(), asked.path.as_str(), (took.as_secs_f64() * 1e6).round() / 1e3);
    if is_public {
        tracing::debug!(method, path, status, code, token, took_ms, "answered");
    } else {
        tracing::info!(method, path, status, code, token, took_ms, "answered");
    }
}

/// The request as it is known before anybody decides about it.
fn asked(request: &Request) -> Asked {
    let from = request.extensions().get::<Peer>().copied();
    let caller_left = request.extensions().get::<CallerLeft>().cloned().unwrap_or_default();
    Asked::new(Uuid::now_v7().to_string(), from, request.method().clone(), request.uri().path(), caller_left)
}

/// Writes down, when dropped with a request whose caller has hung up, that there was no answer.
struct Unanswered<'a> {
    state: &'a AppState,
    asked: &'a Asked,
    /// Whether there is a decision to be told, and none yet.
    is_open: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.state.audit().tell_unanswered(self.asked);
        }
    }
}

/// Answers 500 where a handler panics. The panic itself was reported when it happened; the agent goes on.
pub(crate) async fn unless_panics(request: Request, next: Next) -> Response {
    let mut running = pin!(next.run(request));
    std::future::poll_fn(move |context| {
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(ApiError::internal().into_response()),
        }
    })
    .await
}
