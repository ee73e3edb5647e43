//! How the allocator keeps memory; the one file here with unsafe code.
#![allow(unsafe_code)]

/// Parts of its heap that glibc gives to threads in turns.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Has all threads share a small heap. glibc would make eight parts for each processor, of which each keeps what hundreds of
/// callers held once that all read slowly; nothing in here allocates so often that threads would wait for one another.
///
/// Must be called before there is a second thread: those that have begun keep their part (mallopt(3)).
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and there is one thread. That it fails costs memory only.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
