//! The scripts of one agent: a folder, whether it must be verified, and the verified snapshot in use. Here
//! execution and integrity meet.

mod current;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use executor_core::{ScriptName, ScriptSource, StartError};
use executor_integrity::{
    Digest, MANIFEST_NAME, SIGNATURE_NAME, ScriptsSettings, Snapshot, SnapshotStore, StoreError, TakeError,
    VerifyPolicy,
};

use crate::catalogue::{Catalogue, CatalogueChanges, ScriptEntry};
use crate::error_chain::error_chain;
use crate::inventory::{Inventory, ScriptCards, Versions, scan};
use crate::refusal::Refusal;
use crate::snapshot_source::{Offered, SnapshotSource};

use current::{Current, Seen};

pub use crate::scripts_status::ScriptsStatus;

/// The scripts of one agent. Calls read the disk: asynchronous callers run them on a thread for blocking work.
#[derive(Debug)]
pub struct Scripts {
    settings: ScriptsSettings,
    store: SnapshotStore,
    policy: VerifyPolicy,
    current: RwLock<Current>,
    /// Held while the folder is verified, so that many callers verify it once.
    refreshing: Mutex<()>,
    /// How many looks at the folder have begun.
    looks: AtomicU64,
    /// What lies in the folder, for as long as nobody verifies it.
    inventory: Arc<Inventory>,
    versions: Versions,
}

/// When the log tells what a look found to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Now,
    /// If it stands: manifest and scripts are written one after the other, and in between nothing fits.
    IfItStands,
}

impl Scripts {
    /// Opens the store of snapshots and looks at the folder once. A folder that does not verify is no error here:
    /// every use of it says so.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(settings: ScriptsSettings) -> Result<Self, StoreError> {
        let store = SnapshotStore::at(&settings.state_dir.join("store"))?;
        let policy = VerifyPolicy::default().public_keys(settings.public_keys.iter().cloned());
        let versions = Versions::default();
        let inventory = Arc::new(Inventory::new(&settings.folder, versions.clone()));
        let (current, refreshing, looks) = Default::default();
        let scripts = Self { settings, store, policy, current, refreshing, looks, inventory, versions };
        scripts.refresh();
        Ok(scripts)
    }

    /// The scripts folder.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Verifies the folder again and takes what it finds into use. One that does not verify leaves the snapshot in
    /// use where there is one.
    pub fn refresh(&self) -> Arc<ScriptsStatus> {
        self.refresh_telling(Tell::Now)
    }

    pub(crate) fn refresh_telling(&self, tell: Tell) -> Arc<ScriptsStatus> {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(tell)
    }

    /// Reads everything again, whatever is known of it, and says what is other than it was.
    ///
    /// # Errors
    /// As [`catalogue`](Self::catalogue), after it was read.
    pub fn read_again(&self) -> Result<CatalogueChanges, Refusal> {
        let before = self.catalogue();
        self.inventory.forget();
        if let Some(source) = self.read(|current| current.source.clone()) {
            source.forget();
        }
        self.refresh();
        // Where it fails the catalogue says so.
        let _ = self.inventory.scan(&mut |_| {});
        let now = self.catalogue()?;
        Ok(before.map(|before| now.changes_since(&before)).unwrap_or_default())
    }

    /// What stands behind the scripts that would run now.
    pub fn status(&self) -> Arc<ScriptsStatus> {
        self.read(|current| current.status.clone())
    }

    /// Where a new task gets its script from, and the digest that pins it.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] with every problem when the folder does not verify and no snapshot is in use.
    pub fn source(&self) -> Result<(Arc<dyn ScriptSource>, Option<String>), Refusal> {
        self.cards().map(|(source, pin)| (source as Arc<dyn ScriptSource>, pin))
    }

    /// The same, with what the scripts say of themselves.
    pub(crate) fn cards(&self) -> Result<(Arc<dyn ScriptCards>, Option<String>), Refusal> {
        self.refresh_if_changed();
        let (source, status) = self.read(|current| (current.source.clone(), current.status.clone()));
        match source {
            Some(source) => {
                let pin = source.snapshot().digest().to_string();
                Ok((Arc::new(Offered(source)), Some(pin)))
            }
            None if !status.verification => Ok((self.inventory.clone(), None)),
            None => Err(unverified(&status)),
        }
    }

    /// The source in use, if it is that of the manifest `pinned`. Touches no disk.
    pub(crate) fn current(&self, pinned: &str) -> Option<Arc<dyn ScriptCards>> {
        let current = self.read(|current| current.source.clone())?;
        (current.snapshot().digest().to_string() == pinned).then_some(current as Arc<dyn ScriptCards>)
    }

    /// Where a task gets its script from that was accepted when the manifest `pinned` was in use.
    ///
    /// # Errors
    /// [`StartError::Unverified`] when that snapshot is gone or damaged.
    pub(crate) fn pinned(&self, pinned: &str) -> Result<Arc<dyn ScriptCards>, StartError> {
        if let Some(source) = self.current(pinned) {
            return Ok(source);
        }
        let digest: Digest = pinned
            .parse()
            .map_err(|_| StartError::Unverified(format!("'{pinned}' is no manifest's digest")))?;
        let snapshot = self.store.open(&digest).map_err(|error| StartError::Unverified(error.to_string()))?;
        Ok(Arc::new(SnapshotSource::new(snapshot, self.versions.clone(), None)))
    }

    /// All scripts: the executable files that would be found by their names. Where somebody [watches](Self::watch) the
    /// folder, what was found at its last change; otherwise it is looked at now.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] as [`source`](Self::source); [`Refusal::Unavailable`] when the folder cannot be read.
    pub fn catalogue(&self) -> Result<Catalogue, Refusal> {
        self.refresh_if_changed();
        let (source, status) = self.read(|current| (current.source.clone(), current.status.clone()));
        match source {
            Some(source) => Ok(Catalogue::new(source.found(), true)),
            None if status.verification => Err(unverified(&status)),
            None => match self.inventory.current() {
                Ok(found) => Ok(Catalogue::new(found, false)),
                Err(error) => Err(Refusal::Unavailable(self.unreadable(&error))),
            },
        }
    }

    /// All scripts as lists show them, without those that say that they are hidden.
    ///
    /// # Errors
    /// As [`catalogue`](Self::catalogue).
    pub fn list(&self) -> Result<Vec<ScriptEntry>, Refusal> {
        Ok(self.catalogue()?.entries(None, |_| true).collect())
    }

    /// One script, looked up in the folder now; none when there is none of that name.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] as [`source`](Self::source).
    pub fn get(&self, name: &ScriptName) -> Result<Option<ScriptEntry>, Refusal> {
        self.get_with_pin(name).map(|(entry, _)| entry)
    }

    /// The same, with the digest that pins it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_with_pin(&self, name: &ScriptName) -> Result<(Option<ScriptEntry>, Option<String>), Refusal> {
        let (source, pin) = self.cards()?;
        Ok((ScriptEntry::of(name, source.card(name), pin.is_some()), pin))
    }

    /// Looks at the folder because something in it changed, for somebody who watches it; each folder in it is told before
    /// it is read.
    pub(crate) fn look_after_change(&self, before: &mut dyn FnMut(&Path)) -> LookedAfterChange {
        if self.status().verification {
            // Only to tell the folders: what is in them is for the verification to read.
            let _ = scan::files(self.folder(), before);
            let status = self.refresh_telling(Tell::IfItStands);
            if status.verification {
                return LookedAfterChange { is_verified: true, is_settled: true };
            }
        } else {
            self.refresh_if_changed();
        }
        let found = self.inventory.scan(before);
        self.inventory.set_kept_current(found.is_ok());
        LookedAfterChange { is_verified: false, is_settled: found.is_ok_and(|found| found.is_settled()) }
    }

    /// Somebody looks at the folder whenever it changes from now on, unless there is a reason why changes may be missed.
    pub(crate) fn set_watched(&self, is_watched: bool, unwatched: Option<String>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.is_watched = is_watched;
        if !is_watched || unwatched.is_some() {
            self.inventory.set_kept_current(false);
        }
        if current.status.unwatched != unwatched {
            Arc::make_mut(&mut current.status).unwatched = unwatched;
        }
    }

    /// Tells the log of problems that have stood for a while.
    pub(crate) fn tell_what_stands(&self, since: Duration) {
        let stands = |current: &Current| current.untold_since.is_some_and(|at| at.elapsed() >= since);
        if self.read(stands) {
            self.current.write().unwrap_or_else(PoisonError::into_inner).tell();
        }
    }

    /// Whether manifest or signature are others than at the last look.
    pub(crate) fn has_new_manifest(&self) -> bool {
        let seen = self.seen();
        self.read(|current| current.seen != Some(seen))
    }

    /// Removes snapshots that are neither in use, nor among the last three, nor among `pinned`: those of tasks that
    /// have not ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn prune<'a>(&self, pinned: impl IntoIterator<Item = &'a String>) -> Result<(), StoreError> {
        // Held open, so that the store leaves them. One that is not there any more cannot be removed either.
        let held: Vec<Snapshot> = pinned
            .into_iter()
            .filter_map(|pin| pin.parse::<Digest>().ok())
            .filter_map(|digest| self.store.open(&digest).ok())
            .collect();
        let pruned = self.store.prune(executor_integrity::KEEP_SNAPSHOTS);
        drop(held);
        pruned.map(|_| ())
    }

    fn unreadable(&self, error: &io::Error) -> String {
        format!("cannot read the scripts folder {}: {error}", self.settings.folder.display())
    }

    /// A folder that was found bad and has no snapshot is looked at each time: mending it works at once.
    fn refresh_if_changed(&self) {
        let now = self.seen();
        let is_same = |current: &Current| {
            let is_usable = current.source.is_some() || !current.status.verification;
            is_usable && current.seen == Some(now)
        };
        if self.read(is_same) {
            return;
        }
        let begun = self.looks.load(Ordering::Acquire);
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have looked while this one waited: from before its asking on, or after it. The latter is as good
        // as a look of its own, whatever it found.
        let is_answered = self.looks.load(Ordering::Acquire) > begun;
        if !is_answered && !self.read(is_same) {
            let is_watched = self.read(|current| current.is_watched);
            self.look(if is_watched { Tell::IfItStands } else { Tell::Now });
        }
    }

    fn look(&self, tell: Tell) -> Arc<ScriptsStatus> {
        self.looks.fetch_add(1, Ordering::AcqRel);
        // Read before the folder: a change in between is seen as a change the next time.
        let seen = self.seen();
        let found = self.take();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.seen = Some(seen);
        let mut status = ScriptsStatus { unwatched: current.status.unwatched.clone(), ..Default::default() };
        match found {
            Ok(None) => current.source = None,
            Ok(Some(snapshot)) => {
                status.verification = true;
                status.manifest = Some(snapshot.digest().to_string());
                current.take_into_use(snapshot, &self.versions);
            }
            Err(Found { problems, mend }) => {
                status.verification = true;
                status.manifest.clone_from(&current.status.manifest);
                (status.problems, status.mend) = (problems, Some(mend));
            }
        }
        current.status = Arc::new(status);
        current.note_untold();
        if tell == Tell::Now {
            current.tell();
        }
        current.status.clone()
    }

    fn take(&self) -> Result<Option<Snapshot>, Found> {
        let folder = &self.settings.folder;
        let failed = |error: &dyn std::error::Error| Found {
            problems: vec![error_chain(error)],
            mend: "mend what is named above".to_owned(),
        };
        let wanted = self.settings.verification.decide(folder, &self.store, &self.policy);
        if !wanted.map_err(|error| failed(&error))? {
            return Ok(None);
        }
        match self.store.take(folder, &self.policy) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(TakeError::Refused(error)) => {
                let mut problems: Vec<String> =
                    error.problems().as_slice().iter().map(ToString::to_string).collect();
                if error.problems().more() > 0 {
                    problems.push(format!("and {} more", error.problems().more()));
                }
                Err(Found { problems, mend: error.mend_command() })
            }
            Err(error @ TakeError::Store(_)) => Err(failed(&error)),
        }
    }

    fn seen(&self) -> Seen {
        [MANIFEST_NAME, SIGNATURE_NAME].map(|name| {
            let metadata = fs::symlink_metadata(self.settings.folder.join(name)).ok()?;
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            Some((metadata.dev(), metadata.ino(), metadata.size(), changed.0, changed.1))
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Current) -> T) -> T {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn unverified(status: &ScriptsStatus) -> Refusal {
    Refusal::Unverified { problems: status.problems.clone(), mend: status.mend.clone().unwrap_or_default() }
}

/// What a look after a change came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookedAfterChange {
    pub(crate) is_verified: bool,
    /// Whether every later change will show.
    pub(crate) is_settled: bool,
}

/// What is wrong with the folder.
struct Found {
    problems: Vec<String>,
    mend: String,
}
