//! The page of the service: `GET /`. It needs no token and knows nothing.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::response::{Html, IntoResponse};

use super::Unchanged;
use crate::etag;

const PAGE: &str = include_str!("../../page/index.html");

/// The page of the service
#[utoipa::path(
    get, path = "/", tag = "service", operation_id = "page", security(()),
    responses(
        (status = 200, description = "What this is, and where to go on.", body = String, content_type = "text/html"),
        (status = 304, response = Unchanged)
    )
)]
pub(crate) async fn page() -> impl IntoResponse {
    static TAG: LazyLock<HeaderValue> = LazyLock::new(|| etag::of(PAGE.as_bytes()));
    // It is another one with another program: a browser may keep it, and asks each time.
    ([(ETAG, TAG.clone())], [(CACHE_CONTROL, "public, no-cache")], Html(PAGE))
}
