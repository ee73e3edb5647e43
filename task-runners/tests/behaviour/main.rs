//! Tasks as an embedding program sees them: specs, runners, and scripts that are verified or not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod described;
mod examples;
mod header;
mod heavy;
mod listing;
mod place;
mod probe;
mod reaching_out;
mod runners;
mod specs;
mod validation;
mod verification;
mod watching;
