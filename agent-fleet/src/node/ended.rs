//! How a node's connection ended, and how long it waits before the next one.

use std::time::Duration;

use super::dial::Failure;
use crate::keys::Nonce;

/// Longest wait before the first try after a connection that worked, and before all others.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONG_WAIT: Duration = Duration::from_secs(15);
/// Longest wait where tasks are not settled: somebody waits for their logs and ends.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// How a connection came to its end.
pub(super) enum Ended {
    /// It had worked.
    Cut(String),
    /// It never did.
    Failed(Failure),
}

impl Ended {
    /// How long to wait before the next try.
    pub(super) fn wait(&self, is_busy: bool) -> Duration {
        match self {
            Self::Failed(Failure::Refused(_)) => LONG_WAIT + spread(FIRST_WAIT),
            _ if is_busy => spread(BUSY_WAIT),
            Self::Cut(_) => spread(FIRST_WAIT),
            Self::Failed(Failure::Away(_)) => spread(LONG_WAIT),
        }
    }
}

/// A time up to `most`, spread evenly.
fn spread(most: Duration) -> Duration {
    // Without random bytes all nodes would come at once, which is no reason not to come.
    let random = Nonce::random().map_or(u8::MAX, |nonce| nonce.0[0]);
    most.mul_f64(f64::from(random) / f64::from(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 20_000;
    const PARTS: u32 = 10;

    /// Waits all lie between these seconds, in each tenth of them about as many.
    fn is_spread(what: &str, from: u64, to: u64, wait: impl Fn() -> Duration) {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        let part = (to - from) / PARTS;
        let mut counts = [0_u32; PARTS as usize];
        for _ in 0..DRAWS {
            let wait = wait();
            assert!((from..=to).contains(&wait), "{what}: {wait:?}");
            let is_in = |part_to: u32| wait <= from + part * (part_to + 1);
            counts[(0..PARTS).position(is_in).unwrap_or_default()] += 1;
        }
        let expected = DRAWS / PARTS;
        // 256 values do not divide by ten, and what is left to chance is a tenth of this.
        let is_even = counts.iter().all(|count| expected.abs_diff(*count) < expected / 4);
        assert!(is_even, "{what}: {counts:?}");
    }

    #[test]
    fn each_wait_is_spread_evenly_and_ends() {
        let cut = || Ended::Cut(String::new());
        let away = || Ended::Failed(Failure::Away(String::new()));
        let refused = || Ended::Failed(Failure::Refused(String::new()));
        is_spread("the first try after a cut", 0, 3, || cut().wait(false));
        is_spread("each later one", 0, 15, || away().wait(false));
        is_spread("the first where tasks are open", 0, 2, || cut().wait(true));
        is_spread("each later one there", 0, 2, || away().wait(true));
        for is_busy in [false, true] {
            is_spread("after a refusal", 15, 18, || refused().wait(is_busy));
        }
    }
}
