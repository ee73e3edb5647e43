//! The API server's end: what was handed to which node, and what came of it.

mod state;

pub use state::{Action, Desk, Event};
