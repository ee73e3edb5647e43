//! What goes on beside the requests: the scripts folder is verified again from time to time, and measurements are tidied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use task_runners::{Scripts, ScriptsStatus};
use tokio::sync::Notify;

use crate::app::AppState;

/// Pause between two looks at the scripts folder, and the shorter one while no script can be run.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY_UNUSABLE: Duration = Duration::from_secs(5);
/// The pause is at least so many times as long as the look before it took, so that a large folder costs 1 % of a core.
const PAUSE_PER_LOOK: u32 = 100;
/// Pause between two tidyings of measurements.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Verifies the scripts folder again and again, and at once when `now` says so.
pub(crate) async fn verify_scripts(scripts: Arc<Scripts>, now: Arc<Notify>) {
    let mut pause = pause_after(Duration::ZERO, &scripts.status());
    loop {
        // Time over or told to: both mean to look.
        let _ = tokio::time::timeout(pause, now.notified()).await;
        let (looker, began) = (scripts.clone(), Instant::now());
        let looked = tokio::task::spawn_blocking(move || {
            let status = looker.refresh();
            if let Err(error) = looker.prune() {
                tracing::warn!(%error, "old copies of scripts could not be removed");
            }
            status
        });
        pause = match looked.await {
            Ok(status) => pause_after(began.elapsed(), &status),
            Err(error) => {
                tracing::error!(%error, "the scripts folder could not be verified again");
                LOOK_EVERY
            }
        };
    }
}

/// Tidies measurements again and again.
pub(crate) async fn tidy_metrics(state: AppState) {
    let mut every = tokio::time::interval(TIDY_EVERY);
    loop {
        every.tick().await;
        state.metrics().tidy();
    }
}

fn pause_after(took: Duration, status: &ScriptsStatus) -> Duration {
    let is_usable = !status.verification || status.manifest.is_some();
    let pause = if is_usable { LOOK_EVERY } else { LOOK_EVERY_UNUSABLE };
    pause.max(took * PAUSE_PER_LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_long_is_looked_at_less_often_and_an_unusable_one_more_often() {
        let usable = ScriptsStatus::default();
        let unusable = ScriptsStatus { verification: true, ..ScriptsStatus::default() };
        assert_eq!(pause_after(Duration::from_millis(5), &usable), Duration::from_secs(60));
        assert_eq!(pause_after(Duration::from_secs(2), &usable), Duration::from_secs(200));
        assert_eq!(pause_after(Duration::from_millis(5), &unusable), Duration::from_secs(5));
    }
}
