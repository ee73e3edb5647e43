//! The API server's end: what was handed to which node, and what came of it.
//!
//! | module | what it holds |
//! |---|---|
//! | `state` | the state machine, one for each node |
//! | `work` | database, logs and link around it |
//! | `store` | the database |
//! | `view` | what can be seen of a node |
//! | `fleet` | [`Fleet`]: the nodes by name, and the runner that hands tasks to them |

mod answer;
mod fleet;
mod state;
mod store;
mod view;
mod work;

pub use fleet::{Fleet, FleetError};
pub use state::{Action, Desk, Event};
pub use store::StoreError;
pub use view::NodeEntry;
