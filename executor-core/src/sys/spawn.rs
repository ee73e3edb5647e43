//! The parent's side of a start: clone(2), clone3 and vfork(2). Parent and child share memory until the child
//! executes another program, so everything that the child needs is prepared here.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::fcntl::{FcntlArg, fcntl};

use super::KERNEL_SIGSET_BYTES;
use super::child::{FIRST_CLOSED_FD, Shared, child_entry};
use super::process::reap;

/// Stack of the child between clone and execve, bytes, lent from the parent's. Its functions are few and flat.
const CHILD_STACK_BYTES: usize = 32 << 10;

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
    /// Stays open in the child until it executes.
    pub(crate) keep: Option<BorrowedFd<'a>>,
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
    OwnDescriptors,
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
    let stdin = above_standard(plan.stdin)?;
    let output = above_standard(plan.output)?;
    let mut shared = Shared {
        program: plan.program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        work_dir: plan.work_dir.as_raw_fd(),
        stdin: raw(&stdin, plan.stdin),
        output: raw(&output, plan.output),
        first_not_copied: None,
        cgroup_procs: -1,
        new_session: plan.new_session,
        open_files: plan.open_files,
        step: AtomicI32::new(SpawnStep::Clone as i32),
        errno: AtomicI32::new(0),
    };
    let blocked = BlockedSignals::block();
    let cgroup = plan.cgroup.map(|(dir, _)| dir);
    let cloned = match plan.cgroup {
        Some((_, CgroupEntry::Write)) => clone_child(shared, cgroup),
        _ => {
            let highest = [shared.stdin, shared.output, plan.keep.map_or(-1, |fd| fd.as_raw_fd())];
            shared.first_not_copied = highest.into_iter().max().map(|fd| fd + 1);
            match finish(clone3_child(&shared, cgroup), &shared) {
                Err(error) if is_not_to_be_had(&error) => clone_child(shared, cgroup),
                other => other,
            }
        }
    };
    drop(blocked);
    cloned
}

/// Whether clone3, or the way in which a child made by it comes to descriptors of its own, is too new for this kernel or
/// not allowed here.
fn is_not_to_be_had(error: &SpawnError) -> bool {
    let errno = error.source.raw_os_error();
    match error.step {
        SpawnStep::Clone => matches!(errno, Some(libc::ENOSYS | libc::EPERM | libc::E2BIG)),
        SpawnStep::OwnDescriptors => true,
        _ => false,
    }
}

/// A copy above the standard descriptors of one that lies among them, as it does in a program that has closed its own:
/// the child would overwrite it before it is copied, or lose it when it executes.
fn above_standard(fd: BorrowedFd<'_>) -> Result<Option<OwnedFd>, SpawnError> {
    if fd.as_raw_fd() >= FIRST_CLOSED_FD {
        return Ok(None);
    }
    match fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST_CLOSED_FD)) {
        // SAFETY: the kernel has just made it, and nobody else owns it.
        Ok(copy) => Ok(Some(unsafe { OwnedFd::from_raw_fd(copy) })),
        Err(error) => Err(SpawnError { step: SpawnStep::Descriptors, source: error.into() }),
    }
}

fn raw(copy: &Option<OwnedFd>, original: BorrowedFd<'_>) -> RawFd {
    copy.as_ref().map_or(original.as_raw_fd(), AsRawFd::as_raw_fd)
}

/// The child by clone3, straight into its cgroup.
#[cfg(target_arch = "x86_64")]
fn clone3_child(shared: &Shared, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let mut stack = [MaybeUninit::<u8>::uninit(); CHILD_STACK_BYTES];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_FILES;
    let flags = flags as u64 | CLONE_CLEAR_SIGHAND;
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
    shared.first_not_copied = None;
    shared.errno = AtomicI32::new(0);
    let procs = cgroup.map(open_cgroup_procs).transpose();
    let procs = procs.map_err(|source| SpawnError { step: SpawnStep::Cgroup, source })?;
    shared.cgroup_procs = procs.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let mut stack = [MaybeUninit::<u8>::uninit(); CHILD_STACK_BYTES];
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
            // What it ended with is known.
            let _ = reap(child.pidfd.as_fd());
            let step = STEPS[shared.step.load(Ordering::SeqCst) as usize];
            Err(SpawnError { step, source: io::Error::from_raw_os_error(errno) })
        }
    }
}

const STEPS: [SpawnStep; 8] = [
    SpawnStep::Clone,
    SpawnStep::Cgroup,
    SpawnStep::Session,
    SpawnStep::OwnDescriptors,
    SpawnStep::Descriptors,
    SpawnStep::Limits,
    SpawnStep::WorkDir,
    SpawnStep::Execute,
];

fn null_terminated(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptors_among_the_standard_ones_are_copied_and_to_above_them() {
        let copy = above_standard(io::stdin().as_fd()).unwrap().expect("descriptor 0 is a standard one");
        assert!(copy.as_raw_fd() >= FIRST_CLOSED_FD);
        assert!(above_standard(copy.as_fd()).unwrap().is_none());
    }
}
