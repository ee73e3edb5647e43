//! By which names the service may be called, and which web pages may call it. Checked before anything else, so that
//! neither a name that an attacker points at this address nor a page of another origin reaches a route.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::AppState;
use crate::error::ApiError;
use crate::tls::Tls;

/// What a page of a listed origin may send and read (Fetch standard, section 3.3).
const CORS_METHODS: &str = "GET, HEAD, POST";
const CORS_REQUEST_HEADERS: &str =
    "authorization, content-type, prefer, range, last-event-id, if-none-match, if-range";
const CORS_RESPONSE_HEADERS: &str = "location, preference-applied, retry-after, content-range, accept-ranges, log-offset, www-authenticate, etag";
/// Seconds for which a browser may remember that.
const CORS_MAX_AGE: &str = "600";

/// The names and origins that are accepted.
#[derive(Debug)]
pub(crate) struct HostRules {
    /// Beside loopback names and IP addresses; in small letters.
    hosts: Vec<String>,
    /// Beside the service's own; in small letters.
    origins: Vec<String>,
    /// Whether a proxy speaks TLS in front, so that the service's own origin may be `https://`.
    behind_tls_proxy: bool,
    /// The service's own TLS: the names in its certificate are names of the service too.
    tls: Option<Arc<Tls>>,
}

impl HostRules {
    pub(crate) fn new(http: &agent_config::Http, tls: Option<Arc<Tls>>) -> Self {
        Self {
            hosts: http.hosts.clone(),
            origins: http.origins.clone(),
            behind_tls_proxy: http.behind_tls_proxy,
            tls,
        }
    }

    /// Checks names and origin of a request, and gives the listed origin of another page, if that calls.
    fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<HeaderValue>, ApiError> {
        let host = single(headers, &HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host.parse::<Authority>().ok());
        let target = uri.authority();
        let names_us = |authority: &Authority| self.is_own_name(authority);
        let (Some(host), true) =
            (host.filter(names_us), target.is_none_or(names_us) && headers.get_all(HOST).iter().count() == 1)
        else {
            let detail = "this service is not called by that name; use an IP address or localhost, or list the \
                name in http.hosts";
            return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host_unknown", detail));
        };
        self.check_origin(headers, &host)
    }

    fn check_origin(&self, headers: &HeaderMap, host: &Authority) -> Result<Option<HeaderValue>, ApiError> {
        if !headers.contains_key(ORIGIN) {
            return Ok(None);
        }
        if let Some(value) = single(headers, &ORIGIN)
            && let Ok(origin) = value.to_str()
        {
            if self.is_own_origin(origin, host) {
                return Ok(None);
            }
            if self.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
                return Ok(Some(value.clone()));
            }
        }
        let detail = "web pages of that origin may not call this service; list the origin in http.origins";
        Err(ApiError::new(StatusCode::FORBIDDEN, "origin_forbidden", detail))
    }

    fn is_own_name(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.strip_suffix('.').unwrap_or(host);
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(name))
            || self.tls.as_ref().is_some_and(|tls| tls.has_name(name))
    }

    fn is_own_origin(&self, origin: &str, host: &Authority) -> bool {
        let schemes = [("http://", 80), ("https://", 443)];
        let usable = match (self.behind_tls_proxy, &self.tls) {
            (true, _) => &schemes[..],
            (false, Some(_)) => &schemes[1..],
            (false, None) => &schemes[..1],
        };
        usable.iter().any(|(scheme, default_port)| {
            let port = |authority: &Authority| authority.port_u16().unwrap_or(*default_port);
            let authority = origin.strip_prefix(scheme).and_then(|rest| rest.parse::<Authority>().ok());
            authority.is_some_and(|authority| {
                !authority.as_str().contains('@')
                    && authority.host().eq_ignore_ascii_case(host.host())
                    && port(&authority) == port(host)
            })
        })
    }
}

/// The layer that refuses wrong names and origins, and lets pages of listed origins call.
pub(crate) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let listed = match state.access().hosts.check(request.headers(), request.uri()) {
        Ok(listed) => listed,
        Err(error) => return error.into_response(),
    };
    let Some(origin) = listed else { return next.run(request).await };
    let mut response = if is_preflight(&request) { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(CORS_RESPONSE_HEADERS));
    headers.append(VARY, HeaderValue::from_static("origin"));
    response
}

/// Whether a browser asks what a page of another origin may do. It sends no token with that.
fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, CORS_REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The value of a header that is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
