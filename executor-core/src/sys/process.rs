//! Waiting for processes and signalling them, by number only where the number cannot be somebody else's.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
}

/// How the child behind the descriptor ended, without reaping it (waitid(2), WNOWAIT); none while it lives.
///
/// # Errors
/// `ECHILD` when somebody else has reaped it, or when this process ignores SIGCHLD.
pub(crate) fn peek_end(pidfd: BorrowedFd<'_>) -> io::Result<Option<End>> {
    // SAFETY: all zero is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let fd = pidfd.as_raw_fd() as libc::id_t;
    // SAFETY: a descriptor that is open for the call's duration, and a valid place for the answer.
    if unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid has filled these fields, or left them zero when nothing has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(match info.si_code {
        libc::CLD_EXITED => End::Exited(status),
        _ => End::Signaled(status),
    }))
}

/// Whether this process has told the kernel to forget its children at once (wait(2), "Linux notes"): how they
/// ended cannot be learnt then.
pub(crate) fn ignores_children() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks, and gives a valid place for the answer; zero is a valid `sigaction`.
    let action = unsafe {
        libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0
}

/// What a reaped child ended with and used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_kib: u64,
}

/// Reaps the child behind the descriptor once it has ended, and gives what it used (waitid(2); the system call has a
/// fifth parameter that wait4(2) has too). Its number is free for others from then on.
///
/// # Errors
/// `ECHILD` when somebody else has reaped it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: a descriptor that is open for the call's duration, and pointers to values of the right types.
        let reaped = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                pidfd.as_raw_fd(),
                info.as_mut_ptr(),
                libc::WEXITED | libc::__WALL,
                usage.as_mut_ptr(),
            )
        };
        if reaped == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: zero is a valid `rusage`, and the kernel has filled it.
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
