//! What a refused request is answered with, and the one place that maps what went wrong to a status: RFC 9457 problem
//! details with a stable `code`, and `errors` where fields of the input are wrong.

use std::fmt;

use agent_fleet::controller::{AbandonError, DrainError, ForgetError};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use task_service::{CancelError, LogError, Problem, ReadError, Refusal, SubmitError};

use crate::auth::Caller;

/// Media type of every error (RFC 9457, section 3).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Seconds after which what is full, stopping or failing is worth another try.
const RETRY_SECONDS: &str = "5";

/// A request that was not done, and what its caller is told.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<Problem>,
    unverified: Option<Box<Unverified>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why the scripts folder does not verify, as far as the caller may know.
#[derive(Debug, Serialize)]
struct Unverified {
    problems: Vec<String>,
    mend: String,
}

/// The code of a refusal, left in its response for whoever counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

/// The JSON of an error.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Problem],
    #[serde(flatten)]
    unverified: Option<&'a Unverified>,
}

impl ApiError {
    /// An error of one status, stable code and sentence for people.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            unverified: None,
            headers: Vec::new(),
        }
    }

    /// 422: fields of the input are wrong; all of them are named.
    pub(crate) fn invalid(errors: Vec<Problem>) -> Self {
        let detail = Refusal::Invalid(errors.clone()).to_string().replacen("task spec", "request", 1);
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// 403: fields ask for what the token does not permit; all of them are named.
    pub(crate) fn forbidden(errors: Vec<Problem>) -> Self {
        let texts: Vec<String> = errors.iter().map(Problem::to_string).collect();
        let detail = format!("the token does not permit this: {}", texts.join("; "));
        Self { errors, ..Self::new(StatusCode::FORBIDDEN, "forbidden", detail) }
    }

    /// 404: nothing is there, or nothing that the token may see.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 503: the agent cannot do it now and may be able to later. What failed is told to the log alone: it names paths and
    /// other things of the inside.
    pub(crate) fn unavailable(what_failed: impl fmt::Display) -> Self {
        tracing::error!(detail = %what_failed, "a request could not be served");
        let detail = "the agent cannot do this now; its log shows why. Try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).later()
    }

    /// A spec that was refused, as far as its caller may know why.
    pub(crate) fn refused(refusal: Refusal, caller: &Caller) -> Self {
        let told = match &refusal {
            Refusal::Unverified { problems, mend } => {
                Some(Unverified { problems: caller.seen_problems(problems), mend: mend.clone() })
            }
            _ => None,
        };
        Self { unverified: told.map(Box::new), ..refusal.into() }
    }

    /// The scripts folder does not verify; what is wrong is counted, since that is only for those who may know the files'
    /// names: see [`refused`](Self::refused).
    pub(crate) fn unverified(problems: usize, status: StatusCode) -> Self {
        let code = Refusal::Unverified { problems: Vec::new(), mend: String::new() }.code();
        Self::new(status, code, format!("the scripts folder does not verify: {problems} problems"))
    }

    /// 500: a defect. Its caller learns nothing of the inside; the log does.
    pub(crate) fn internal() -> Self {
        let detail = "the agent failed at this request; its log shows how";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// 503: the service is stopping.
    pub(crate) fn draining() -> Self {
        SubmitError::Draining.into()
    }

    /// Adds a header.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Ends the connection behind the answer: what follows in it cannot be understood any more.
    pub(crate) fn closing(self) -> Self {
        self.with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The JSON that the caller gets, with a line end behind it.
    pub(crate) fn to_json(&self) -> String {
        let body = Body {
            r#type: format!("urn:devops-agent:error:{}", self.code),
            title: self.code.replace('_', " "),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            errors: &self.errors,
            unverified: self.unverified.as_deref(),
        };
        let json = serde_json::to_string(&body).expect("an error has only texts, numbers and lists of them");
        json + "\n"
    }

    /// Says that it is worth another try in a while.
    pub(crate) fn later(self) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        response.extensions_mut().insert(ErrorCode(self.code));
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, unprocessable) = (refusal.code(), StatusCode::UNPROCESSABLE_ENTITY);
        let detail = refusal.to_string();
        match refusal {
            Refusal::Unverified { problems, .. } => Self::unverified(problems.len(), StatusCode::CONFLICT),
            Refusal::Invalid(errors) => Self { errors, ..Self::new(unprocessable, code, detail) },
            Refusal::NotFound { .. } | Refusal::NoNode { .. } => {
                Self::new(StatusCode::NOT_FOUND, code, detail)
            }
            Refusal::Broken { code: rule, message, .. } => Self {
                errors: vec![Problem::new("name", &rule, message)],
                ..Self::new(unprocessable, code, detail)
            },
            Refusal::Unavailable(_) => Self::unavailable(detail),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::Conflict { .. } | SubmitError::Busy { .. } => {
                Self::new(StatusCode::CONFLICT, code, detail)
            }
            SubmitError::Full { .. } | SubmitError::ScriptFull { .. } | SubmitError::SecretsFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).later()
            }
            SubmitError::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).later(),
            SubmitError::Unavailable(_) => Self::unavailable(detail),
        }
    }
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match &error {
            CancelError::NotFound(_) => Self::not_found(error.to_string()),
            CancelError::AlreadyEnded(_) => {
                Self::new(StatusCode::CONFLICT, "already_ended", error.to_string())
            }
            CancelError::Unavailable(_) => Self::unavailable(error),
        }
    }
}

impl From<DrainError> for ApiError {
    fn from(error: DrainError) -> Self {
        match &error {
            DrainError::NoNode(_) => Self::new(StatusCode::NOT_FOUND, "node_not_found", error.to_string()),
            DrainError::Unwritten(_) => Self::unavailable(error),
        }
    }
}

impl From<ForgetError> for ApiError {
    fn from(error: ForgetError) -> Self {
        let detail = error.to_string();
        match error {
            ForgetError::NoNode(_) => Self::new(StatusCode::NOT_FOUND, "node_not_found", detail),
            ForgetError::Connected(_) => Self::new(StatusCode::CONFLICT, "node_connected", detail),
            ForgetError::HasTasks { .. } => Self::new(StatusCode::CONFLICT, "node_has_tasks", detail),
            ForgetError::Unread(_) | ForgetError::Unwritten(_) | ForgetError::Failed(_) => {
                Self::unavailable(detail)
            }
        }
    }
}

impl From<AbandonError> for ApiError {
    fn from(error: AbandonError) -> Self {
        match &error {
            AbandonError::NotThere(_) => Self::new(StatusCode::CONFLICT, "not_on_a_node", error.to_string()),
            AbandonError::Unwritten(_) => Self::unavailable(error),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::unavailable(error)
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::NotFound(_) => Self::not_found(error.to_string()),
            LogError::NoSuchAttempt { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no_such_attempt", error.to_string())
            }
            LogError::Read(_) | LogError::Open { .. } => Self::unavailable(error),
        }
    }
}
