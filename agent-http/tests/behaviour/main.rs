//! How the HTTP service behaves, through its one binary and its sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test may end it, as tests do"
)]

mod access;
mod again;
mod attempts;
mod audit;
mod bodies;
mod canary;
mod cancelling;
mod catalogue;
mod conditional;
mod contract;
mod curl;
mod description;
mod documentation;
mod draining;
#[path = "../../../agent-cli/tests/behaviour/examples.rs"]
mod examples;
mod hanging_up;
mod heavy;
mod hooks;
mod hosts;
mod limits;
mod listing;
mod local;
mod logging;
mod logs;
mod losing;
mod measuring;
mod names;
mod nodes;
mod nodes_authenticity;
mod nodes_hosts;
mod nodes_proxy;
mod nodes_secrets;
mod nodes_storm;
mod nodes_tls;
#[path = "../../../task-runners/tests/behaviour/probe.rs"]
mod probe;
mod quota;
mod reloading;
mod starting;
mod submitting;
mod support;
mod tampering;
#[path = "../../../agent-cli/tests/behaviour/tampering/cases.rs"]
mod tampering_cases;
mod tls;
#[path = "../../../agent-config/tests/behaviour/trusted_folder.rs"]
mod trusted_folder;
mod verifying;
