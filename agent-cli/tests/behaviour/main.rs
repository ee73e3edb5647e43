//! How the command line, and the scripts that ship with the agent, behave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may end the test")]

mod arguments;
#[path = "../../../agent-http/tests/behaviour/support/authority.rs"]
mod authority;
mod beside;
mod catalogue;
mod client;
mod completion;
mod configuration;
mod debug_script;
mod described;
mod documentation;
mod dry_run;
mod examples;
mod exit_codes;
mod help;
mod input;
mod lint;
mod local;
mod manifest;
mod manual;
mod new;
mod nodes;
mod output;
#[path = "../../../task-runners/tests/behaviour/probe.rs"]
mod probe;
mod prompting;
mod reconnecting;
mod record;
mod secrets;
mod served;
mod service;
mod shipped_scripts;
mod signals;
mod support;
mod tampering;
mod terminal;
mod tls;
mod token;
