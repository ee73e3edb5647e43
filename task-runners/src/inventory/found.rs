//! What is known of all scripts at one moment. Shared between those who list it; replaced where something changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use executor_core::{ScriptName, StartError};

use super::card::Card;
use super::identity::Identity;

/// How old a look may be that found a script which cannot be run: what it lacks, an interpreter for one, may have come
/// without a change of its file.
const FAULTS_HOLD: Duration = Duration::from_secs(1);

/// Numbers for what was found, so that two of the same number are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions(Arc<AtomicU64>);

/// One script as it was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// None for what never changes.
    identity: Option<Identity>,
    /// Or why it cannot be run.
    pub(crate) looked: Result<Arc<Card>, Arc<str>>,
}

/// All scripts that have been found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    scripts: BTreeMap<ScriptName, Known>,
    version: u64,
    looked_at: Instant,
    has_faults: bool,
    /// Whether some of it is what was known before, since it could not be looked at.
    is_partial: bool,
}

impl Versions {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Known {
    /// A file that may change.
    pub(crate) fn of_file(identity: Identity, looked: &Result<Arc<Card>, StartError>) -> Self {
        Self { identity: Some(identity), ..Self::of_copy(looked) }
    }

    /// A file that never changes.
    pub(crate) fn of_copy(looked: &Result<Arc<Card>, StartError>) -> Self {
        let looked = match looked {
            Ok(card) => Ok(card.clone()),
            Err(error) => Err(error.to_string().into()),
        };
        Self { identity: None, looked }
    }

    /// Whether lists show the same of both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (&self.looked, &other.looked) {
            (Ok(one), Ok(other)) => one.sha256 == other.sha256,
            (Err(one), Err(other)) => one == other,
            _ => false,
        }
    }
}

impl Found {
    /// What was found just now; of the same version as before where nothing is other than it was.
    pub(crate) fn new(scripts: BTreeMap<ScriptName, Known>, before: &Self, versions: &Versions) -> Self {
        let is_same = scripts.len() == before.scripts.len()
            && scripts
                .iter()
                .all(|(name, known)| before.get(name).is_some_and(|before| before.is_like(known)));
        let version = if is_same { before.version } else { versions.next() };
        let has_faults = scripts.values().any(|known| known.looked.is_err());
        Self { scripts, version, looked_at: Instant::now(), has_faults, is_partial: false }
    }

    /// The same, not all of which could be looked at.
    pub(crate) fn partial(self) -> Self {
        Self { is_partial: true, ..self }
    }

    /// The number of this state.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, name: &ScriptName) -> Option<&Known> {
        self.scripts.get(name)
    }

    /// All by name, behind `after` where one is given.
    pub(crate) fn behind(&self, after: Option<&ScriptName>) -> impl Iterator<Item = (&ScriptName, &Known)> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.scripts.range::<ScriptName, _>((from, Bound::Unbounded))
    }

    /// The card of a file that is surely still the one that was looked at.
    pub(crate) fn card(&self, name: &ScriptName, now: &Identity) -> Option<&Arc<Card>> {
        let known = self.get(name)?;
        known.identity.as_ref()?.is_still(now).then_some(known.looked.as_ref().ok()?)
    }

    /// Whether there is nothing new to learn of a file.
    pub(crate) fn is_known(&self, name: &ScriptName, now: &Identity) -> bool {
        self.card(name, now).is_some()
    }

    /// Whether every change from now on will show by the file's identity.
    pub(crate) fn is_settled(&self) -> bool {
        let mut known = self.scripts.values();
        !self.is_partial && known.all(|known| known.identity.is_none_or(|identity| identity.is_settled()))
    }

    /// Whether something that could not be run may have been mended by something else than its file.
    pub(crate) fn wants_another_look(&self, now: Instant) -> bool {
        (self.has_faults || self.is_partial) && now.saturating_duration_since(self.looked_at) > FAULTS_HOLD
    }

    pub(crate) fn insert(&mut self, name: &ScriptName, known: Known, versions: &Versions) {
        if self.get(name).is_none_or(|before| !before.is_like(&known)) {
            self.version = versions.next();
        }
        self.has_faults |= known.looked.is_err();
        self.scripts.insert(name.clone(), known);
    }

    pub(crate) fn remove(&mut self, name: &ScriptName, versions: &Versions) {
        if self.scripts.remove(name).is_some() {
            self.version = versions.next();
        }
    }

    /// Has every file read again at the next look.
    pub(crate) fn doubt_all(&mut self) {
        for identity in self.scripts.values_mut().filter_map(|known| known.identity.as_mut()) {
            identity.doubt();
        }
    }
}

impl Default for Found {
    fn default() -> Self {
        let (scripts, version) = Default::default();
        Self { scripts, version, looked_at: Instant::now(), has_faults: false, is_partial: false }
    }
}
