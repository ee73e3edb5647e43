//! The only unsafe code of this crate: starting a process at vfork speed in a cgroup, and the few system calls
//! that no library at hand wraps. Everything else talks to the kernel through `nix`.
#![allow(unsafe_code)]

mod child;
mod process;
mod spawn;

pub(crate) use process::{End, Reaped, ignores_children, peek_end, pidfd_open, pidfd_send_signal, reap};
pub(crate) use spawn::{CgroupEntry, ChildPlan, SpawnError, SpawnStep, Spawned, spawn};

/// Size of the kernel's own signal set, bytes (rt_sigprocmask(2)).
const KERNEL_SIGSET_BYTES: usize = 8;
