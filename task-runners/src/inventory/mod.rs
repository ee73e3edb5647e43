//! Which scripts there are and what each says: looked at once, and again where a file changed.
//!
//! | module | what it holds |
//! |---|---|
//! | `card` | what one look at a script's file gives |
//! | `identity` | tells one state of a file from another without reading it |
//! | `scan` | all files of a folder; many looks at once |
//! | `found` | what is known of all scripts at one moment |
//!
//! What is executed never depends on what is kept here: the engine looks at the file itself.

mod card;
mod found;
mod identity;
pub(crate) mod scan;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use executor_core::{ResolvedScript, ScriptFolder, ScriptName, ScriptSource, StartError};

pub(crate) use card::{Card, ScriptCards, head};
pub(crate) use found::{Found, Known, Versions};
pub(crate) use identity::SETTLED_AFTER;
pub(crate) use scan::files;

use identity::Identity;
use scan::Files;

/// The scripts of a folder that nobody verifies, kept as they were when they were looked at last.
#[derive(Debug)]
pub(crate) struct Inventory {
    path: PathBuf,
    folder: ScriptFolder,
    found: RwLock<Arc<Found>>,
    /// Held during a scan, so that two of them do not read the same files: what the last one said was left out.
    scanning: Mutex<BTreeSet<String>>,
    versions: Versions,
    /// Whether somebody scans the folder whenever it changes.
    is_kept_current: AtomicBool,
}

impl Inventory {
    /// An empty one; nothing is read yet.
    pub(crate) fn new(path: &Path, versions: Versions) -> Self {
        Self {
            path: path.to_owned(),
            folder: ScriptFolder::new(path),
            found: RwLock::default(),
            scanning: Mutex::default(),
            versions,
            is_kept_current: AtomicBool::new(false),
        }
    }

    /// All scripts as they are now, or were within the last moments where somebody keeps this current.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(crate) fn current(&self) -> io::Result<Arc<Found>> {
        let found = self.found();
        if self.is_kept_current.load(Ordering::Acquire) && !found.wants_another_look(Instant::now()) {
            return Ok(found);
        }
        self.scan(&mut |_| {})
    }

    /// Somebody scans the folder whenever it changes from now on, or does not any more.
    pub(crate) fn set_kept_current(&self, is_kept: bool) {
        self.is_kept_current.store(is_kept, Ordering::Release);
    }

    /// Looks at every file's identity, and at the content of those that changed. Each folder is told before it is read.
    ///
    /// # Errors
    /// When the folder itself cannot be read; what was found before stays.
    pub(crate) fn scan(&self, before: &mut dyn FnMut(&Path)) -> io::Result<Arc<Found>> {
        let mut told = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { scripts, left_out, unread } = files(&self.path, before)?;
        for reason in left_out.difference(&told) {
            tracing::warn!(folder = %self.path.display(), "the scripts folder is not listed whole: {reason}");
        }
        *told = left_out;
        let known = self.found();
        let (kept, unknown): (Vec<_>, Vec<_>) =
            scripts.into_iter().partition(|(name, identity)| known.is_known(name, identity));
        let kept = kept.into_iter().filter_map(|(name, _)| known.get(&name).cloned().map(|one| (name, one)));
        let names: Vec<ScriptName> = unknown.into_iter().map(|(name, _)| name).collect();
        let is_partial = AtomicBool::new(!unread.is_empty());
        let looked = scan::at_once(&names, &|name| match self.look(name) {
            // What was known of it stands until it can be opened again.
            Err(StartError::Host { source, .. }) if scan::is_passing(&source) => {
                is_partial.store(true, Ordering::Relaxed);
                known.get(name).cloned()
            }
            looked => looked.ok().flatten(),
        });
        let is_unread = |name: &ScriptName| unread.iter().any(|folder| name.as_str().starts_with(folder));
        let stood = known.behind(None).filter(|(name, _)| is_unread(name));
        let stood = stood.map(|(name, known)| (name.clone(), known.clone()));
        let found = Found::new(stood.chain(kept).chain(looked).collect(), &known, &self.versions);
        let found = Arc::new(if is_partial.into_inner() { found.partial() } else { found });
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = found.clone();
        Ok(found)
    }

    /// Forgets everything, so that the next look reads every file again.
    pub(crate) fn forget(&self) {
        let _one_at_a_time = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut found).doubt_all();
    }

    fn found(&self) -> Arc<Found> {
        self.found.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at one file; none when it is not there or cannot be opened as one.
    fn look(&self, name: &ScriptName) -> Result<Option<Known>, StartError> {
        let file = match self.folder.open(name) {
            Err(StartError::NotFound(_)) => return Ok(None),
            opened => opened?,
        };
        let Some(identity) = identity_of(&file) else { return Ok(None) };
        Ok(Some(Known::of_file(identity, &Card::of(file, name))))
    }

    /// Notes something of one script; lists that are being made go on with what they began with.
    fn change(&self, change: impl FnOnce(&mut Found, &Versions)) {
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut found), &self.versions);
    }
}

impl ScriptSource for Inventory {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        self.folder.resolve(name)
    }
}

impl ScriptCards for Inventory {
    /// The file is opened to learn whether it is the known one, and read only where it is not.
    fn card(&self, name: &ScriptName) -> Result<Arc<Card>, StartError> {
        let file = match self.folder.open(name) {
            Err(StartError::NotFound(name)) => {
                if self.found().get(&name).is_some() {
                    self.change(|found, versions| found.remove(&name, versions));
                }
                return Err(StartError::NotFound(name));
            }
            opened => opened?,
        };
        let identity = identity_of(&file);
        let found = self.found();
        if let Some(card) = identity.and_then(|identity| found.card(name, &identity)) {
            return Ok(card.clone());
        }
        let is_listed = scan::is_script(&file);
        drop(found);
        let looked = Card::of(file, name);
        match identity {
            Some(identity) if is_listed => {
                let known = Known::of_file(identity, &looked);
                self.change(|found, versions| found.insert(name, known, versions));
            }
            _ => {}
        }
        looked
    }
}

/// Taken before a file is read: what changes meanwhile is seen as a change the next time.
fn identity_of(file: &File) -> Option<Identity> {
    Some(Identity::of(&file.metadata().ok()?, SystemTime::now()))
}
