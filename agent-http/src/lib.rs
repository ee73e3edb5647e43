//! The agent as an HTTP service: an API server for people and programs on top of the task service.
//!
//! | module | what it holds |
//! |---|---|
//! | `agent` | [`Agent`]: everything behind the routes, opened from the settings and stopped in order |
//! | `app` | the router, its layers, and what the handlers share |
//! | `routes` | one resource a file; each lists its paths |
//! | `server` | [`Server`]: the accept loop and its limits; [`LocalSocket`] |
//! | `peer` | who is at the other end of a connection, and which users tokens list |
//! | `tls` | [`Tls`]: certificate and key, which can change while the service runs |
//! | `hosts`, `tokens`, `auth`, `body`, `query` | what a request passes before its handler acts |
//! | `hooks` | which hooks there are, whether a request is signed for one, and what it asks for |
//! | `right` | what ends an answer that is under way when its caller loses the right to it |
//! | `json`, `etag` | answers in JSON, and those that a caller has already |
//! | `error` | what a refused request is answered with; the one place that maps to a status |
//! | `schema`, `script_operation` | what the API's description says of types and of single scripts |
//! | `node` | this agent as a node of another API server |
//! | `metrics`, `background` | measurements, and what goes on beside the requests |

mod agent;
mod app;
mod audit;
mod auth;
mod background;
mod body;
mod error;
mod etag;
mod first_token;
mod glob;
mod hooks;
mod hosts;
mod json;
mod metrics;
mod node;
mod outermost;
mod peer;
mod query;
mod rate;
mod right;
mod routes;
mod schema;
mod script_operation;
mod server;
mod tls;
mod tokens;

pub use agent::{AccessError, Agent, AgentError, Host, address};
pub use first_token::FirstTokenError;
pub use hooks::{HookError, check_hooks};
pub use node::check_node;
pub use peer::{PeerError, check_peers};
pub use server::{LocalSocket, Server, ServerLimits, SocketError};
pub use tls::{Tls, TlsError};
