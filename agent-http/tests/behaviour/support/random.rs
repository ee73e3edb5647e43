//! Numbers that are random enough for moments (Numerical Recipes' linear congruential generator).

use std::time::{SystemTime, UNIX_EPOCH};

/// Such numbers, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Others each time; the seed is printed, and can be given by the environment's `STORM_SEED`.
    pub(crate) fn new() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let given =
            std::env::var("STORM_SEED").ok().map(|seed| seed.parse().expect("STORM_SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from(nanos));
        println!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
