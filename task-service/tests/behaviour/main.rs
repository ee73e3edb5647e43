//! The behaviour of the task service, seen through its public interface. Each module is one behaviour.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod backups;
mod cancelling;
mod changes;
mod crash;
mod damage;
mod disk;
mod draining;
mod elsewhere;
mod group_commit;
mod lanes;
mod logs;
mod paging;
mod power_loss;
mod queue;
mod restart;
mod restarted_attempts;
mod retention;
mod retries;
mod scripts;
mod searching;
mod secrets;
mod submission;
mod support;
mod workspaces;
