//! Wakes a supervising thread that waits in poll(2): an eventfd(2), and a task waker on top of it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Wake;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Becomes readable when woken. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct WakeUp(Arc<EventFd>);

thread_local! {
    static OF_THREAD: RefCell<Option<WakeUp>> = const { RefCell::new(None) };
}

impl WakeUp {
    /// The calling thread's own. One execution after the other uses it, so it may be readable because of one that has
    /// ended: being woken is a reason to look, and tells nothing by itself.
    pub(crate) fn of_thread() -> io::Result<Self> {
        OF_THREAD.with_borrow_mut(|kept| match kept {
            Some(kept) => Ok(kept.clone()),
            None => Ok(kept.insert(Self::new()?).clone()),
        })
    }

    fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Makes the descriptor readable.
    pub(crate) fn wake(&self) {
        // It fails only when the counter is full, and then the descriptor is readable already.
        let _ = self.0.write(1);
    }

    /// Makes the descriptor unreadable until the next wake-up.
    pub(crate) fn clear(&self) {
        // It fails only when nobody woke it meanwhile.
        let _ = self.0.read();
    }

    /// A waker for futures that the supervising thread polls itself.
    pub(crate) fn waker(&self) -> std::task::Waker {
        Arc::new(FutureWaker(self.clone())).into()
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct FutureWaker(WakeUp);

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}
