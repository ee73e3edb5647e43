//! Tells one state of a file from another without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// Times of files are as coarse as the kernel's tick, 10 ms at most: a file that changed so shortly before it was looked
/// at may change again without showing it. What git calls racy.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_millis(50);
/// The same where the file system counts whole seconds, or two of them.
const SETTLED_AFTER_COARSE: Duration = Duration::from_millis(2_100);

/// A file as it was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    state: State,
    is_settled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// The kernel sets it at every change of content, mode and owner; nobody can set it back.
    changed: (i64, i64),
    mode: u32,
    owner: u32,
}

impl Identity {
    /// Of a file that was looked at `now`.
    pub(crate) fn of(metadata: &Metadata, now: SystemTime) -> Self {
        let state = State {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
            owner: metadata.uid(),
        };
        Self { state, is_settled: is_settled(state.changed, now) }
    }

    /// Whether a file that looks like `now` is surely as it was when this was taken.
    pub(crate) fn is_still(&self, now: &Self) -> bool {
        self.is_settled && self.state == now.state
    }

    /// Whether any later change will show.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Has every later look take it for changed.
    pub(crate) fn doubt(&mut self) {
        self.is_settled = false;
    }
}

/// Whether the last change is long enough ago. One from the future, since the clock was set back, never is.
fn is_settled((seconds, nanoseconds): (i64, i64), now: SystemTime) -> bool {
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
    let margin = if nanoseconds == 0 { SETTLED_AFTER_COARSE } else { SETTLED_AFTER };
    now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|now| now > since + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_long_enough_ago_will_show_a_further_change() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert!(!is_settled((10, 5_000_000), at(10_054)));
        assert!(is_settled((10, 5_000_000), at(10_056)));
        // A time without a fraction may be one of whole seconds.
        assert!(!is_settled((10, 0), at(12_000)));
        assert!(is_settled((10, 0), at(12_101)));
        // The clock was set back.
        assert!(!is_settled((11, 1), at(10_000)));
    }
}
