//! The reproduction script of a run, made of its record: `GET /api/v1/tasks/{id}/debug.sh`.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use agent_config::Scope;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::log_body::CHUNK_BYTES;
use super::{Answered, Refused, Segment, visible_task};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::right::Right;

/// Reproduce a run
///
/// The script that starts the same run by hand, made of the record of a task that was started. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/debug.sh", tag = "tasks", operation_id = "debug_script",
    security(("token" = ["read"])),
    params(("id" = String, Path, description = "The task's id.")),
    responses(
        (status = 200, description = "The script.", body = String, content_type = "text/x-shellscript"),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn debug_script(
    State(state): State<AppState>,
    caller: Caller,
    id: Segment,
    uri: Uri,
) -> Answered {
    caller.require(Scope::Read)?;
    let task = visible_task(&state, &caller, &id).await?;
    Query::of(&uri).finish()?;
    let right = Right::to(&state, &caller, Scope::Read, &task);
    let place = right.during(state.debug_scripts().clone().acquire_owned()).await?;
    let place = place.map_err(ApiError::unavailable)?;
    let records = state.records().clone();
    let on_a_node = task.spec.target.is_some();
    let made = tokio::task::spawn_blocking(move || records.debug_script(&task.id)).await;
    match made.map_err(io::Error::other).and_then(|made| made) {
        Ok(Some(script)) => {
            let headers = [
                (CONTENT_TYPE, "text/x-shellscript; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"debug.sh\""),
            ];
            Ok((headers, Body::new(ScriptBody { script, sent: 0, _place: place })).into_response())
        }
        Ok(None) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "no_debug_script",
            match on_a_node {
                true => {
                    "the script of a task on a node comes with its end, and there is none of one that was not started"
                }
                false => "this task was not started, so there is nothing to reproduce",
            },
        )),
        Err(error) => Err(ApiError::unavailable(format_args!("a task's record cannot be read: {error}"))),
    }
}

/// A script that is sent piece by piece. It is held whole meanwhile, and a place with it, so that only so many are held at
/// a time as there are places.
struct ScriptBody {
    script: Vec<u8>,
    sent: usize,
    _place: OwnedSemaphorePermit,
}

impl hyper::body::Body for ScriptBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = &self.script[self.sent..];
        let piece = Bytes::copy_from_slice(&rest[..rest.len().min(CHUNK_BYTES)]);
        self.sent += piece.len();
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.script.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.script.len() - self.sent) as u64)
    }
}
