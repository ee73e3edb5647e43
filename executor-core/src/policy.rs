//! Choices that a caller makes about how executions are run and ended.

use serde::{Deserialize, Serialize};

/// What happens to processes that a script left behind when its main process ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    /// They get TERM, one second, then KILL; the result counts them. The default.
    #[default]
    Kill,
    /// They are counted and left alone. The promise that nothing outlives a task is waived, and the result says so.
    Report,
}
