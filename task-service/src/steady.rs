//! A clock on the wall that makes no long step forward: what removes by age must not remove everything because that clock is
//! far ahead for a moment.

use std::sync::OnceLock;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// The longest step that is followed at once.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// What the clock on the wall showed when it was looked at first, and when that was.
#[derive(Debug, Default)]
pub struct Steady(OnceLock<(Timestamp, Instant)>);

impl Steady {
    /// The time by which something may be removed that is old: what the clock shows now, and no more than an hour beyond what it
    /// would show had it gone steadily since it was looked at first.
    pub fn trusted(&self, wall: Timestamp) -> Timestamp {
        let (first, at) = *self.0.get_or_init(|| (wall, Instant::now()));
        let passed = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX);
        let most = first.saturating_add(passed.saturating_add(LONGEST)).unwrap_or(Timestamp::MAX);
        wall.min(most)
    }
}
