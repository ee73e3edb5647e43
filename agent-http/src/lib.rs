//! The agent as an HTTP service: an API server for people and programs on top of the task service.
//!
//! | module | what it holds |
//! |---|---|
//! | `agent` | [`Agent`]: everything behind the routes, opened from the settings and stopped in order |
//! | `app` | the router, its layers, and what the handlers share |
//! | `routes` | one resource a file; each lists its paths |
//! | `server` | [`Server`]: the accept loop and its limits |
//! | `tls` | [`Tls`]: certificate and key, which can change while the service runs |
//! | `hosts`, `auth`, `body`, `query` | what a request passes before its handler acts |
//! | `json` | answers in JSON |
//! | `error` | what a refused request is answered with; the one place that maps to a status |
//! | `schema`, `script_operation` | what the API's description says of types and of single scripts |
//! | `metrics`, `background` | measurements, and what goes on beside the requests |

mod agent;
mod app;
mod audit;
mod auth;
mod background;
mod body;
mod error;
mod first_token;
mod glob;
mod hosts;
mod json;
mod metrics;
mod outermost;
mod query;
mod rate;
mod routes;
mod schema;
mod script_operation;
mod server;
mod tls;

pub use agent::{Agent, AgentError, Host, ReloadError, address};
pub use first_token::FirstTokenError;
pub use server::{Server, ServerLimits};
pub use tls::{Tls, TlsError};
