//! The node's end: an agent that takes tasks from an API server.
//!
//! | module | what it holds |
//! |---|---|
//! | `event` | what the state machine is told, and what it wants done |
//! | `state` | the state machine |

mod event;
mod state;

pub use event::{Action, CANCELLED_BEFORE_START, Event, Flow, Journaled, Verdict};
pub use state::NodeState;
