//! What goes on beside the requests: the scripts folder is verified again from time to time, and measurements are tidied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use task_runners::{ScriptName, Scripts, ScriptsStatus};
use task_service::TaskService;
use tokio::sync::Notify;

use crate::app::AppState;

/// Pause between two looks at the scripts folder, and the shorter one while no script can be run.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY_UNUSABLE: Duration = Duration::from_secs(5);
/// The pause is at least so many times as long as the look before it took, so that a large folder costs 1 % of a core.
const PAUSE_PER_LOOK: u32 = 100;
/// Pause between two tidyings of measurements.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Most scripts that the log names of a kind of change.
const NAMED: usize = 20;

/// Verifies the scripts folder again and again. When `now` says so it does at once, and reads everything again that is
/// known of the scripts. Copies that no task and nobody else needs any more are removed.
pub(crate) async fn verify_scripts(scripts: Arc<Scripts>, service: TaskService, now: Arc<Notify>) {
    let mut pause = pause_after(Duration::ZERO, &scripts.status());
    loop {
        let is_told_to = tokio::time::timeout(pause, now.notified()).await.is_ok();
        // A task that is accepted from here on pins what is in use, and that stays.
        let pinned = service.pinned().await;
        let (looker, began) = (scripts.clone(), Instant::now());
        let looked = tokio::task::spawn_blocking(move || {
            let status = if is_told_to { read_again(&looker) } else { looker.refresh() };
            match pinned.map(|pinned| looker.prune(&pinned)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "old copies of scripts could not be removed"),
                Err(error) => tracing::warn!(%error, "old copies of scripts are left: a task may need them"),
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

/// Reads everything again, and says what is other than it was.
fn read_again(scripts: &Scripts) -> Arc<ScriptsStatus> {
    let changes = scripts.read_again();
    let status = scripts.status();
    let (manifest, problems) = (&status.manifest, status.problems.len());
    match changes {
        Ok(changes) => {
            let [came, changed, went] =
                [&changes.came, &changes.changed, &changes.went].map(|names| named(names));
            tracing::info!(came, changed, went, ?manifest, problems, "the scripts were read again");
        }
        Err(error) => tracing::error!(%error, problems, "the scripts were to be read again"),
    }
    status
}

/// Names in one line.
fn named(names: &[ScriptName]) -> String {
    let mut line: Vec<&str> = names.iter().take(NAMED).map(ScriptName::as_str).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = format!("and {more} more");
    if names.len() > NAMED {
        line.push(&more);
    }
    if line.is_empty() { "none".to_owned() } else { line.join(" ") }
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

    #[test]
    fn many_names_are_counted() {
        let names: Vec<ScriptName> = (0..22).map(|number| format!("s{number}").parse().unwrap()).collect();
        assert_eq!(named(&names[..2]), "s0 s1");
        assert!(named(&names).ends_with("s19 and 2 more"));
        assert_eq!(named(&[]), "none");
    }
}
