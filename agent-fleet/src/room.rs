//! Room for messages that wait to be worked on: whoever sends more waits with them, and not in this agent's memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may wait of one sender, KiB: more than the longest message.
const ROOM_KIB: usize = 32 << 10;

/// The room for what one sender says. Clones are handles of the same.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

/// The room that one message takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _room: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }

    /// Waits until there is room for a message of so many bytes.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        let kib = bytes.div_ceil(1 << 10).min(ROOM_KIB);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        // It is never closed.
        Taken { _room: self.0.clone().acquire_many_owned(kib).await.ok() }
    }
}
