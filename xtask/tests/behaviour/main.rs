//! The command as people call it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends, in helpers too")]

mod commands;
mod running_tests;
