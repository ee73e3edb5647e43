//! What every answer passes last: the headers that all have in common, the count of answers and refusals, and an answer
//! for a request whose handler failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::AppState;
use crate::error::{ApiError, ErrorCode};

/// What answers have unless their handler says otherwise. Nothing that a browser shows of an answer may load or run
/// anything, or be read by pages of others: in a sandbox an answer has an origin of its own. Browsers show no sandboxed page
/// that has a policy for openers too, so that only pages without a sandbox have one.
const COMMON: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox"),
];

/// Completes and counts an answer.
pub(crate) async fn complete(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in COMMON {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    state.metrics().answered(response.status());
    if let Some(ErrorCode(code)) = response.extensions().get() {
        state.metrics().refused(code);
    }
    response
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
