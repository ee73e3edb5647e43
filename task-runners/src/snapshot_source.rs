//! Scripts of a verified snapshot. What is executed is the snapshot's own copy, and what is said of it was read there.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use executor_core::{ResolvedScript, ScriptFault, ScriptName, ScriptSource, StartError};
use executor_integrity::{RelativeName, Snapshot, SnapshotFile};

use crate::inventory::{Card, Found, Known, ScriptCards, Versions, scan};

/// The scripts of one snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotSource {
    snapshot: Snapshot,
    versions: Versions,
    kept: Mutex<Kept>,
}

/// What has been looked at; a snapshot's files never change.
#[derive(Debug, Default)]
struct Kept {
    /// Of scripts that can be run. What another lacks, an interpreter for one, may come: it is looked at again.
    cards: HashMap<ScriptName, Arc<Card>>,
    /// The list, once somebody asked for it.
    found: Option<Arc<Found>>,
    /// The list that was shown before it.
    before: Arc<Found>,
}

impl SnapshotSource {
    /// The scripts of a snapshot. What `before` knew of the same bytes is not read again.
    pub(crate) fn new(snapshot: Snapshot, versions: Versions, before: Option<&Self>) -> Self {
        let mut kept = Kept::default();
        if let Some(before) = before.map(Self::kept) {
            let is_same = |name: &ScriptName, card: &Arc<Card>| {
                let file = file_of(&snapshot, name);
                file.is_some_and(|file| file.executable && file.digest.to_string() == card.sha256)
            };
            let cards = before.cards.iter().filter(|(name, card)| is_same(name, card));
            kept.cards = cards.map(|(name, card)| (name.clone(), card.clone())).collect();
            kept.before = before.found.as_ref().unwrap_or(&before.before).clone();
        }
        Self { snapshot, versions, kept: Mutex::new(kept) }
    }

    /// The snapshot.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether it is of this snapshot, with the same files.
    pub(crate) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.digest() == snapshot.digest() && self.snapshot.files().eq(snapshot.files())
    }

    /// All its scripts that new tasks may run.
    pub(crate) fn found(&self) -> Arc<Found> {
        let before = {
            let kept = self.kept();
            match &kept.found {
                Some(found) if !found.wants_another_look(Instant::now()) => return found.clone(),
                Some(found) => found.clone(),
                None => kept.before.clone(),
            }
        };
        let executable = self.snapshot.files().filter(|file| file.executable);
        let names: Vec<ScriptName> = executable.filter_map(|file| file.name.as_str().parse().ok()).collect();
        let looked = scan::at_once(&names, &|name| Some(Known::of_copy(&self.card(name))));
        let found = Arc::new(Found::new(looked.into_iter().collect(), &before, &self.versions));
        self.kept().found = Some(found.clone());
        found
    }

    /// Has every file read again when it is asked for.
    pub(crate) fn forget(&self) {
        let mut kept = self.kept();
        kept.cards.clear();
        if let Some(found) = kept.found.take() {
            kept.before = found;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolved(&self, file: &SnapshotFile) -> ResolvedScript {
        ResolvedScript {
            path: self.snapshot.path_of(file),
            folder: self.snapshot.path().to_owned(),
            sha256: file.digest.to_string(),
            manifest: Some(self.snapshot.digest().to_string()),
            pin: Some(Box::new(self.snapshot.clone())),
        }
    }

    fn file(&self, name: &ScriptName) -> Result<&SnapshotFile, StartError> {
        file_of(&self.snapshot, name).ok_or_else(|| StartError::NotFound(name.clone()))
    }
}

impl ScriptSource for SnapshotSource {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        let file = self.file(name)?;
        self.card(name)?;
        Ok(self.resolved(file))
    }
}

impl ScriptCards for SnapshotSource {
    fn card(&self, name: &ScriptName) -> Result<Arc<Card>, StartError> {
        if let Some(card) = self.kept().cards.get(name) {
            return Ok(card.clone());
        }
        let path = self.snapshot.path_of(self.file(name)?);
        let open = File::open(path).map_err(|source| StartError::Host {
            operation: format!("open the verified script {name}"),
            source,
        })?;
        let card = Card::of(open, name)?;
        self.kept().cards.insert(name.clone(), card.clone());
        Ok(card)
    }
}

/// What a snapshot offers to new tasks: a script from which the execute permission was taken in the scripts folder runs
/// only for the tasks that were accepted before.
#[derive(Debug)]
pub(crate) struct Offered(pub(crate) Arc<SnapshotSource>);

impl Offered {
    fn check(&self, name: &ScriptName) -> Result<(), StartError> {
        if file_of(&self.0.snapshot, name).is_none_or(|file| file.executable) {
            return Ok(());
        }
        let fault =
            ScriptFault::NotExecutable("it is not executable in the scripts folder; chmod +x it".to_owned());
        Err(StartError::Script { name: name.clone(), fault })
    }
}

impl ScriptSource for Offered {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        let script = self.0.resolve(name)?;
        self.check(name).map(|()| script)
    }
}

impl ScriptCards for Offered {
    fn card(&self, name: &ScriptName) -> Result<Arc<Card>, StartError> {
        let card = self.0.card(name)?;
        self.check(name).map(|()| card)
    }
}

fn file_of<'a>(snapshot: &'a Snapshot, name: &ScriptName) -> Option<&'a SnapshotFile> {
    snapshot.resolve(&RelativeName::new(name.as_str()).ok()?)
}
