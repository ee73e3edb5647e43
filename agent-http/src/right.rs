//! The right to what takes long: a log that is followed, the end of a task or a place that is waited for, the connection of
//! a node. It was looked at when the request was let in, and is looked at again whenever tokens change or expire, so that
//! nobody goes on with a token that was taken away.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_config::Scope;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use jiff::Timestamp;
use task_service::{Task, TaskId, TaskSpec};

use crate::app::{Access, AppState};
use crate::audit::Decision;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::routes::no_task;

/// Longest pause between two looks at the clock: it may be set while somebody waits for a time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A caller's right to do something, or to something of a task.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    state: AppState,
    caller: Caller,
    scope: Scope,
    task: Option<(TaskId, Arc<TaskSpec>)>,
}

/// An answer's body that is cut when the right to it is lost.
struct WhileLasting {
    body: Body,
    /// Ends when the right is lost and that was written down; gone then.
    lost: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether the right is lost: nothing more is sent while that is written down, which may take its time.
    is_lost: Arc<AtomicBool>,
}

impl Right {
    /// The right of a scope to a task that the caller sees.
    pub(crate) fn to(state: &AppState, caller: &Caller, scope: Scope, task: &Task) -> Self {
        Self { task: Some((task.id.clone(), task.spec.clone())), ..Self::of(state, caller, scope) }
    }

    /// The right that a scope gives, under the token's name of now.
    pub(crate) fn of(state: &AppState, caller: &Caller, scope: Scope) -> Self {
        Self { state: state.clone(), caller: caller.clone(), scope, task: None }
    }

    /// Does something for as long as the right lasts.
    ///
    /// # Errors
    /// What a new request would be refused with, once it is lost.
    pub(crate) async fn during<T>(&self, doing: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            refusal = self.lost() => Err(refusal),
            done = doing => Ok(done),
        }
    }

    /// Cuts the answer when the right is lost, which is written down.
    pub(crate) fn guard(self, answer: Response) -> Response {
        let is_lost = Arc::new(AtomicBool::new(false));
        let noticed = is_lost.clone();
        let lost = async move {
            let refusal = self.lost().await;
            noticed.store(true, Ordering::Relaxed);
            self.tell_cut(&refusal).await;
        };
        answer.map(|body| Body::new(WhileLasting { body, lost: Some(Box::pin(lost)), is_lost }))
    }

    /// Waits until the right is lost, and writes down what that cuts.
    pub(crate) async fn cut(self) {
        let refusal = self.lost().await;
        self.tell_cut(&refusal).await;
    }

    /// Waits until the right is lost, and gives what a new request would be refused with.
    async fn lost(&self) -> ApiError {
        let mut access = self.state.follow_access();
        loop {
            let now = access.borrow_and_update().clone();
            let until = match self.lasts_until(&now) {
                Ok(until) => until,
                Err(refusal) => return refusal,
            };
            tokio::select! {
                // The sender lives as long as the state does, which this holds.
                _ = access.changed() => {}
                () = pause(until) => {}
            }
        }
    }

    /// Until when the right lasts if nothing changes.
    fn lasts_until(&self, access: &Access) -> Result<Option<Timestamp>, ApiError> {
        let (caller, until) = self.caller.by(&access.tokens)?;
        caller.require(self.scope)?;
        match &self.task {
            Some((id, spec)) if !caller.sees_task_of(spec) => Err(no_task(id)),
            // What is done is done under this name.
            None if caller.name() != self.caller.name() => {
                let detail = format!("the token of '{}' goes by another name now", self.caller.name());
                Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", detail))
            }
            _ => Ok(until),
        }
    }

    async fn tell_cut(&self, refusal: &ApiError) {
        let (status, code) = (refusal.status(), refusal.code());
        let why = Decision { status: Some(status), code: Some(code), task: None };
        self.state.audit().tell_cut(self.caller.asked(), why).await;
    }
}

/// Waits until a time, or until it is time to look at the clock again.
async fn pause(until: Option<Timestamp>) {
    match until {
        None => std::future::pending().await,
        Some(until) => {
            let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
            // A moment more, since timers count in milliseconds and the end is in nanoseconds.
            tokio::time::sleep(left.min(LOOK_EVERY) + Duration::from_millis(1)).await;
        }
    }
}

impl HttpBody for WhileLasting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(lost) = &mut self.lost else { return Poll::Ready(None) };
        if lost.as_mut().poll(context).is_pending() {
            if self.is_lost.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            return Poll::Ready(frame);
        }
        // An error closes the connection, so that nobody takes what came for whole.
        self.lost = None;
        let cut = io::Error::new(io::ErrorKind::PermissionDenied, "the right to read this was lost");
        Poll::Ready(Some(Err(axum::Error::new(cut))))
    }

    fn is_end_stream(&self) -> bool {
        self.lost.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
