//! The child's side of a start, between clone and execve: it shares its parent's memory, so it must not allocate,
//! lock, or touch anything that the parent did not prepare (vfork(2)).

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use super::KERNEL_SIGSET_BYTES;
use super::spawn::SpawnStep;

/// Signal numbers that Linux knows, 1 to 64 (signal(7)).
const SIGNALS: c_int = 64;
/// Lowest descriptor that a script does not get.
pub(super) const FIRST_CLOSED_FD: RawFd = 3;
/// What is closed one by one where close_range(2) is not allowed.
const FALLBACK_CLOSED_FDS: RawFd = 65_536;

/// What the child reads and writes; it lives in the parent's frame, which is suspended meanwhile.
pub(super) struct Shared {
    pub(super) program: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) work_dir: RawFd,
    pub(super) stdin: RawFd,
    pub(super) output: RawFd,
    /// Where the child shares its parent's table of descriptors: the lowest that it needs no copy of.
    pub(super) first_not_copied: Option<RawFd>,
    pub(super) cgroup_procs: RawFd,
    pub(super) new_session: bool,
    pub(super) open_files: Option<(u64, u64)>,
    pub(super) step: AtomicI32,
    pub(super) errno: AtomicI32,
}

/// Where the child begins. Never returns: it executes, or ends with the failed step noted.
pub(super) extern "C" fn child_entry(shared: *mut c_void) -> c_int {
    // SAFETY: the parent passed a pointer to a `Shared` in its own, suspended frame.
    let shared = unsafe { &*shared.cast::<Shared>() };
    let (step, errno) = child_main(shared);
    shared.step.store(step as i32, Ordering::SeqCst);
    shared.errno.store(errno, Ordering::SeqCst);
    // SAFETY: ends the child alone, without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Brings the child to executing its program; returns only the step that failed, with its error number.
fn child_main(shared: &Shared) -> (SpawnStep, c_int) {
    // SAFETY: only system calls on values that the parent prepared, all allowed between vfork and exec. `errno`
    // lies in the suspended parent thread's own storage.
    unsafe {
        if shared.cgroup_procs >= 0 && libc::write(shared.cgroup_procs, c"0".as_ptr().cast(), 1) != 1 {
            return (SpawnStep::Cgroup, errno());
        }
        default_signals();
        if shared.new_session && libc::setsid() < 0 {
            return (SpawnStep::Session, errno());
        }
        libc::umask(0o022);
        if let Some((soft, hard)) = shared.open_files {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) < 0 {
                return (SpawnStep::Limits, errno());
            }
        }
        if libc::fchdir(shared.work_dir) < 0 {
            return (SpawnStep::WorkDir, errno());
        }
        if let Some(first) = shared.first_not_copied
            && own_descriptors(first) < 0
        {
            return (SpawnStep::OwnDescriptors, errno());
        }
        // Both lie above 2, so neither is overwritten before it is copied.
        for (from, to) in [(shared.stdin, 0), (shared.output, 1), (shared.output, 2)] {
            if libc::dup2(from, to) < 0 {
                return (SpawnStep::Descriptors, errno());
            }
        }
        close_others();
        unblock_signals();
        libc::execve(shared.program, shared.argv, shared.envp);
        (SpawnStep::Execute, errno())
    }
}

/// Every signal to its default: what the agent or its embedder ignores, the script must not.
unsafe fn default_signals() {
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, empty mask. The C library's wrapper refuses the
    // two signals that it keeps for itself.
    let action = [0u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: a valid action of the kernel's layout; KILL and STOP are refused, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<u64>(),
                KERNEL_SIGSET_BYTES,
            )
        };
    }
}

unsafe fn unblock_signals() {
    let none = 0u64;
    // SAFETY: a valid set of the kernel's size.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null::<u64>(),
            KERNEL_SIGSET_BYTES,
        )
    };
}

/// Turns the table of descriptors that the parent shares into one of the child's own, without those from `first` on: a
/// copy of the whole, that is thrown away a moment later, costs more the more an agent has open (close_range(2),
/// CLOSE_RANGE_UNSHARE). Nothing is closed in the parent.
unsafe fn own_descriptors(first: RawFd) -> libc::c_long {
    // SAFETY: only this child's table changes; all that it still needs lies below `first`.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    }
}

/// Makes every descriptor above 2 close, whoever opened it, when the program is executed (close_range(2), Linux 5.11)
/// and not before: the agent's lock among them tells a recovery that this child is not marked yet. Where that is not to
/// be had they are closed now.
unsafe fn close_others() {
    let close_range = |flags: libc::c_uint| {
        // SAFETY: the child's table is its own copy; nothing in it is used any more.
        unsafe {
            libc::syscall(libc::SYS_close_range, FIRST_CLOSED_FD as libc::c_uint, libc::c_uint::MAX, flags)
        }
    };
    if close_range(libc::CLOSE_RANGE_CLOEXEC) < 0 && close_range(0) < 0 {
        for fd in FIRST_CLOSED_FD..FALLBACK_CLOSED_FDS {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's own location, valid in every thread.
    unsafe { *libc::__errno_location() }
}
