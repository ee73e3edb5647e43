//! The right to an answer that takes long: a log that is followed, the end of a task that is waited for. It was looked at
//! when the request was let in, and is looked at again whenever tokens change or expire, so that nobody goes on reading
//! with a token that was taken away.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use agent_config::Scope;
use axum::body::{Body, Bytes};
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

/// A caller's right to something of a task.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    state: AppState,
    caller: Caller,
    scope: Scope,
    id: TaskId,
    spec: Arc<TaskSpec>,
}

/// An answer's body that is cut when the right to it is lost.
struct WhileLasting {
    body: Body,
    /// Ends when the right is lost; gone once that was told.
    lost: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Right {
    /// The right of a scope to a task that the caller sees.
    pub(crate) fn to(state: &AppState, caller: &Caller, scope: Scope, task: &Task) -> Self {
        let (state, caller) = (state.clone(), caller.clone());
        Self { state, caller, scope, id: task.id.clone(), spec: task.spec.clone() }
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
        let lost = async move {
            let refusal = self.lost().await;
            self.tell_cut(&refusal);
        };
        answer.map(|body| Body::new(WhileLasting { body, lost: Some(Box::pin(lost)) }))
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
        if caller.sees_task_of(&self.spec) { Ok(until) } else { Err(no_task(&self.id)) }
    }

    fn tell_cut(&self, refusal: &ApiError) {
        let (status, code) = (refusal.status(), refusal.code());
        let why = Decision { token: Some(self.caller.name()), status, code: Some(code), task: None };
        if !self.state.audit().tell_cut(self.caller.asked(), why) {
            self.state.metrics().audit_lost();
        }
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
