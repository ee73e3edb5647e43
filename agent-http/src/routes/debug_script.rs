//! The reproduction script of a run: `GET /api/v1/tasks/{id}/debug.sh`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use agent_config::Scope;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use nix::fcntl::OFlag;

use super::{Answered, Refused, Segment, visible_task};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;

/// Its name in a record.
const FILE: &str = "debug.sh";
/// Most bytes that are read: what the kernel takes as arguments and variables, each byte of input as five.
const MAX_BYTES: u64 = 64 << 20;

/// Reproduce a run
///
/// The script that starts the same run by hand. It is there for tasks that were submitted with `debug_script`. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}/debug.sh", tag = "tasks", operation_id = "debug_script",
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
    Query::of(&uri).finish()?;
    let task = visible_task(&state, &caller, &id).await?;
    let path = state.records().folder(&task.id).join(FILE);
    let read = tokio::task::spawn_blocking(move || read(&path)).await.map_err(io::Error::other);
    match read.and_then(|read| read) {
        Ok(script) => {
            let headers = [
                (CONTENT_TYPE, "text/x-shellscript; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"debug.sh\""),
            ];
            Ok((headers, script).into_response())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "no_debug_script",
            "this task left no debug.sh: it has not started, or was submitted without \"debug_script\": true",
        )),
        Err(error) => Err(ApiError::unavailable(format!("the task's debug.sh cannot be read: {error}"))),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut script = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut script)?;
    Ok(script)
}
