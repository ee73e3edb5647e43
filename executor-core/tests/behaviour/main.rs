//! How the engine behaves, seen through its public interface: real scripts, real processes, temporary folders.
//! One module for each behaviour; `bench` holds what they share.
// Helpers outside of test functions may stop a test as test functions do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod bench;
mod helper;

mod arguments;
mod attempts;
mod banners;
mod broken_scripts;
mod callbacks;
mod cancelling;
mod clean_end;
mod clock;
mod containment;
mod defects;
mod descriptors;
mod disk_faults;
mod durability;
mod environment;
mod examples;
mod exhaustion;
mod folder_bytes;
mod followers;
mod fresh_scripts;
mod links;
mod log_lines;
mod mirrors;
mod orphans;
mod output;
mod output_params;
mod process_numbers;
mod recorders;
mod recovery;
mod removal;
mod secrets;
mod traversal;
mod workspaces;
