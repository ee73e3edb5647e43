//! The API's description: `GET /openapi.json`, and its page at `GET /docs`, `GET /docs/` and `GET /docs/{file}`. None needs a
//! token. The page is built in and asks no other host for anything; its policy lets it only talk to this service.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::{Answered, Refused, Segment, no_route};
use crate::app::AppState;
use crate::error::ApiError;

const DOCUMENT: &str = "/openapi.json";
/// Scripts and styles of the page itself; pictures that its style sheet holds; requests to this service alone. The page
/// sets styles of single elements, which only `unsafe-inline` permits.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Whoever opened the page gets no hold of its window, in which a token may be typed.
const OPENERS: (HeaderName, &str) = (HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
/// The page's files change only with the program; a browser asks again after an hour.
const CACHED: &str = "public, max-age=3600";

/// How the page is set up. `none` keeps it from having documents checked by a service of others.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(
        Config::from(DOCUMENT).validator_url("none").try_it_out_enabled(true).display_request_duration(true),
    )
});

/// The route of the document itself, which describes all others.
pub(crate) fn document(document: &OpenApi) -> Router<AppState> {
    let json = document.to_pretty_json().expect("the document has only texts, numbers and lists of them");
    let json = Bytes::from(json);
    let answer = move || async move { ([(CONTENT_TYPE, "application/json")], json) };
    Router::new().route(DOCUMENT, get(answer))
}

/// The page of the API
#[utoipa::path(
    get, path = "/docs", tag = "service", operation_id = "docs_redirect", security(()),
    responses((status = 308, description = "It is at `/docs/`."))
)]
pub(crate) async fn redirect() -> impl IntoResponse {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "/docs/")])
}

/// The page of the API
#[utoipa::path(
    get, path = "/docs/", tag = "service", operation_id = "docs_page", security(()),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html"))
)]
pub(crate) async fn index() -> Answered {
    embedded("index.html").ok_or_else(ApiError::internal)
}

/// A file of the page of the API
#[utoipa::path(
    get, path = "/docs/{file}", tag = "service", operation_id = "docs_file", security(()),
    params(("file" = String, Path, description = "The file's name.")),
    responses((status = 200, description = "The file."), (status = "4XX", response = Refused))
)]
pub(crate) async fn file(Segment(name): Segment, uri: Uri) -> Answered {
    match name.as_deref().and_then(embedded) {
        Some(response) => Ok(response),
        None => Err(no_route(uri).await),
    }
}

/// A file that was built in; none when there is no such file. All answers share the program's own copy.
fn embedded(name: &str) -> Option<Response> {
    let file = utoipa_swagger_ui::serve(name, CONFIG.clone()).ok()??;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, CACHED), OPENERS];
    let content_type = [(CONTENT_TYPE, file.content_type)];
    let encoding = file.gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    Some((headers, content_type, encoding.map(AppendHeaders), bytes).into_response())
}
