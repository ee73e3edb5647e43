//! How often a token may call: a bucket that fills by the minute (the token bucket of RFC 2697, with one rate). A call takes
//! one from it; whoever finds it empty is told when to come back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The calls of one token.
#[derive(Debug)]
pub(crate) struct Rate {
    per_minute: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    /// So many calls a minute, and as many at once after a pause.
    pub(crate) fn per_minute(calls: u32, now: Instant) -> Self {
        let calls = f64::from(calls);
        Self { per_minute: calls, bucket: Mutex::new(Bucket { left: calls, at: now }) }
    }

    /// Takes one call.
    ///
    /// # Errors
    /// None is left; the time until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * self.per_minute / 60.0).min(self.per_minute);
        bucket.at = bucket.at.max(now);
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / self.per_minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_gives_so_many_calls_however_they_are_spread() {
        let began = Instant::now();
        let at = |millis: u64| began + Duration::from_millis(millis);
        let rate = Rate::per_minute(60, began);
        assert_eq!((0..100).filter(|_| rate.take(at(0)).is_ok()).count(), 60);
        let wait = rate.take(at(250)).unwrap_err();
        assert!((wait.as_secs_f64() - 0.75).abs() < 1e-6, "{wait:?}");
        assert!(rate.take(at(250) + wait).is_ok());
        // Whoever asks all the time gets one a second.
        let taken = (1..=10_000).filter(|tick| rate.take(at(1000 + tick)).is_ok()).count();
        assert!((9..=10).contains(&taken), "{taken}");
        // A clock that was read earlier gives nothing back, and a pause no more than a minute's.
        assert!(rate.take(at(500)).is_err());
        assert_eq!((0..100).filter(|_| rate.take(at(10_000_000)).is_ok()).count(), 60);
    }
}
