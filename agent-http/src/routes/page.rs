//! The page of the service: `GET /`. It needs no token and knows nothing.

use axum::response::{Html, IntoResponse};

const PAGE: &str = include_str!("../../page/index.html");

/// The page of the service
#[utoipa::path(
    get, path = "/", tag = "service", operation_id = "page", security(()),
    responses((status = 200, description = "What this is, and where to go on.", body = String, content_type = "text/html"))
)]
pub(crate) async fn page() -> impl IntoResponse {
    Html(PAGE)
}
