//! The page of the API's description: `GET /docs`, `GET /docs/` and `GET /docs/{file}`. It needs no token, is built in and
//! asks no other host for anything; its policy lets it only talk to this service. Once a token is typed in, the page asks
//! for the description again with it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION,
};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use utoipa_swagger_ui::Config;

use super::{Answered, Refused, Segment, Unchanged, no_route};
use crate::error::ApiError;
use crate::etag;

const DOCUMENT: &str = "/openapi.json";
/// The file that sets the page up, and what is added to it: a plugin, where the page has its list of them.
const INITIALIZER: &str = "swagger-initializer.js";
const PLUGIN: &str = include_str!("docs_plugin.js");
const PLUGINS: &str = "plugins: [";
const PLUGINS_WITH_OURS: &str = "requestInterceptor: withToken,\n    plugins: [\n      ScriptsOfToken,";
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
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 304, response = Unchanged)
    )
)]
pub(crate) async fn index() -> Answered {
    embedded("index.html").ok_or_else(ApiError::internal)
}

/// A file of the page of the API
#[utoipa::path(
    get, path = "/docs/{file}", tag = "service", operation_id = "docs_file", security(()),
    params(("file" = String, Path, description = "The file's name.")),
    responses(
        (status = 200, description = "The file."),
        (status = 304, response = Unchanged), (status = "4XX", response = Refused)
    )
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
        text if name == INITIALIZER => {
            let text = String::from_utf8_lossy(&text).replacen(PLUGINS, PLUGINS_WITH_OURS, 1);
            format!("{PLUGIN}\n{text}").into()
        }
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, CACHED), OPENERS];
    let content_type = [(CONTENT_TYPE, file.content_type)];
    let encoding = file.gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    let tag = [(ETAG, tag(name, &bytes))];
    Some((headers, content_type, tag, encoding.map(AppendHeaders), bytes).into_response())
}

/// The tag of a file, made when it is asked for first: files change only with the program.
fn tag(name: &str, bytes: &[u8]) -> HeaderValue {
    static TAGS: LazyLock<Mutex<HashMap<String, HeaderValue>>> = LazyLock::new(Mutex::default);
    let mut tags = TAGS.lock().unwrap_or_else(PoisonError::into_inner);
    tags.entry(name.to_owned()).or_insert_with(|| etag::of(bytes)).clone()
}
