//! Who calls, and what that token permits. Without a token nobody gets more than the paths of [`is_public`].

use std::sync::Arc;

use agent_config::{Scope, Token, TokenDigest};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};
use task_runners::{Problems, SCRIPT_RUNNER, ScriptName};
use task_service::{Problem, Refusal, Task};

use crate::app::AppState;
use crate::error::ApiError;
use crate::glob;

/// Most problems of the scripts folder in one answer.
const MAX_PROBLEMS: usize = 1000;
/// What is public, and shows more to whoever presents a token.
const DESCRIPTION: &str = "/openapi.json";

/// The tokens that are accepted.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<Arc<Token>>);

/// Whoever presented a token that is accepted.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Token>);

impl Tokens {
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        Self(tokens.into_iter().map(Arc::new).collect())
    }

    /// The caller that the headers prove.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let presented = presented(headers)?;
        let token = self.find(presented).ok_or_else(|| {
            unauthorized("token_invalid", "the token is not known; `agent-cli token create` makes one")
        })?;
        match token.expires {
            Some(expires) if expires <= Timestamp::now() => Err(unauthorized(
                "token_expired",
                &format!("the token expired at {expires}; `agent-cli token create` makes another"),
            )),
            _ => Ok(Caller(token)),
        }
    }

    /// Compares with every token, each in constant time, so that the time taken tells nothing.
    fn find(&self, presented: &str) -> Option<Arc<Token>> {
        let digest = TokenDigest::of_token(presented);
        let mut found = None;
        for token in &self.0 {
            let is_same: Choice = token.sha256.as_bytes().ct_eq(digest.as_bytes());
            if is_same.into() {
                found = Some(token.clone());
            }
        }
        found
    }
}

impl Caller {
    /// The token's name, which its tasks carry.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// 403 unless the token has that scope, or is an admin's.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.is_admin() || self.0.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("the token '{}' lacks the scope '{scope}' that this needs", self.0.name);
        Err(ApiError::new(StatusCode::FORBIDDEN, "scope_missing", detail))
    }

    /// Whether it has all rights on all scripts.
    pub(crate) fn is_admin(&self) -> bool {
        self.0.scopes.contains(&Scope::Admin)
    }

    /// Whether it may read at all.
    pub(crate) fn can_read(&self) -> bool {
        self.require(Scope::Read).is_ok()
    }

    /// What decides which scripts it sees: its patterns; none for an admin, who sees all.
    pub(crate) fn sight(&self) -> Option<&[String]> {
        (!self.is_admin()).then_some(&self.0.scripts)
    }

    /// Whether it sees the script, or runner, of that name.
    pub(crate) fn sees(&self, name: &str) -> bool {
        self.is_admin() || self.0.scripts.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// Whether it sees a task: those of the scripts that it sees.
    pub(crate) fn sees_task(&self, task: &Task) -> bool {
        self.sees(subject(&task.spec.name, &task.spec.params).unwrap_or(&task.spec.name))
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
            && !self.0.work_dirs.iter().any(|listed| listed == work_dir)
        {
            let expected = listed("a shared workspace that the token lists", &self.0.work_dirs);
            forbidden.push(Problem::new("work_dir", "forbidden", expected));
        }
        let expected = listed("a variable that the token or the script lists", &self.0.env);
        let names = spec["env"].as_object().into_iter().flatten().map(|(name, _)| name);
        for name in names.filter(|name| !open.contains(name)) {
            if !self.0.env.iter().any(|pattern| glob::matches_variable(pattern, name)) {
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
        let sha256 = TokenDigest::of_token("");
        let (scripts, work_dirs, env) = Default::default();
        let name = "admin".to_owned();
        Self(Arc::new(Token { name, sha256, scopes, scripts, work_dirs, env, expires: None }))
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
        match state.tokens().authenticate(request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(error) => return error.into_response(),
        }
    }
    next.run(request).await
}

/// Whether a path is served without a token.
fn is_public(path: &str, has_public_metrics: bool) -> bool {
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

/// The token in the one `Authorization` header (RFC 6750, section 2.1).
fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(no_token)?;
    let malformed = || unauthorized("token_invalid", "send one header `Authorization: Bearer <token>`");
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(malformed()) }
}

fn no_token() -> ApiError {
    unauthorized("token_missing", "this needs a token: send `Authorization: Bearer <token>`")
}

fn unauthorized(code: &'static str, detail: &str) -> ApiError {
    let challenge = match code {
        "token_missing" => "Bearer realm=\"devops-agent\"",
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
