//! What the sender of a request to a hook is told.

use utoipa::ToSchema;

use super::Status;

/// What the sender of a delivery learns of its task.
#[derive(ToSchema)]
pub(crate) struct HookTask {
    /// Its id.
    id: String,
    /// Where it is in its life.
    status: Status,
}

/// A delivery that starts nothing.
#[derive(ToSchema)]
pub(crate) struct HookIgnored {
    /// Why.
    ignored: String,
}

/// What became of a delivery that started nothing new.
#[derive(ToSchema)]
#[serde(untagged)]
pub(crate) enum HookAnswer {
    Task(HookTask),
    Ignored(HookIgnored),
}
