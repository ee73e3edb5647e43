//! The API server's end: what was handed to which node, and what came of it.
//!
//! | module | what it holds |
//! |---|---|
//! | `event` | what the state machine is told, and what it wants done |
//! | `state` | the state machine, one for each node |
//! | `work` | database, logs and link around it |
//! | `away` | what becomes of tasks whose node is away |
//! | `late` | what still comes of those that were given up |
//! | `ending` | the end of a task |
//! | `intents` | what is written before a node hears of a task |
//! | `store` | the database |
//! | `catalogue` | what a node offers, while it comes |
//! | `view` | what can be seen of a node |
//! | `fleet` | [`Fleet`]: the nodes by name |
//! | `lines` | their connections |
//! | `by_people` | nodes are drained and forgotten, tasks given up |
//! | `answer` | what a node hears of tasks that are not on its desk |
//! | `scripts` | what nodes offer, as lists show it |
//! | `runner` | hands tasks to the nodes that they mean |
//! | `attend` | lets tasks go on that wait for a node |
//! | `stats` | the fleet in numbers |

mod answer;
mod attend;
mod away;
mod by_people;
mod catalogue;
mod door;
mod ending;
mod event;
mod fleet;
mod intents;
mod late;
mod lines;
mod runner;
mod scripts;
mod state;
mod stats;
mod store;
mod view;
mod work;

pub use by_people::{AbandonError, DrainError, ForgetError};
pub use event::{Action, Event};
pub use fleet::{Fleet, FleetError};
pub use scripts::{NodeScript, ScriptVersion, Whose};
pub use state::Desk;
pub use stats::FleetStats;
pub use store::StoreError;
pub use view::NodeEntry;
