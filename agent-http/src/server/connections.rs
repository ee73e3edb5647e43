//! The table of open connections. When it is full, the connection goes that has been waiting for its header for longest;
//! where none waits, the one that has taken none of its bytes for longest, of those that serve nobody with a token. Any other
//! whose request is being served never goes for another.
//!
//! When it is one peer's part that is full, one of that peer's own goes, by the same order; and where neither waits nor
//! stalls any, the oldest that serves nobody with a token: a newcomer never waits for its peer, so that those of others never
//! wait behind it. Connections that serve somebody with a token take nothing of that part, however many there are.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ServerLimits;
use crate::peer::PeerKey;

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
    /// Most connections, and most of one peer.
    most: usize,
    most_a_peer: usize,
    /// Most connections that speak another protocol.
    most_upgraded: usize,
    open: Mutex<Open>,
    /// Counts up; it numbers connections and orders the beginnings of their waits.
    clock: AtomicU64,
    changed: Notify,
    began: Instant,
}

/// The connections in it.
#[derive(Debug, Default)]
struct Open {
    /// Those of each peer, by their numbers. What the kernel tells no peer of has gone already.
    places: HashMap<Option<PeerKey>, HashMap<u64, Arc<Shared>>>,
    /// How many these are.
    taken: usize,
    /// Those that speak another protocol. They take no place, and there may be far more of them.
    upgraded: HashMap<u64, Arc<Shared>>,
}

/// What the table and the connection's own task share.
#[derive(Debug)]
struct Shared {
    peer: Option<PeerKey>,
    number: u64,
    /// Since when it waits for a header, by the table's clock.
    since: AtomicU64,
    /// Since when bytes wait that the caller does not take, in milliseconds of the table's time.
    stalled: AtomicU64,
    /// Whether the request came with a token that is accepted: its answer is nobody else's to end.
    is_for_somebody: AtomicBool,
    gone: CancellationToken,
}

/// A connection's place in the table. Dropped, it makes room.
#[derive(Debug)]
pub(super) struct Ticket {
    table: Arc<Table>,
    shared: Arc<Shared>,
}

/// A request's view of its connection's place.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Shared>);

/// Whose turn it is to go: the least goes first.
type Turn = (u8, u64);

/// While it lives, the connection's request is being served.
#[derive(Debug)]
pub(super) struct Serving(Arc<Ticket>);

impl Connections {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        let table = Table {
            most: limits.connections.max(1),
            most_a_peer: limits.most_a_peer(),
            most_upgraded: limits.upgraded,
            open: Mutex::default(),
            clock: AtomicU64::new(SERVING),
            changed: Notify::new(),
            began: Instant::now(),
        };
        Self { table: Arc::new(table) }
    }

    /// Waits until there is room for one more, and sends one away where there is none. Of a peer that has as many as it may,
    /// one is sent away at once, and only for the room in all it is waited.
    pub(super) async fn room(&self, peer: Option<PeerKey>) {
        self.table.keep_to_its_part(peer);
        loop {
            let changed = self.table.changed.notified();
            {
                let open = self.table.open();
                if open.taken < self.table.most {
                    return;
                }
                if !open.all_places().any(|shared| shared.since() == GOING) {
                    self.table.send_one_away(&open.all_places(), Shared::turn_among_all);
                }
            }
            // Woken, or to see who has stalled for long enough by now.
            let _ = timeout(STALLED_AFTER, changed).await;
        }
    }

    /// Enters a connection, which now waits for its first header.
    pub(super) fn enter(&self, peer: Option<PeerKey>) -> Ticket {
        let number = self.table.tick();
        let shared = Arc::new(Shared {
            peer,
            number,
            since: AtomicU64::new(number),
            stalled: AtomicU64::new(MOVING),
            is_for_somebody: AtomicBool::new(false),
            gone: CancellationToken::new(),
        });
        self.table.open().enter(shared.clone());
        Ticket { table: self.table.clone(), shared }
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> OpenConnections {
        let mut count = OpenConnections::default();
        for shared in self.table.open().all() {
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
            if self.table.open().all().next().is_none() {
                return;
            }
            changed.await;
        }
    }

    /// Closes every connection, whatever it does.
    pub(super) fn close_all(&self) {
        self.table.open().all().for_each(|shared| shared.gone.cancel());
    }
}

impl Ticket {
    /// What its requests see of it.
    pub(super) fn place(&self) -> Place {
        Place(self.shared.clone())
    }

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
        self.shared.since() == self.shared.number
    }

    /// Whether it waits for a header, and nothing that was answered is still to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.is_waiting()
    }
}

impl Place {
    /// Says that the request came with a token that is accepted.
    pub(crate) fn for_somebody(&self) {
        self.0.is_for_somebody.store(true, Ordering::Relaxed);
    }
}

impl Serving {
    /// Says that the connection speaks another protocol from now on. It never goes for another, and does not count among
    /// those of callers any more: thousands of nodes that stand there leave callers their places. Whether it may.
    pub(super) fn upgraded(&self) -> bool {
        let Ticket { table, shared } = &*self.0;
        let mut open = table.open();
        if open.upgraded.len() >= table.most_upgraded {
            return false;
        }
        shared.since.store(UPGRADED, Ordering::Relaxed);
        open.leave(shared);
        open.upgraded.insert(shared.number, shared.clone());
        table.changed.notify_waiters();
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.open().leave(&self.shared);
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

    /// Its turn to go for any newcomer, if it has one: see [`Table::send_one_away`].
    fn turn_among_all(&self, long_ago: u64) -> Option<Turn> {
        let since = self.since();
        if self.is_waiting() {
            return Some((0, since));
        }
        let stalled = self.stalled.load(Ordering::Relaxed);
        let stalls = stalled != MOVING && stalled <= long_ago;
        (stalls && self.takes_of_its_peers()).then_some((1, stalled))
    }

    /// Its turn to go for a newcomer of the same peer.
    fn turn_among_its_peers(&self, long_ago: u64) -> Option<Turn> {
        let last = || self.takes_of_its_peers().then_some((2, self.number));
        self.turn_among_all(long_ago).or_else(last)
    }

    /// Whether it takes a place of its peer's part: none does that serves somebody.
    fn takes_of_its_peers(&self) -> bool {
        match self.since() {
            UPGRADED | GOING => false,
            SERVING | FINISHING => !self.is_for_somebody.load(Ordering::Relaxed),
            _ => true,
        }
    }
}

impl Open {
    fn enter(&mut self, shared: Arc<Shared>) {
        self.places.entry(shared.peer).or_default().insert(shared.number, shared);
        self.taken += 1;
    }

    fn leave(&mut self, shared: &Shared) {
        self.upgraded.remove(&shared.number);
        let Some(own) = self.places.get_mut(&shared.peer) else { return };
        self.taken -= usize::from(own.remove(&shared.number).is_some());
        if own.is_empty() {
            self.places.remove(&shared.peer);
        }
    }

    fn all_places(&self) -> impl Iterator<Item = &Arc<Shared>> + Clone {
        self.places.values().flat_map(HashMap::values)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.all_places().chain(self.upgraded.values())
    }
}

impl Table {
    /// Sends one of a peer's away that has as many as it may.
    fn keep_to_its_part(&self, peer: Option<PeerKey>) {
        let open = self.open();
        let Some(own) = open.places.get(&peer).filter(|own| own.len() >= self.most_a_peer) else { return };
        if own.values().filter(|shared| shared.takes_of_its_peers()).count() >= self.most_a_peer {
            self.send_one_away(&own.values(), Shared::turn_among_its_peers);
        }
    }

    /// Sends the one away whose turn it is, if there is any.
    fn send_one_away<'a>(
        &self,
        among: &(impl Iterator<Item = &'a Arc<Shared>> + Clone),
        turn_of: fn(&Shared, u64) -> Option<Turn>,
    ) {
        let least = u64::try_from(STALLED_AFTER.as_millis()).unwrap_or(u64::MAX);
        let long_ago = self.millis().saturating_sub(least);
        loop {
            let turns = among.clone().filter_map(|shared| Some((turn_of(shared, long_ago)?, shared)));
            let Some((_, shared)) = turns.min_by_key(|(turn, _)| *turn) else { return };
            let state = shared.since();
            // It may have begun a request since, or have sent all: then another one is looked for.
            if turn_of(shared, long_ago).is_some() && shared.turn(state, GOING) {
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

    fn open(&self) -> MutexGuard<'_, Open> {
        // The table is whole between any two of its calls.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
