//! How the command line, and the scripts that ship with the agent, behave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may end the test")]

mod shipped_scripts;
