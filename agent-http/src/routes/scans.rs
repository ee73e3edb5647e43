//! Places for looks through whole logs: a few for all callers, and one of them at most for each token, so that whoever asks
//! for many waits for itself.

use std::sync::Arc;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::Turns;
use crate::error::ApiError;

/// The places.
#[derive(Debug)]
pub(crate) struct LogScans {
    turns: Turns,
    places: Arc<Semaphore>,
}

/// A place, for as long as it lives.
#[derive(Debug)]
pub(super) struct ScanPlace {
    _turn: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

impl LogScans {
    /// So many places.
    pub(crate) fn new(places: usize) -> Self {
        Self { turns: Turns::default(), places: Arc::new(Semaphore::new(places)) }
    }

    /// Waits for a place for a token.
    ///
    /// # Errors
    /// When there are none any more.
    pub(super) async fn place(&self, token: &str) -> Result<ScanPlace, ApiError> {
        let turn = self.turns.of(token).await;
        let place = self.places.clone().acquire_owned().await.map_err(ApiError::unavailable)?;
        Ok(ScanPlace { _turn: turn, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_that_asks_for_many_leaves_a_place_to_another() {
        let scans = Arc::new(LogScans::new(2));
        let first = scans.place("many").await.unwrap();
        let more: Vec<_> = (0..100)
            .map(|_| {
                let scans = scans.clone();
                tokio::spawn(async move { scans.place("many").await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        let other = scans.place("other").await.unwrap();
        assert!(more.iter().all(|place| !place.is_finished()));
        drop((first, other));
        for place in more {
            place.await.unwrap().unwrap();
        }
    }
}
