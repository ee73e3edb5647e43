//! How the allocator keeps memory; the one file here with unsafe code.
#![allow(unsafe_code)]

/// Has the heap in one part for each processor. glibc would make eight for each, and gives them to threads in turns: each keeps
/// what hundreds of callers held once that all read slowly.
///
/// Must be called before there is a second thread: those that have begun keep their part (mallopt(3)).
pub(crate) fn divide_the_heap_less() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(processors).unwrap_or(libc::c_int::MAX);
        // SAFETY: it takes two numbers, and there is one thread. That it fails costs memory only.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
        }
    }
}
