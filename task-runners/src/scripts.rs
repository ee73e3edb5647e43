//! The scripts of one agent: a folder, whether it must be verified, and the verified snapshot in use. Here
//! execution and integrity meet.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use executor_core::{
    ResolvedScript, ScriptFault, ScriptFolder, ScriptName, ScriptSource, StartError, inspect,
};
use executor_integrity::{
    Digest, MANIFEST_NAME, RelativeName, SIGNATURE_NAME, ScriptsSettings, Snapshot, SnapshotStore,
    StoreError, TakeError, VerifyPolicy,
};

use crate::catalogue::{Headers, ScriptEntry};
use crate::error_chain::error_chain;
use crate::header::Header;
use crate::listing;
use crate::refusal::Refusal;

/// What stands behind the scripts that would run now.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ScriptsStatus {
    /// Whether scripts are verified at all.
    pub verification: bool,
    /// Digest of the manifest in use.
    pub manifest: Option<String>,
    /// What is wrong with the folder now; a snapshot in use stays in use all the same.
    pub problems: Vec<String>,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// The scripts of one agent. Calls read the disk: asynchronous callers run them on a thread for blocking work.
#[derive(Debug)]
pub struct Scripts {
    settings: ScriptsSettings,
    store: SnapshotStore,
    policy: VerifyPolicy,
    current: RwLock<Current>,
    /// Held while the folder is verified, so that many callers verify it once.
    refreshing: Mutex<()>,
    headers: Headers,
}

#[derive(Debug, Default)]
struct Current {
    source: Option<Arc<SnapshotSource>>,
    status: ScriptsStatus,
    /// The manifest's and signature's identity when the folder was looked at last.
    seen: Option<Seen>,
}

/// Tells one state of manifest and signature from another without reading them.
type Seen = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Scripts {
    /// Opens the store of snapshots and looks at the folder once. A folder that does not verify is no error here:
    /// every use of it says so.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(settings: ScriptsSettings) -> Result<Self, StoreError> {
        let store = SnapshotStore::at(&settings.state_dir.join("store"))?;
        let policy = VerifyPolicy::default().public_keys(settings.public_keys.iter().cloned());
        let scripts = Self {
            settings,
            store,
            policy,
            current: RwLock::default(),
            refreshing: Mutex::default(),
            headers: Headers::default(),
        };
        scripts.refresh();
        Ok(scripts)
    }

    /// The scripts folder.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Verifies the folder again and takes what it finds into use. One that does not verify leaves the snapshot in
    /// use where there is one.
    pub fn refresh(&self) -> ScriptsStatus {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.look()
    }

    /// What stands behind the scripts that would run now.
    pub fn status(&self) -> ScriptsStatus {
        self.read(|current| current.status.clone())
    }

    /// Where a new task gets its script from, and the digest that pins it.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] with every problem when the folder does not verify and no snapshot is in use.
    pub fn source(&self) -> Result<(Arc<dyn ScriptSource>, Option<String>), Refusal> {
        self.refresh_if_changed();
        let (source, status) = self.read(|current| (current.source.clone(), current.status.clone()));
        match source {
            Some(source) => {
                let pin = source.snapshot.digest().to_string();
                Ok((Arc::new(Offered(source)), Some(pin)))
            }
            None if !status.verification => Ok((self.unverified(), None)),
            None => {
                Err(Refusal::Unverified { problems: status.problems, mend: status.mend.unwrap_or_default() })
            }
        }
    }

    /// The source in use, if it is that of the manifest `pinned`. Touches no disk.
    pub(crate) fn current(&self, pinned: &str) -> Option<Arc<dyn ScriptSource>> {
        let current = self.read(|current| current.source.clone())?;
        (current.snapshot.digest().to_string() == pinned).then_some(current as Arc<dyn ScriptSource>)
    }

    /// Where a task gets its script from that was accepted when the manifest `pinned` was in use.
    ///
    /// # Errors
    /// [`StartError::Unverified`] when that snapshot is gone or damaged.
    pub fn pinned(&self, pinned: &str) -> Result<Arc<dyn ScriptSource>, StartError> {
        if let Some(source) = self.current(pinned) {
            return Ok(source);
        }
        let digest: Digest = pinned
            .parse()
            .map_err(|_| StartError::Unverified(format!("'{pinned}' is no manifest's digest")))?;
        let snapshot = self.store.open(&digest).map_err(|error| StartError::Unverified(error.to_string()))?;
        Ok(Arc::new(SnapshotSource::new(snapshot)))
    }

    /// What the script says of itself that this source would give for the name.
    ///
    /// # Errors
    /// Why the source gives none, or cannot be read.
    pub(crate) fn header(
        &self,
        source: &dyn ScriptSource,
        name: &ScriptName,
    ) -> Result<Arc<Header>, StartError> {
        self.headers.of(&source.resolve(name)?, name)
    }

    /// Where a task gets its script from that nothing vouches for.
    pub(crate) fn unverified(&self) -> Arc<dyn ScriptSource> {
        Arc::new(ScriptFolder::new(&self.settings.folder))
    }

    /// All scripts: the executable files that would be found by their names, without those that say that they are
    /// hidden.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] as [`source`](Self::source); [`Refusal::Unavailable`] when the folder cannot be read.
    pub fn list(&self) -> Result<Vec<ScriptEntry>, Refusal> {
        let (source, pin) = self.source()?;
        let names = match self.read(|current| current.source.clone()) {
            Some(current) if pin.is_some() => current.names(),
            _ => listing::names(&self.settings.folder)
                .map_err(|error| Refusal::Unavailable(self.unreadable(&error)))?,
        };
        let entries = names.iter().filter_map(|name| self.headers.entry(source.as_ref(), name));
        Ok(entries.filter(|entry| !entry.is_hidden()).collect())
    }

    /// One script; none when there is none of that name.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn get(&self, name: &ScriptName) -> Result<Option<ScriptEntry>, Refusal> {
        let (source, _) = self.source()?;
        Ok(self.headers.entry(source.as_ref(), name))
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
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have looked while this one waited.
        if !self.read(is_same) {
            self.look();
        }
    }

    fn look(&self) -> ScriptsStatus {
        // Read before the folder: a change in between is seen as a change the next time.
        let seen = self.seen();
        let found = self.take();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.seen = Some(seen);
        match found {
            Ok(None) => {
                current.source = None;
                current.status = ScriptsStatus::default();
            }
            Ok(Some(snapshot)) => {
                let manifest = Some(snapshot.digest().to_string());
                if current.status.manifest != manifest || current.source.is_none() {
                    tracing::info!(manifest = ?manifest, files = snapshot.files().len(), "scripts verified");
                    current.source = Some(Arc::new(SnapshotSource::new(snapshot)));
                } else if current.source.as_ref().is_some_and(|source| !source.is_of(&snapshot)) {
                    current.source = Some(Arc::new(SnapshotSource::new(snapshot)));
                }
                current.status = ScriptsStatus { verification: true, manifest, ..ScriptsStatus::default() };
            }
            Err(Found { problems, mend }) => {
                if current.status.problems != problems {
                    tracing::error!(?problems, in_use = ?current.status.manifest, "the scripts folder does not verify");
                }
                current.status.verification = true;
                current.status.problems = problems;
                current.status.mend = Some(mend);
            }
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

/// What is wrong with the folder.
struct Found {
    problems: Vec<String>,
    mend: String,
}

/// Scripts of a verified snapshot. What is executed is the snapshot's own copy.
#[derive(Debug)]
struct SnapshotSource {
    snapshot: Snapshot,
    /// What looking at a file gave; a snapshot's files never change.
    inspected: Mutex<HashMap<RelativeName, Result<(), ScriptFault>>>,
}

impl SnapshotSource {
    fn new(snapshot: Snapshot) -> Self {
        Self { snapshot, inspected: Mutex::default() }
    }

    fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.digest() == snapshot.digest() && self.snapshot.files().eq(snapshot.files())
    }

    fn names(&self) -> Vec<ScriptName> {
        let scripts = self.snapshot.files().filter(|file| file.executable);
        scripts.filter_map(|file| file.name.as_str().parse().ok()).collect()
    }

    fn inspect(&self, name: &ScriptName, relative: &RelativeName, path: &Path) -> Result<(), StartError> {
        let known = self.inspected.lock().unwrap_or_else(PoisonError::into_inner).get(relative).cloned();
        let checked = match known {
            Some(checked) => checked,
            None => {
                let mut file = File::open(path).map_err(|source| StartError::Host {
                    operation: format!("open the verified script {name}"),
                    source,
                })?;
                let checked = match inspect(&mut file, name) {
                    Ok(_) => Ok(()),
                    Err(StartError::Script { fault, .. }) => Err(fault),
                    Err(other) => return Err(other),
                };
                let mut inspected = self.inspected.lock().unwrap_or_else(PoisonError::into_inner);
                // An interpreter that is missing now may be installed later; what passed will pass.
                if checked.is_ok() {
                    inspected.insert(relative.clone(), checked.clone());
                }
                checked
            }
        };
        checked.map_err(|fault| StartError::Script { name: name.clone(), fault })
    }
}

impl ScriptSource for SnapshotSource {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        let not_found = || StartError::NotFound(name.clone());
        let relative = RelativeName::new(name.as_str()).map_err(|_| not_found())?;
        let file = self.snapshot.resolve(&relative).ok_or_else(not_found)?;
        let path = self.snapshot.path_of(file);
        self.inspect(name, &relative, &path)?;
        Ok(ResolvedScript {
            path,
            folder: self.snapshot.path().to_owned(),
            sha256: file.digest.to_string(),
            manifest: Some(self.snapshot.digest().to_string()),
            pin: Some(Box::new(self.snapshot.clone())),
        })
    }
}

/// What a snapshot offers to new tasks: a script from which the execute permission was taken in the scripts folder runs
/// only for the tasks that were accepted before.
struct Offered(Arc<SnapshotSource>);

impl ScriptSource for Offered {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        let script = self.0.resolve(name)?;
        let relative = RelativeName::new(name.as_str()).ok();
        let file = relative.and_then(|name| self.0.snapshot.resolve(&name).map(|file| file.executable));
        if file == Some(true) {
            return Ok(script);
        }
        let fault =
            ScriptFault::NotExecutable("it is not executable in the scripts folder; chmod +x it".to_owned());
        Err(StartError::Script { name: name.clone(), fault })
    }
}
