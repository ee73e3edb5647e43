//! The time by which waiting tasks become due: that of the host, or one that a test moves by hand.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use task_runners::retry::MAX_RETRY_DELAY;

/// What time it is to the service. Time limits of running tasks do not go by it.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

/// A clock that stands still until it is advanced, for tests that must not wait. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Manual>);

struct Manual {
    start: Moment,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    advanced: Duration,
    wake: Option<Box<dyn Fn() + Send>>,
}

/// One moment on both clocks: the one that only goes forward, and the one that outlives a restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) wall: Timestamp,
}

impl Moment {
    /// The same moment later.
    pub(crate) fn after(self, time: Duration) -> Self {
        let wall = SignedDuration::try_from(time).ok().and_then(|time| self.wall.checked_add(time).ok());
        Self { instant: self.instant + time, wall: wall.unwrap_or(Timestamp::MAX) }
    }

    /// When it will be so late on the wall. That clock may have been set back meanwhile: nothing waits longer than the
    /// longest wait.
    pub(crate) fn instant_of(self, wall: Timestamp) -> Instant {
        let left = Duration::try_from(wall.duration_since(self.wall)).unwrap_or(Duration::ZERO);
        self.instant + left.min(MAX_RETRY_DELAY)
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Moment {
        match &self.0 {
            None => Moment { instant: Instant::now(), wall: Timestamp::now() },
            Some(manual) => manual.start.after(manual.state().advanced),
        }
    }

    /// How long it is until then; none where only a hand moves the clock.
    pub(crate) fn until(&self, at: Instant) -> Option<Duration> {
        match &self.0 {
            None => Some(at.saturating_duration_since(Instant::now())),
            Some(_) => None,
        }
    }

    /// Calls `wake` whenever the clock was moved by hand.
    pub(crate) fn on_advance(&self, wake: impl Fn() + Send + 'static) {
        if let Some(manual) = &self.0 {
            manual.state().wake = Some(Box::new(wake));
        }
    }
}

impl ManualClock {
    /// A clock that shows the time of this moment.
    #[expect(clippy::new_without_default, reason = "two of them show different times")]
    pub fn new() -> Self {
        let start = Clock::default().now();
        Self(Arc::new(Manual { start, state: Mutex::default() }))
    }

    /// What a service goes by.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.0.clone()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.state();
        state.advanced += by;
        if let Some(wake) = &state.wake {
            wake();
        }
    }
}

impl Manual {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manual").field("start", &self.start).finish_non_exhaustive()
    }
}
