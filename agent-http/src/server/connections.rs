//! The table of open connections. When it is full, the connection goes that has been waiting for its header for longest;
//! one whose request is being served never goes for another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What stands in [`Shared::since`] while a request is served.
const SERVING: u64 = 0;
/// What stands there when the answer's body has ended and its last bytes are not known to be sent.
const FINISHING: u64 = u64::MAX;

/// How many connections are open, by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenConnections {
    /// They wait for a header.
    pub(crate) waiting: usize,
    /// Their request is being served.
    pub(crate) serving: usize,
    /// Their answer has ended, and its last bytes are not known to be sent.
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
    open: Mutex<HashMap<u64, Arc<Shared>>>,
    /// Counts up; it numbers connections and orders the beginnings of their waits.
    clock: AtomicU64,
    changed: Notify,
}

/// What the table and the connection's own task share.
#[derive(Debug)]
struct Shared {
    /// Since when it waits for a header, by the table's clock.
    since: AtomicU64,
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
    pub(super) fn new(most: usize) -> Self {
        let table = Table {
            most: most.max(1),
            open: Mutex::default(),
            clock: AtomicU64::new(SERVING),
            changed: Notify::new(),
        };
        Self { table: Arc::new(table) }
    }

    /// Waits until there is room for one more, and sends the longest waiting one away where there is none.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.table.changed.notified();
            {
                let open = self.table.open();
                if open.len() < self.table.most {
                    return;
                }
                let waiting = open.values().filter(|shared| shared.is_waiting());
                if let Some(longest) = waiting.min_by_key(|shared| shared.since.load(Ordering::Relaxed)) {
                    longest.gone.cancel();
                }
            }
            changed.await;
        }
    }

    /// Enters a connection, which now waits for its first header.
    pub(super) fn enter(&self) -> Ticket {
        let number = self.table.tick();
        let shared = Arc::new(Shared { since: AtomicU64::new(number), gone: CancellationToken::new() });
        self.table.open().insert(number, shared.clone());
        Ticket { table: self.table.clone(), number, shared }
    }

    /// How many there are now.
    pub(crate) fn count(&self) -> OpenConnections {
        let mut count = OpenConnections::default();
        for shared in self.table.open().values() {
            match shared.since.load(Ordering::Relaxed) {
                SERVING => count.serving += 1,
                FINISHING => count.finishing += 1,
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

    /// Says that a request is being served from now on.
    pub(super) fn serving(self: &Arc<Self>) -> Serving {
        self.shared.since.store(SERVING, Ordering::Relaxed);
        Serving(self.clone())
    }

    /// Says that every byte of what was answered is sent: the connection waits for the next header.
    pub(super) fn sent_all(&self) {
        if self.shared.since.load(Ordering::Relaxed) == FINISHING {
            self.shared.since.store(self.table.tick(), Ordering::Relaxed);
        }
    }

    /// Whether no request has come by it yet.
    pub(super) fn waits_for_its_first(&self) -> bool {
        self.shared.since.load(Ordering::Relaxed) == self.number
    }

    /// Whether it waits for a header, and nothing that was answered is still to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.is_waiting()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.open().remove(&self.number);
        self.table.changed.notify_waiters();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.shared.since.store(FINISHING, Ordering::Relaxed);
    }
}

impl Shared {
    fn is_waiting(&self) -> bool {
        !matches!(self.since.load(Ordering::Relaxed), SERVING | FINISHING)
    }
}

impl Table {
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
        let connections = Connections::new(3);
        let served = Arc::new(connections.enter());
        let serving = served.serving();
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

    #[tokio::test]
    async fn a_connection_waits_again_when_its_answer_was_sent_whole() {
        let connections = Connections::new(3);
        let ticket = Arc::new(connections.enter());
        assert!(ticket.is_waiting());
        let serving = ticket.serving();
        ticket.sent_all();
        assert!(!ticket.is_waiting());
        drop(serving);
        assert!(!ticket.is_waiting());
        ticket.sent_all();
        assert!(ticket.is_waiting());
    }
}
