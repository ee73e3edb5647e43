//! Runs a script as a supervised process tree and records what it did.

mod policy;

pub use policy::Leftovers;
