//! Tasks as an embedding program sees them: specs, runners, and scripts that are verified or not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod examples;
mod heavy;
mod listing;
mod place;
mod runners;
mod specs;
mod verification;
