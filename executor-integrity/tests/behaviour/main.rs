//! What the crate promises, shown through its public interface on real folders, one module a behaviour.
//!
//! `minisign`, `sha256sum` and `strace` are the real programs: `apt-get install minisign coreutils strace`.
// The helpers of tests fail as tests do, and tell which tier they ran in.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod durability;
mod example;
mod formats;
mod manifests;
mod modes;
mod pins;
mod properties;
mod race;
mod ratchet;
mod signatures;
mod snapshots;
mod support;
mod tampering;
mod unprivileged;
