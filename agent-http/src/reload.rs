//! Reads the settings again when their file has changed, or when told to. Mistakes in them change nothing.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use agent_config::{Loaded, Settings};
use agent_http::Agent;
use task_runners::error_chain;
use tokio::sync::Notify;

use crate::arguments::Arguments;

/// Pause between two looks at the file: a change is in force within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Tells one state of a file from another without reading it: its place, size, and times of its last changes.
type Seen = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Takes over new settings each time that the file changes, and when `now` says so.
pub(crate) async fn whenever_changed(
    agent: &Agent,
    arguments: &Arguments,
    loaded: &Loaded,
    now: &Notify,
) -> Infallible {
    let file = loaded.file.as_deref();
    let mut settings = loaded.settings.clone();
    // Nothing was seen yet, so that the file is read once more: it may have changed since it was read for the start.
    let mut last = None;
    let mut is_told = false;
    loop {
        let current = seen(file).await;
        if is_told || current != last {
            // Looked at before it is read: what changes in between is seen as a change the next time.
            last = current;
            match file.filter(|_| current.is_none()) {
                // Without it the defaults would hold, and other tokens: an editor that replaces it must not do that.
                Some(file) => {
                    tracing::error!(file = %file.display(), "the settings stay as they are: their file is gone");
                }
                None => reload(agent, arguments, &mut settings, is_told).await,
            }
        }
        is_told = tokio::time::timeout(LOOK_EVERY, now.notified()).await.is_ok();
    }
}

/// Reads the settings, and takes them over where they differ or where somebody wants to hear of it.
async fn reload(agent: &Agent, arguments: &Arguments, settings: &mut Settings, is_told: bool) {
    let arguments = arguments.clone();
    let loaded = tokio::task::spawn_blocking(move || arguments.settings()).await;
    let new = match loaded {
        Ok(Ok(loaded)) => loaded.settings,
        Ok(Err(error)) => {
            tracing::error!("the settings stay as they are: {}", error_chain(&error));
            return;
        }
        Err(error) => {
            tracing::error!(%error, "the settings stay as they are: they could not be read");
            return;
        }
    };
    if !is_told && new == *settings {
        return;
    }
    match agent.reload(&new) {
        Ok(waiting) if waiting.is_empty() => tracing::info!("settings read again"),
        Ok(waiting) => {
            let sections = waiting.join(", ");
            tracing::warn!(%sections, "settings read again; changes in these sections take a restart");
        }
        Err(error) => {
            tracing::error!("the settings stay as they are: {}", error_chain(&error));
            return;
        }
    }
    *settings = new;
}

async fn seen(file: Option<&Path>) -> Seen {
    let metadata = tokio::fs::metadata(file?).await.ok()?;
    let (modified, changed) =
        ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    Some((metadata.dev(), metadata.ino(), metadata.size(), modified, changed))
}
