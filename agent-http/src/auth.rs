//! Who calls, and what that token permits. Without a token nobody gets more than the paths of [`is_public`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_config::{Scope, Token, TokenDigest};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};
use task_runners::{Problems, SCRIPT_RUNNER, ScriptName};
use task_service::{Problem, Refusal, Task, TaskSpec};

use crate::app::AppState;
use crate::audit::{Asked, Presented};
use crate::error::ApiError;
use crate::glob;
use crate::rate::Rate;
use crate::tls::ClientCertificate;

/// Most problems of the scripts folder in one answer.
const MAX_PROBLEMS: usize = 1000;
/// What is public, and shows more to whoever presents a token.
const DESCRIPTION: &str = "/openapi.json";

/// The tokens that are accepted.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<Arc<Known>>);

/// A token that is accepted, and how often it has called.
#[derive(Debug)]
struct Known {
    token: Token,
    rate: Option<Rate>,
}

/// Whoever presented a token that is accepted.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    known: Arc<Known>,
    asked: Arc<Asked>,
}

impl Tokens {
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let known = |token: Token| {
            let rate = token.requests_per_minute.map(|calls| Rate::per_minute(calls, Instant::now()));
            Arc::new(Known { token, rate })
        };
        Self(tokens.into_iter().map(known).collect())
    }

    /// Who the request says that it comes from, whether that is accepted still or not: the token that it sends, and only
    /// without one the certificate of its connection.
    fn presented(&self, request: &Request) -> Result<Arc<Known>, ApiError> {
        let certificate = request.extensions().get::<ClientCertificate>();
        match (presented(request.headers())?, certificate) {
            (Some(token), _) => self.find(token).ok_or_else(|| {
                unauthorized("token_invalid", "the token is not known; `agent-cli token create` makes one")
            }),
            (None, Some(certificate)) => self.of_certificate(certificate),
            (None, None) => Err(no_token()),
        }
    }

    /// Certificates are no secret, so that nothing is told by the time that this takes.
    fn of_certificate(&self, certificate: &ClientCertificate) -> Result<Arc<Known>, ApiError> {
        let ClientCertificate { digest, expires } = certificate;
        // It was valid when the connection began.
        if *expires <= Timestamp::now() {
            let detail = format!("the certificate that you presented expired at {expires}");
            return Err(unauthorized("certificate_expired", &detail));
        }
        let is_named = |known: &&Arc<Known>| known.token.certificate_sha256 == Some(*digest);
        self.0.iter().find(is_named).cloned().ok_or_else(|| {
            let detail = "no [[auth.token]] names the certificate that you presented; add its certificate_sha256 \
                there, or send a token";
            unauthorized("certificate_unknown", detail)
        })
    }

    /// Compares with every token, each in constant time, so that the time taken tells nothing.
    fn find(&self, presented: &str) -> Option<Arc<Known>> {
        let digest = TokenDigest::of_token(presented);
        let mut found = None;
        for known in &self.0 {
            let Some(own) = known.token.sha256 else { continue };
            let is_same: Choice = own.as_bytes().ct_eq(digest.as_bytes());
            if is_same.into() {
                found = Some(known.clone());
            }
        }
        found
    }
}

impl Caller {
    /// 401 when the token is not accepted any more, 429 when it has called too often.
    fn of(known: Arc<Known>, asked: Arc<Asked>) -> Result<Self, ApiError> {
        if let Some(expires) = known.token.expires.filter(|&expires| expires <= Timestamp::now()) {
            return Err(unauthorized(
                "token_expired",
                &format!("the token expired at {expires}; `agent-cli token create` makes another"),
            ));
        }
        match known.rate.as_ref().map_or(Ok(()), |rate| rate.take(Instant::now())) {
            Ok(()) => Ok(Self { known, asked }),
            Err(wait) => Err(too_often(&known.token, wait)),
        }
    }

    /// The request that it calls with.
    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The token's name, which its tasks carry.
    pub(crate) fn name(&self) -> &str {
        &self.known.token.name
    }

    /// 403 unless the token has that scope, or is an admin's.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.is_admin() || self.known.token.scopes.contains(&scope) {
            return Ok(());
        }
        let detail =
            format!("the token '{}' lacks the scope '{scope}' that this needs", self.known.token.name);
        Err(ApiError::new(StatusCode::FORBIDDEN, "scope_missing", detail))
    }

    /// Whether it has all rights on all scripts.
    pub(crate) fn is_admin(&self) -> bool {
        self.known.token.scopes.contains(&Scope::Admin)
    }

    /// Whether it may read at all.
    pub(crate) fn can_read(&self) -> bool {
        self.require(Scope::Read).is_ok()
    }

    /// What decides which scripts it sees: its patterns; none for an admin, who sees all.
    pub(crate) fn sight(&self) -> Option<&[String]> {
        (!self.is_admin()).then_some(&self.known.token.scripts)
    }

    /// Whether it sees the script, or runner, of that name.
    pub(crate) fn sees(&self, name: &str) -> bool {
        self.is_admin() || self.known.token.scripts.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// Whether it sees a task: those of the scripts that it sees.
    pub(crate) fn sees_task(&self, task: &Task) -> bool {
        self.sees_task_of(&task.spec)
    }

    /// Whether it sees the task of a spec.
    pub(crate) fn sees_task_of(&self, spec: &TaskSpec) -> bool {
        self.sees(subject(&spec.name, &spec.params).unwrap_or(&spec.name))
    }

    /// The script that a spec, not yet read as one, names, if the token sees it.
    pub(crate) fn visible_script(&self, spec: &Value) -> Option<ScriptName> {
        let no_params = Map::new();
        let params = spec["params"].as_object().unwrap_or(&no_params);
        let name = subject(spec["name"].as_str()?, params)?.parse::<ScriptName>().ok()?;
        self.sees(name.as_str()).then_some(name)
    }

    /// 403 when a task spec, not yet read as one, asks for workspaces or variables that the token does not list. `open` are the
    /// variables that the script itself lets callers set.
    pub(crate) fn permits(&self, spec: &Value, open: &[String]) -> Result<(), ApiError> {
        if self.is_admin() {
            return Ok(());
        }
        let mut forbidden = Problems::default();
        if let Some(work_dir) = spec["work_dir"].as_str()
            && !self.known.token.work_dirs.iter().any(|listed| listed == work_dir)
        {
            let expected = listed("a shared workspace that the token lists", &self.known.token.work_dirs);
            forbidden.push(Problem::new("work_dir", "forbidden", expected));
        }
        let expected = listed("a variable that the token or the script lists", &self.known.token.env);
        let names = spec["env"].as_object().into_iter().flatten().map(|(name, _)| name);
        for name in names.filter(|name| !open.contains(name)) {
            if !self.known.token.env.iter().any(|pattern| glob::matches_variable(pattern, name)) {
                forbidden.push(Problem::new(
                    format!("env.{}", name.escape_debug()),
                    "forbidden",
                    expected.as_str(),
                ));
            }
        }
        if forbidden.is_empty() { Ok(()) } else { Err(ApiError::forbidden(forbidden.into_vec())) }
    }

    /// 404 when the token does not see what a task spec, not yet read as one, names.
    pub(crate) fn sees_what_is_named(&self, spec: &Value) -> Result<(), ApiError> {
        let no_params = Map::new();
        let params = spec["params"].as_object().unwrap_or(&no_params);
        let named = spec["name"].as_str().and_then(|name| subject(name, params));
        // What is no name is invalid, which is for others to say; patterns are matched with names only, which are short.
        match named.map(str::parse::<ScriptName>) {
            Some(Ok(name)) if !self.sees(name.as_str()) => {
                Err(Refusal::NotFound { name: name.to_string() }.into())
            }
            _ => Ok(()),
        }
    }

    /// What a caller learns of the problems of the scripts folder: an admin all, another those of files that its token
    /// sees. The rest is counted.
    pub(crate) fn seen_problems(&self, problems: &[String]) -> Vec<String> {
        let is_seen = |problem: &&String| {
            let name = problem.split(':').next().and_then(|name| name.parse::<ScriptName>().ok());
            self.is_admin() || name.is_some_and(|name| self.sees(name.as_str()))
        };
        let mut seen: Vec<String> = problems.iter().filter(is_seen).take(MAX_PROBLEMS).cloned().collect();
        match problems.len() - seen.len() {
            0 => {}
            more => seen.push(format!("and {more} more; `agent-cli manifest verify` lists them all")),
        }
        seen
    }
}

#[cfg(test)]
impl Caller {
    /// An admin, for tests that need one and no request.
    pub(crate) fn admin() -> Self {
        let scopes = [Scope::Admin].into();
        let (sha256, certificate_sha256) = (Some(TokenDigest::of_token("")), None);
        let (scripts, work_dirs, env) = Default::default();
        let name = "admin".to_owned();
        let (requests_per_minute, expires) = (None, None);
        let token = Token {
            name,
            sha256,
            certificate_sha256,
            scopes,
            scripts,
            work_dirs,
            env,
            requests_per_minute,
            expires,
        };
        let asked = Asked::new(String::new(), None, axum::http::Method::GET, "/");
        Self { known: Arc::new(Known { token, rate: None }), asked: Arc::new(asked) }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Set by `authenticate` on every path that is not public; a handler that asks for more gets a refusal.
        parts.extensions.get::<Self>().cloned().ok_or_else(no_token)
    }
}

/// The layer that lets nobody pass without a token, but to what is public.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let shows_more = path == DESCRIPTION && request.headers().contains_key(AUTHORIZATION);
    if shows_more || !is_public(path, state.has_public_metrics()) {
        let known = match state.access().tokens.presented(&request) {
            Ok(known) => known,
            Err(error) => return error.into_response(),
        };
        let name = Presented(known.token.name.clone());
        let asked = request.extensions().get::<Arc<Asked>>().cloned();
        let mut response =
            match asked.ok_or_else(ApiError::internal).and_then(|asked| Caller::of(known, asked)) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    next.run(request).await
                }
                Err(error) => error.into_response(),
            };
        response.extensions_mut().insert(name);
        return response;
    }
    next.run(request).await
}

/// Whether a path is served without a token.
pub(crate) fn is_public(path: &str, has_public_metrics: bool) -> bool {
    match path {
        "/" | "/healthz" | "/readyz" | DESCRIPTION | "/docs" => true,
        "/metrics" => has_public_metrics,
        path => path.starts_with("/docs/"),
    }
}

/// What decides who sees a task: the script that it runs, or the runner that it names.
fn subject<'a>(name: &'a str, params: &'a Map<String, Value>) -> Option<&'a str> {
    if name == SCRIPT_RUNNER { params.get("script").and_then(Value::as_str) } else { Some(name) }
}

/// The token in the one `Authorization` header (RFC 6750, section 2.1), if there is one.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || unauthorized("token_invalid", "send one header `Authorization: Bearer <token>`");
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(Some(token))
    } else {
        Err(malformed())
    }
}

fn too_often(token: &Token, wait: Duration) -> ApiError {
    // Whole seconds (RFC 9110, section 10.2.3), and not too early.
    let seconds = wait.as_secs() + 1;
    let detail = format!("the token '{}' has called too often; try again in {seconds} s", token.name);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
        .with_header(RETRY_AFTER, seconds.into())
}

fn no_token() -> ApiError {
    unauthorized("token_missing", "this needs a token: send `Authorization: Bearer <token>`")
}

fn unauthorized(code: &'static str, detail: &str) -> ApiError {
    let challenge = match code {
        "token_missing" | "certificate_unknown" | "certificate_expired" => "Bearer realm=\"devops-agent\"",
        _ => "Bearer realm=\"devops-agent\", error=\"invalid_token\"",
    };
    ApiError::new(StatusCode::UNAUTHORIZED, code, detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn listed(what: &str, names: &[String]) -> String {
    match names {
        [] => format!("{what}; this one lists none"),
        names => format!("{what}: {}", names.join(", ")),
    }
}
