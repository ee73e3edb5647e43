//! The only unsafe code of this crate: starting a process at vfork speed in a cgroup, and the few system calls
//! that no library at hand wraps. Everything else talks to the kernel through `nix`.
//!
//! The start follows clone(2), clone3 and vfork(2): parent and child share memory until the child executes
//! another program, so the child must not allocate, lock, or touch anything that the parent did not prepare.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Stack of the child between clone and execve, bytes. Its functions are few and flat.
const CHILD_STACK_BYTES: usize = 64 << 10;
/// Signal numbers that Linux knows, 1 to 64 (signal(7)).
const SIGNALS: c_int = 64;
/// Size of the kernel's own signal set, bytes (rt_sigprocmask(2)).
const KERNEL_SIGSET_BYTES: usize = 8;
/// Lowest descriptor that a script does not get.
const FIRST_CLOSED_FD: libc::c_uint = 3;
/// What is closed one by one where close_range(2) is not allowed.
const FALLBACK_CLOSED_FDS: RawFd = 65_536;

/// Everything that the child needs, prepared by the parent.
#[derive(Debug)]
pub(crate) struct ChildPlan<'a> {
    /// What is executed, an absolute path.
    pub(crate) program: &'a CStr,
    /// Arguments with the program's own name first, without the closing null.
    pub(crate) argv: &'a [&'a CStr],
    /// Environment as `NAME=value`.
    pub(crate) envp: &'a [&'a CStr],
    /// The working folder.
    pub(crate) work_dir: BorrowedFd<'a>,
    /// Becomes descriptor 0.
    pub(crate) stdin: BorrowedFd<'a>,
    /// Becomes descriptors 1 and 2.
    pub(crate) output: BorrowedFd<'a>,
    /// The cgroup to start in, a folder of cgroup version 2, and how to get there.
    pub(crate) cgroup: Option<(BorrowedFd<'a>, CgroupEntry)>,
    /// Whether to start a session, and with it a process group, of its own.
    pub(crate) new_session: bool,
    /// Soft and hard limit of open files, where the agent changed its own.
    pub(crate) open_files: Option<(u64, u64)>,
}

/// How a child gets into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupEntry {
    /// Born in it (clone3 with CLONE_INTO_CGROUP): the fastest way, and no moment outside.
    Clone,
    /// It enters by itself before it executes anything.
    Write,
}

/// A child that has executed its program.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// The step that failed in the child, for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnStep {
    Clone,
    Cgroup,
    Session,
    Descriptors,
    Limits,
    WorkDir,
    Execute,
}

/// A start that failed, with the step.
#[derive(Debug)]
pub(crate) struct SpawnError {
    pub(crate) step: SpawnStep,
    pub(crate) source: io::Error,
}

/// What the child reads and writes; it lives in the parent's frame, which is suspended meanwhile.
struct Shared {
    program: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    work_dir: RawFd,
    stdin: RawFd,
    output: RawFd,
    cgroup_procs: RawFd,
    new_session: bool,
    open_files: Option<(u64, u64)>,
    step: AtomicI32,
    errno: AtomicI32,
}

/// `struct clone_args` of clone3 (clone(2)), version 2 with `cgroup`.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a child and returns once it has executed its program.
///
/// # Errors
/// When the child could not be made, or could not be brought to executing the program; no child is left then.
pub(crate) fn spawn(plan: &ChildPlan<'_>) -> Result<Spawned, SpawnError> {
    let argv = null_terminated(plan.argv);
    let envp = null_terminated(plan.envp);
    let shared = Shared {
        program: plan.program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        work_dir: plan.work_dir.as_raw_fd(),
        stdin: plan.stdin.as_raw_fd(),
        output: plan.output.as_raw_fd(),
        cgroup_procs: -1,
        new_session: plan.new_session,
        open_files: plan.open_files,
        step: AtomicI32::new(SpawnStep::Clone as i32),
        errno: AtomicI32::new(0),
    };
    let blocked = BlockedSignals::block();
    let cloned = match plan.cgroup {
        Some((dir, CgroupEntry::Write)) => clone_child(shared, Some(dir)),
        cgroup => match clone3_child(&shared, cgroup.map(|(dir, _)| dir)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::E2BIG)) => {
                clone_child(shared, cgroup.map(|(dir, _)| dir))
            }
            other => finish(other, &shared),
        },
    };
    drop(blocked);
    cloned
}

/// The child by clone3, straight into its cgroup.
#[cfg(target_arch = "x86_64")]
fn clone3_child(shared: &Shared, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(CHILD_STACK_BYTES);
    let mut pidfd: c_int = -1;
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64 | CLONE_CLEAR_SIGHAND;
    // The top must be a multiple of 16 (System V ABI, AMD64, 3.2.2).
    let bottom = (stack.as_mut_ptr() as u64).next_multiple_of(16);
    let mut args = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: bottom,
        stack_size: (CHILD_STACK_BYTES - 16) as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let result: isize;
    // SAFETY: the kernel gets a valid `clone_args` of the size that is told. The child runs on its own stack, calls
    // `child_main` with a pointer to `shared`, and never returns from it; CLONE_VFORK suspends this thread until
    // the child has executed or ended, so all that the pointers lead to outlives its use. Registers that the
    // syscall instruction destroys are declared; the child's changes to registers are its own.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") std::ptr::from_ref(shared),
            in("r13") child_entry as extern "C" fn(*mut c_void) -> c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    drop(stack);
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-(result as i32)));
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a descriptor there that nobody else owns.
    Ok(Spawned { pid: result as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Elsewhere the start through the C library's clone(2) serves.
#[cfg(not(target_arch = "x86_64"))]
fn clone3_child(_: &Shared, _: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The child by clone(2), where clone3 is not to be had (other processors, container filters); it enters its cgroup
/// by itself, before it executes anything.
fn clone_child(mut shared: Shared, cgroup: Option<BorrowedFd<'_>>) -> Result<Spawned, SpawnError> {
    let procs = cgroup.map(open_cgroup_procs).transpose();
    let procs = procs.map_err(|source| SpawnError { step: SpawnStep::Cgroup, source })?;
    shared.cgroup_procs = procs.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(CHILD_STACK_BYTES);
    let mut pidfd: c_int = -1;
    let top = (stack.as_mut_ptr() as usize + CHILD_STACK_BYTES) & !15;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: as for clone3: own stack, a function that never returns, and this thread suspended until the child
    // has executed or ended. With CLONE_PIDFD the fifth argument is where the descriptor goes.
    let pid = unsafe {
        libc::clone(
            child_entry,
            top as *mut c_void,
            flags,
            (&raw const shared).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    drop(stack);
    let cloned = if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        // SAFETY: the kernel stored a descriptor there that nobody else owns.
        Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
    };
    finish(cloned, &shared)
}

fn open_cgroup_procs(cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::Mode;
    Ok(openat(cgroup, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Tells a child that executed from one that could not, and reaps the latter.
fn finish(cloned: io::Result<Spawned>, shared: &Shared) -> Result<Spawned, SpawnError> {
    let child = cloned.map_err(|source| SpawnError { step: SpawnStep::Clone, source })?;
    match shared.errno.load(Ordering::SeqCst) {
        0 => Ok(child),
        errno => {
            // It has ended and is ours alone, so its number cannot be somebody else's. What it ended with is known.
            let _ = reap(child.pid);
            let step = STEPS[shared.step.load(Ordering::SeqCst) as usize];
            Err(SpawnError { step, source: io::Error::from_raw_os_error(errno) })
        }
    }
}

const STEPS: [SpawnStep; 7] = [
    SpawnStep::Clone,
    SpawnStep::Cgroup,
    SpawnStep::Session,
    SpawnStep::Descriptors,
    SpawnStep::Limits,
    SpawnStep::WorkDir,
    SpawnStep::Execute,
];

fn null_terminated(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Where the child begins. Never returns: it executes, or ends with the failed step noted.
extern "C" fn child_entry(shared: *mut c_void) -> c_int {
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
        // All three lie above 2, so none is overwritten before it is copied.
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

/// Closes every descriptor above 2, whoever opened it.
unsafe fn close_others() {
    // SAFETY: the child's table is its own copy; nothing in it is used any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, FIRST_CLOSED_FD, libc::c_uint::MAX, 0) < 0 {
            for fd in FIRST_CLOSED_FD as RawFd..FALLBACK_CLOSED_FDS {
                libc::close(fd);
            }
        }
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's own location, valid in every thread.
    unsafe { *libc::__errno_location() }
}

/// All signals of this thread blocked, so that none is handled in the child; given back when dropped.
struct BlockedSignals(u64);

impl BlockedSignals {
    fn block() -> Self {
        let all = u64::MAX;
        let mut before = 0u64;
        // SAFETY: valid sets of the kernel's size. The C library's wrapper would leave its own two signals open.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const all,
                &raw mut before,
                KERNEL_SIGSET_BYTES,
            )
        };
        Self(before)
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set that `block` read.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const self.0,
                std::ptr::null::<u64>(),
                KERNEL_SIGSET_BYTES,
            )
        };
    }
}

/// What a reaped child ended with and used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_kib: u64,
}

/// Reaps a child that has ended, and gives what it used (wait4(2)). Its number is free for others from then on.
pub(crate) fn reap(pid: i32) -> io::Result<Reaped> {
    let mut status: c_int = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers lead to values of the right type in this frame.
        let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, usage.as_mut_ptr()) };
        if reaped == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: zero is a valid `rusage`, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    Ok(Reaped {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    })
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A descriptor of a live process (pidfd_open(2)).
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor that it returns is owned by nobody else.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// Sends a signal to the very process that the descriptor is of (pidfd_send_signal(2)).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open for the call's duration.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
