//! What a caller is permitted. Without a token nobody gets more than the paths of [`is_public`], and hooks, which ask for a
//! signature in its place.

use std::sync::Arc;

use agent_config::Scope;
use agent_fleet::opens::matches_variable;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};
use task_runners::{Problems, SCRIPT_RUNNER, ScriptName};
use task_service::{Problem, Refusal, Task, TaskSpec};

use crate::app::{Access, AppState};
use crate::audit::Asked;
use crate::error::ApiError;
use crate::glob;
use crate::routes::needs_no_token;
use crate::server::Place;
use crate::tokens::{Known, Proof, Tokens, no_token};

/// Most problems of the scripts folder in one answer.
const MAX_PROBLEMS: usize = 1000;
/// What is public, and shows more to whoever presents a token.
const DESCRIPTION: &str = "/openapi.json";

/// Whoever presented a token that is accepted.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    known: Arc<Known>,
    proof: Proof,
    asked: Arc<Asked>,
}

impl Caller {
    /// 401 when the token is not accepted any more, 429 when it has called too often.
    fn of(known: Arc<Known>, proof: Proof, asked: Arc<Asked>) -> Result<Self, ApiError> {
        asked.came_with(&known.token.name);
        known.valid_until(&proof)?;
        asked.let_in();
        known.take_call()?;
        Ok(Self { known, proof, asked })
    }

    /// The same caller by the tokens of another time, and until when it is one by these. This is no call of its own.
    ///
    /// # Errors
    /// 401 when its proof is not accepted any more.
    pub(crate) fn by(&self, tokens: &Tokens) -> Result<(Self, Option<Timestamp>), ApiError> {
        let known = tokens.named_by(&self.proof)?;
        let until = known.valid_until(&self.proof)?;
        Ok((Self { known, ..self.clone() }, until))
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

    /// How many of its tasks may be open at a time; none is any number.
    pub(crate) fn most_open_tasks(&self) -> Option<usize> {
        self.known.token.concurrent.and_then(|most| usize::try_from(most).ok())
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

    /// Whether it sees the tasks that were accepted for a spec.
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
            if !self.known.token.env.iter().any(|pattern| matches_variable(pattern, name)) {
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
        let token = crate::first_token::of_admin(agent_config::TokenDigest::of_token(""));
        let proof = Proof::Token(agent_config::TokenDigest::of_token(""));
        let (method, caller_left) = (axum::http::Method::GET, crate::server::CallerLeft::default());
        let asked = Asked::new(String::new(), None, method, "/", caller_left);
        Self { known: Arc::new(Known::new(token, Vec::new())), proof, asked: Arc::new(asked) }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Set by `authenticate` on every path that is not public; a handler that asks for more gets a refusal.
        parts.extensions.get::<Self>().cloned().ok_or_else(no_token)
    }
}

/// The layer that lets nobody pass without a token, but to what is public or asks for a signature.
pub(crate) async fn authenticate(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    if needs_no_token(&request) {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let is_public = is_public(path, state.has_public_metrics());
    let shows_more = path == DESCRIPTION;
    if shows_more || !is_public {
        // What everybody may have is not refused to whoever's connection shows somebody unknown; what is sent must be right.
        let must_be_known = !is_public || request.headers().contains_key(AUTHORIZATION);
        match caller(&request) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(error) if must_be_known => return error.into_response(),
            Err(_) => {}
        }
    }
    next.run(request).await
}

/// Who calls, by the tokens of the request's time.
fn caller(request: &Request) -> Result<Caller, ApiError> {
    let access = request.extensions().get::<Arc<Access>>().ok_or_else(ApiError::internal)?;
    let asked = request.extensions().get::<Arc<Asked>>().ok_or_else(ApiError::internal)?;
    let proof = Proof::of(request)?;
    let known = access.tokens.named_by(&proof)?;
    let caller = Caller::of(known, proof, asked.clone())?;
    // There is none where another server is in front of the routes.
    if let Some(place) = request.extensions().get::<Place>() {
        place.for_somebody();
    }
    Ok(caller)
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

fn listed(what: &str, names: &[String]) -> String {
    match names {
        [] => format!("{what}; this one lists none"),
        names => format!("{what}: {}", names.join(", ")),
    }
}
