//! The ended attempts of a task.

use utoipa::ToSchema;

use super::Outcome;

/// An attempt of a task that has ended and was followed by another one.
#[derive(ToSchema)]
pub(crate) struct Attempt {
    /// Its number, counted from 1; its log is read by `?attempt=`.
    attempt: u32,
    /// When it was started.
    #[schema(required, format = DateTime)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// How it ended.
    outcome: Outcome,
    /// The exit code; null unless it exited.
    #[schema(required)]
    exit_code: Option<i32>,
    /// Length of its log file, bytes.
    log_bytes: u64,
}
