//! What the looks at a scripts folder have come to: the snapshot in use, what is wrong, and what the log tells of it.

use std::sync::Arc;
use std::time::Instant;

use executor_integrity::Snapshot;

use crate::inventory::Versions;
use crate::scripts_status::ScriptsStatus;
use crate::snapshot_source::SnapshotSource;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub(super) source: Option<Arc<SnapshotSource>>,
    pub(super) status: Arc<ScriptsStatus>,
    /// The manifest's and signature's identity when the folder was looked at last.
    pub(super) seen: Option<Seen>,
    /// The problems that the log tells of.
    told: Vec<String>,
    /// Since when there are others, which it does not tell of yet.
    pub(super) untold_since: Option<Instant>,
    /// Whether somebody looks at the folder whenever it changes.
    pub(super) is_watched: bool,
}

/// Tells one state of manifest and signature from another without reading them.
pub(super) type Seen = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Current {
    /// Has later tasks get their scripts from this snapshot; what is known of those in the one before stays known.
    pub(super) fn take_into_use(&mut self, snapshot: Snapshot, versions: &Versions) {
        let before = self.source.as_ref();
        if before.is_some_and(|before| before.is_of(&snapshot)) {
            return;
        }
        if before.is_none_or(|before| before.snapshot().digest() != snapshot.digest()) {
            tracing::info!(manifest = %snapshot.digest(), files = snapshot.files().len(), "scripts verified");
        }
        let source = SnapshotSource::new(snapshot, versions.clone(), before.map(Arc::as_ref));
        self.source = Some(Arc::new(source));
    }

    /// Notes whether the log tells something else than what is wrong now.
    pub(super) fn note_untold(&mut self) {
        if self.told == self.status.problems {
            self.untold_since = None;
        } else {
            self.untold_since.get_or_insert_with(Instant::now);
        }
    }

    /// Tells the log what is wrong now, if it says otherwise.
    pub(super) fn tell(&mut self) {
        if self.untold_since.take().is_none() {
            return;
        }
        let (problems, in_use) = (&self.status.problems, &self.status.manifest);
        match problems.as_slice() {
            [] => tracing::info!(?in_use, "the scripts folder verifies again"),
            problems => tracing::error!(?problems, ?in_use, "the scripts folder does not verify"),
        }
        self.told.clone_from(problems);
    }
}
