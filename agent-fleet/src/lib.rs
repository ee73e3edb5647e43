//! Hands tasks to nodes, and takes tasks from API servers. `docs/design/nodes.md` tells what both ends promise and why.
//!
//! | module | what it holds |
//! |---|---|
//! | [`message`], [`frame`] | what travels, and its bounds |
//! | [`keys`], [`sealing`] | who signs, and what is sealed to whom |
//! | [`assignment`] | one task for one node, signed |
//! | [`opens`] | what a node opens to tasks of its API server |
//! | [`greeting`] | how both ends show who they are |
//! | [`journal`] | what a node knows of assignments, on its disk |
//! | `link`, [`heard`], [`websocket`], [`accepted`] | what carries messages |
//! | [`node`] | the node's end |
//! | [`controller`] | the API server's end |

pub mod accepted;
pub mod assignment;
pub mod controller;
mod damage;
pub mod frame;
pub mod greeting;
pub mod heard;
pub mod journal;
pub mod keys;
pub mod link;
pub mod message;
pub mod node;
pub mod opens;
mod room;
pub mod sealing;
pub mod websocket;

use std::time::Duration;

/// Time between two looks at what nobody has answered.
pub const TICK: Duration = Duration::from_secs(5);
