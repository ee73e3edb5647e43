//! How many tasks of one token may be open at a time: those that wait or run. They are counted in the history when a task
//! is submitted, so that neither a restart nor a task that ends by itself can make the number wrong; and whoever has such
//! a bound submits one task after the other, so that many at once do not all find the same room.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use agent_config::Scope;
use axum::http::StatusCode;
use task_service::{SubmitError, Submitted, TaskFilter, TaskSpec, TaskStatus};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::tasks;
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::right::Right;

/// Whose turn it is, for each token: one request after the other.
#[derive(Debug, Default)]
pub(crate) struct Turns(std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>);

impl Turns {
    /// Waits for the turn of one request of a token.
    pub(super) async fn of(&self, token: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(token.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// Submits a task for a caller, where the token's bound leaves room for it.
///
/// # Errors
/// 429 where it does not; and inside, why the task service has not accepted it.
pub(super) async fn submit(
    state: &AppState,
    caller: &Caller,
    spec: TaskSpec,
) -> Result<Result<Submitted, SubmitError>, ApiError> {
    let (service, name) = (state.service().clone(), caller.name().to_owned());
    let Some(most) = caller.most_open_tasks() else {
        return Ok(service.submit(spec, &name).await);
    };
    let turn = Right::of(state, caller, Scope::Run).during(state.turns().of(&name)).await?;
    make_sure_of_room(state, caller, most, &spec).await?;
    // A task of its own: a caller who goes away must not end the turn before the submission is through.
    let submitting = tokio::spawn(async move {
        let submitted = service.submit(spec, &name).await;
        drop(turn);
        submitted
    });
    submitting.await.map_err(ApiError::unavailable)
}

/// Refuses a new task where as many are open as may be. What exists takes no room, and what would be refused under any
/// bound is refused as that.
async fn make_sure_of_room(
    state: &AppState,
    caller: &Caller,
    most: usize,
    spec: &TaskSpec,
) -> Result<(), ApiError> {
    if let Some(id) = &spec.id
        && state.service().task(id).await?.is_some()
    {
        return Ok(());
    }
    if count_open(state, caller.name(), most).await? < most {
        return Ok(());
    }
    tasks::check(state, spec.clone()).await.map_err(|refusal| ApiError::refused(refusal, caller))?;
    let detail = format!(
        "{most} tasks of the token '{}' wait or run, as many as it may have; try again when one has ended",
        caller.name()
    );
    Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "token_busy", detail).later())
}

/// How many tasks of a token are open, counted up to `most`.
async fn count_open(state: &AppState, token: &str, most: usize) -> Result<usize, ApiError> {
    let filter = TaskFilter {
        statuses: vec![TaskStatus::Queued, TaskStatus::Running],
        created_by: Some(token.to_owned()),
        ..TaskFilter::default()
    };
    let (mut count, mut cursor) = (0, None);
    while count < most {
        let page = state.service().list(filter.clone(), most - count, cursor).await?;
        count += page.tasks.len();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(count)
}
