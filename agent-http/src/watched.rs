//! Files that are read again when they have changed: whether now is the time, and what is said where that fails.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause between two tries where files cannot be used: that can be because of the moment, such as a certificate that is
/// not valid yet, or descriptors that are used up.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Tells one state of a file from another without reading it: its place, size, and times of its last changes.
type Seen = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Files that somebody looks at again and again.
#[derive(Debug)]
pub(crate) struct Watched {
    /// What is said in front of why they were not used.
    what_stays: &'static str,
    files: Vec<PathBuf>,
    /// As they looked last.
    seen: Vec<Seen>,
    /// As they looked when they were read last. At first they were read by somebody else, and may have changed since.
    read: Option<Vec<Seen>>,
    /// When they were read last, if they could not be used.
    failed: Option<Instant>,
    /// What was said of that.
    said: Option<String>,
}

impl Watched {
    pub(crate) fn new(what_stays: &'static str, files: Vec<PathBuf>) -> Self {
        Self { what_stays, files, seen: Vec::new(), read: None, failed: None, said: None }
    }

    /// Looks at the files, and says whether they are to be read now: when somebody wants that; when they have changed and
    /// look as they did the last time, since a file that is being written is half of itself; and when they could not be
    /// used a while ago.
    pub(crate) async fn is_due(&mut self, is_told: bool) -> bool {
        let mut current = Vec::new();
        for file in &self.files {
            current.push(seen(file).await);
        }
        let is_settled = current == self.seen;
        self.seen = current;
        let is_other = self.read.as_ref() != Some(&self.seen);
        let is_to_be_tried = self.failed.is_some_and(|at| at.elapsed() >= TRY_EVERY);
        let is_due = is_told || (is_settled && (is_other || is_to_be_tried));
        if is_due {
            // Looked at before they are read: what changes in between is seen as a change the next time.
            self.read = Some(self.seen.clone());
        }
        if is_due && (is_told || is_other) {
            self.said = None;
        }
        is_due
    }

    /// Whether one of them was not there at the last look.
    pub(crate) fn is_gone(&self) -> bool {
        self.seen.contains(&None)
    }

    /// Takes what came of reading them. Why they cannot be used is said once, until they change.
    pub(crate) fn was_read(&mut self, read: Result<(), String>) {
        self.failed = read.is_err().then(Instant::now);
        match read {
            Err(text) if self.said.as_ref() != Some(&text) => {
                tracing::error!("{}: {text}", self.what_stays);
                self.said = Some(text);
            }
            Err(_) => {}
            Ok(()) => self.said = None,
        }
    }
}

async fn seen(file: &Path) -> Seen {
    let metadata = tokio::fs::metadata(file).await.ok()?;
    let (modified, changed) =
        ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    Some((metadata.dev(), metadata.ino(), metadata.size(), modified, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_when_it_looks_the_same_twice_and_again_where_it_could_not_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("whole");
        let mut watched = Watched::new("all stays", vec![path.clone()]);
        assert!(!watched.is_due(false).await);
        assert!(watched.is_due(false).await);
        watched.was_read(Ok(()));
        assert!(!watched.is_due(false).await);
        // Half of it is never read, however often it grows.
        for text in ["", "h", "ha", "half"] {
            write(text);
            assert!(!watched.is_due(false).await, "{text}");
        }
        assert!(watched.is_due(false).await);
        watched.was_read(Err("it cannot be used".to_owned()));
        assert!(!watched.is_due(false).await);
        watched.failed = watched.failed.map(|at| at - TRY_EVERY);
        assert!(watched.is_due(false).await);
        watched.was_read(Ok(()));
        assert!(watched.failed.is_none() && !watched.is_due(false).await && !watched.is_gone());
        assert!(watched.is_due(true).await);
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.is_due(false).await);
        assert!(watched.is_due(false).await && watched.is_gone());
    }
}
