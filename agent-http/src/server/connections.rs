//! The table of open connections. When it is full, the connection goes that has been waiting for its header for longest;
//! where none waits, the one that has taken none of its bytes for longest, of those whose answer needed no token. Any other
//! whose request is being served never goes for another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// What stands in [`Shared::since`] while a request is served.
const SERVING: u64 = 0;
/// What stands there when the connection speaks another protocol by now, to its end.
const UPGRADED: u64 = u64::MAX - 2;
/// What stands there when the answer's body has ended and its last bytes are not known to be sent.
const FINISHING: u64 = u64::MAX;
/// What stands there when it has to go for another: it begins nothing any more.
const GOING: u64 = u64::MAX - 1;
/// What stands in [`Shared::stalled`] while bytes are taken, or there are none.
const MOVING: u64 = 0;
/// Time without a byte taken after which a caller stalls: whoever reads is seldom that slow.
const STALLED_AFTER: Duration = Duration::from_millis(100);

/// How many connections are open, by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenConnections {
    /// They wait for a header.
    pub(crate) waiting: usize,
    /// Their request is being served.
    pub(crate) serving: usize,
    /// Their answer has ended, and its last bytes are not known to be sent; or they have to go for another.
    pub(crate) finishing: usize,
}

/// The open connections.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    most: usize,
    /// Most connections that speak another protocol, which do not count among the others; and how many do.
    most_upgraded: usize,
    upgraded: AtomicUsize,
    open: Mutex<HashMap<u64, Arc<Shared>>>,
    /// Counts up; it numbers connections and orders the beginnings of their waits.
    clock: AtomicU64,
    changed: Notify,
    began: Instant,
}

/// What the table and the connection's own task share.
#[derive(Debug)]
struct Shared {
    /// Since when it waits for a header, by the table's clock.
    since: AtomicU64,
    /// Since when bytes wait that the caller does not take, in milliseconds of the table's time.
    stalled: AtomicU64,
    /// Whether what is answered needed a token: such an answer is nobody else's to end.
    is_for_somebody: AtomicBool,
    gone: CancellationToken,
}

/// A connection's place in the table. Dropped, it makes room.
#[derive(Debug)]
pub(super) struct Ticket {
    table: Arc<Table>,
    number: u64,
    shared: Arc<Shared>,
}

/// While it lives, the connection's request is being served.
#[derive(Debug)]
pub(super) struct Serving(Arc<Ticket>);

impl Connections {
    pub(super) fn new(most: usize, most_upgraded: usize) -> Self {
        let table = Table {
            most: most.max(1),
            most_upgraded,
            upgraded: AtomicUsize::new(0),
            open: Mutex::default(),
            clock: AtomicU64::new(SERVING),
            changed: Notify::new(),
            began: Instant::now(),
        };
        Self { table: Arc::new(table) }
    }

    /// Waits until there is room for one more, and sends one away where there is none.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.table.changed.notified();
            {
                let open = self.table.open();
                if open.len().saturating_sub(self.table.upgraded.load(Ordering::Relaxed)) < self.table.most {
                    return;
                }
                if !open.values().any(|shared| shared.since() == GOING) {
                    self.table.send_one_away(&open);
                }
            }
            // Woken, or to see who has stalled for long enough by now.
            let _ = timeout(STALLED_AFTER, changed).await;
        }
    }

    /// Enters a connection, which now waits for its first header.
    pub(super) fn enter(&self) -> Ticket {
        let number = self.table.tick();
        let shared = Arc::new(Shared {
            since: AtomicU64::new(number),
            stalled: AtomicU64::new(MOVING),
            is_for_somebody: AtomicBool::new(false),
            gone: CancellationToken::new(),
        });
        self.table.open().insert(number, shared.clone());
        Ticket { table: self.table.clone(), number, shared }
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> OpenConnections {
        let mut count = OpenConnections::default();
        for shared in self.table.open().values() {
            match shared.since() {
                SERVING | UPGRADED => count.serving += 1,
                FINISHING | GOING => count.finishing += 1,
                _ => count.waiting += 1,
            }
        }
        count
    }

    /// Waits until no connection is open.
    pub(super) async fn all_gone(&self) {
        loop {
            let changed = self.table.changed.notified();
            if self.table.open().is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Closes every connection, whatever it does.
    pub(super) fn close_all(&self) {
        self.table.open().values().for_each(|shared| shared.gone.cancel());
    }
}

impl Ticket {
    /// Waits until the connection has to go.
    pub(super) async fn told_to_go(&self) {
        self.shared.gone.cancelled().await;
    }

    /// Says that a request is being served from now on; none where the connection has to go already.
    pub(super) fn serving(self: &Arc<Self>) -> Option<Serving> {
        let begun = |since: u64| (since != GOING).then_some(SERVING);
        self.shared.since.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).ok()?;
        self.shared.is_for_somebody.store(false, Ordering::Relaxed);
        Some(Serving(self.clone()))
    }

    /// Says that every byte of what was answered is sent: the connection waits for the next header.
    pub(super) fn sent_all(&self) {
        if self.shared.since() == FINISHING && self.shared.turn(FINISHING, self.table.tick()) {
            // It may be the one that makes room.
            self.table.changed.notify_waiters();
        }
    }

    /// Says whether bytes wait that the caller does not take.
    pub(super) fn stalls(&self, does: bool) {
        let stalled = &self.shared.stalled;
        match (does, stalled.load(Ordering::Relaxed)) {
            (true, MOVING) => stalled.store(self.table.millis(), Ordering::Relaxed),
            (false, since) if since != MOVING => stalled.store(MOVING, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether no request has come by it yet.
    pub(super) fn waits_for_its_first(&self) -> bool {
        self.shared.since() == self.number
    }

    /// Whether it waits for a header, and nothing that was answered is still to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.is_waiting()
    }
}

impl Serving {
    /// Says that what is answered needed a token.
    pub(super) fn for_somebody(&self) {
        self.0.shared.is_for_somebody.store(true, Ordering::Relaxed);
    }

    /// Says that the connection speaks another protocol from now on. It never goes for another, and does not count among
    /// those of callers any more: thousands of nodes that stand there leave callers their places. Whether it may.
    pub(super) fn upgraded(&self) -> bool {
        let Table { upgraded, most_upgraded, changed, .. } = &*self.0.table;
        let one_more = |count: usize| (count < *most_upgraded).then_some(count + 1);
        let may = upgraded.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if may {
            self.0.shared.since.store(UPGRADED, Ordering::Relaxed);
            changed.notify_waiters();
        }
        may
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.open().remove(&self.number);
        if self.shared.since() == UPGRADED {
            self.table.upgraded.fetch_sub(1, Ordering::Relaxed);
        }
        self.table.changed.notify_waiters();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that was upgraded meanwhile is served on.
        self.0.shared.turn(SERVING, FINISHING);
    }
}

impl Shared {
    fn is_waiting(&self) -> bool {
        !matches!(self.since(), SERVING | UPGRADED | FINISHING | GOING)
    }

    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Changes one state into another, unless it is a third one by now.
    fn turn(&self, from: u64, to: u64) -> bool {
        self.since.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Since when it stalls, where that was before `long_ago` and it may go for it.
    fn stalls_for_nobody(&self, long_ago: u64) -> Option<u64> {
        let since = self.stalled.load(Ordering::Relaxed);
        let may_go = since != MOVING && since <= long_ago && !self.is_for_somebody.load(Ordering::Relaxed);
        (may_go && matches!(self.since(), SERVING | FINISHING)).then_some(since)
    }
}

impl Table {
    /// Sends the one away whose turn it is, if there is any.
    fn send_one_away(&self, open: &HashMap<u64, Arc<Shared>>) {
        let least = u64::try_from(STALLED_AFTER.as_millis()).unwrap_or(u64::MAX);
        let long_ago = self.millis().saturating_sub(least);
        loop {
            let waiting =
                open.values().filter(|shared| shared.is_waiting()).min_by_key(|shared| shared.since());
            let stalled = || {
                let all =
                    open.values().filter_map(|shared| Some((shared.stalls_for_nobody(long_ago)?, shared)));
                all.min_by_key(|(since, _)| *since).map(|(_, shared)| shared)
            };
            let Some(shared) = waiting.or_else(stalled) else { return };
            let state = shared.since();
            let may_go = shared.is_waiting() || shared.stalls_for_nobody(long_ago).is_some();
            // It may have begun a request since, or have sent all: then another one is looked for.
            if may_go && shared.turn(state, GOING) {
                shared.gone.cancel();
                return;
            }
        }
    }

    /// The time since the table was made, in milliseconds and above [`MOVING`].
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(MOVING + 1)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>>> {
        // The table is whole between any two of its calls.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_a_full_table_the_longest_waiting_one_goes_and_one_that_is_served_stays() {
        let connections = Connections::new(3, 1);
        let served = Arc::new(connections.enter());
        let serving = served.serving().unwrap();
        let oldest = connections.enter();
        let newest = connections.enter();
        let room = tokio::spawn({
            let connections = connections.clone();
            async move { connections.room().await }
        });
        oldest.told_to_go().await;
        assert!(!served.shared.gone.is_cancelled() && !newest.shared.gone.is_cancelled());
        drop(oldest);
        room.await.unwrap();
        drop(serving);
    }

    /// Begins to wait for room.
    fn newcomer(connections: &Connections) -> tokio::task::JoinHandle<()> {
        let connections = connections.clone();
        tokio::spawn(async move { connections.room().await })
    }

    #[tokio::test]
    async fn a_newcomer_takes_a_place_as_soon_as_one_falls_idle_or_stalls_for_nobody() {
        let connections = Connections::new(2, 1);
        let [first, second] = [(); 2].map(|()| Arc::new(connections.enter()));
        let mut served = [first.serving().unwrap(), second.serving().unwrap()];
        served[0].for_somebody();
        served[1].for_somebody();
        first.stalls(true);
        let room = newcomer(&connections);
        tokio::task::yield_now().await;
        assert!(!first.shared.gone.is_cancelled() && !second.shared.gone.is_cancelled());
        drop(served);
        second.sent_all();
        second.told_to_go().await;
        // It begins nothing any more, and nobody else goes in its place.
        assert!(second.serving().is_none() && !first.shared.gone.is_cancelled());
        drop(second);
        room.await.unwrap();

        let second = Arc::new(connections.enter());
        served = [first.serving().unwrap(), second.serving().unwrap()];
        served[1].for_somebody();
        second.stalls(true);
        first.stalls(false);
        let room = newcomer(&connections);
        tokio::task::yield_now().await;
        assert!(!first.shared.gone.is_cancelled());
        first.stalls(true);
        first.told_to_go().await;
        assert!(!second.shared.gone.is_cancelled());
        drop((served, first));
        room.await.unwrap();
    }

    #[tokio::test]
    async fn nodes_take_no_place_of_callers_and_have_a_bound_of_their_own() {
        let connections = Connections::new(1, 1);
        let [first, second] = [(); 2].map(|()| Arc::new(connections.enter()));
        let servings = [first.serving().unwrap(), second.serving().unwrap()];
        assert!(servings[0].upgraded() && !servings[1].upgraded());
        drop((servings, second));
        connections.room().await;
        drop(first);
        let third = Arc::new(connections.enter());
        assert!(third.serving().unwrap().upgraded());
    }

    #[tokio::test]
    async fn a_connection_waits_again_when_its_answer_was_sent_whole() {
        let connections = Connections::new(3, 1);
        let ticket = Arc::new(connections.enter());
        assert!(ticket.is_waiting());
        let serving = ticket.serving().unwrap();
        ticket.sent_all();
        assert!(!ticket.is_waiting());
        drop(serving);
        assert!(!ticket.is_waiting());
        ticket.sent_all();
        assert!(ticket.is_waiting());
    }
}
