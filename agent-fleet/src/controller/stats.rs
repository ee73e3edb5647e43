//! The fleet in numbers, for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::fleet::Fleet;

/// The fleet in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetStats {
    /// Nodes that have ever connected.
    pub known: usize,
    /// Those that are connected.
    pub connected: usize,
    /// Those that take no new tasks.
    pub draining: usize,
    /// Tasks that are handed to nodes and have not ended here.
    pub handed: usize,
    /// Connections that were let in since this agent was started.
    pub connections: u64,
    /// Those that were not, by code.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Assignments that were sent, repetitions too.
    pub assignments: u64,
    /// Bytes of logs that came, repetitions too.
    pub log_bytes: u64,
    /// Tasks that were given up.
    pub given_up: u64,
}

/// Why API servers let nobody in. What has not happened yet is zero, and not absent.
const REFUSALS: [&str; 7] =
    [CROWDED, SILENT, "version", "malformed", "key_unproven", "node_name", "node_key_changed"];
/// The code where too many connections of one name are greeted already.
pub(super) const CROWDED: &str = "crowded";
/// The code where the challenge was not answered in time.
pub(super) const SILENT: &str = "silent";

/// What is counted while it happens.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) connections: AtomicU64,
    pub(super) assignments: AtomicU64,
    pub(super) log_bytes: AtomicU64,
    pub(super) given_up: AtomicU64,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

impl Default for Counts {
    fn default() -> Self {
        let (connections, assignments, log_bytes, given_up) = Default::default();
        let refusals = Mutex::new(REFUSALS.into_iter().map(|code| (code, 0)).collect());
        Self { connections, assignments, log_bytes, given_up, refusals }
    }
}

impl Counts {
    pub(super) fn refused(&self, code: &'static str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }
}

/// Counts something.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

impl Fleet {
    /// The fleet in numbers, as they stand.
    pub fn stats(&self) -> FleetStats {
        let counts = &self.inner.counts;
        let counted = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut stats = FleetStats {
            connections: counted(&counts.connections),
            assignments: counted(&counts.assignments),
            log_bytes: counted(&counts.log_bytes),
            given_up: counted(&counts.given_up),
            refusals: counts.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ..FleetStats::default()
        };
        for seat in self.inner.seats().values() {
            let view = seat.view();
            stats.known += 1;
            stats.connected += usize::from(view.connected.is_some());
            stats.draining += usize::from(view.is_draining);
            stats.handed += view.tasks.len();
        }
        stats
    }
}
