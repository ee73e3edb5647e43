//! Scripts as lists show them. What is kept in memory is small; what is shown is made of it when it is asked for.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use executor_core::{ScriptName, StartError};
use serde::{Serialize, Serializer};

use crate::description::{Effect, Output, ScriptDescription};
use crate::header::{BrokenReason, Warning};
use crate::inventory::{self, Card, Found, Known};
use crate::schema;

/// All scripts at one moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Catalogue {
    found: Arc<Found>,
    is_verified: bool,
}

/// A script as lists show it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ScriptEntry {
    /// Its name.
    pub name: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Whether a manifest vouches for it.
    pub verified: bool,
    /// Why it cannot be run, if it cannot.
    pub broken: Vec<BrokenReason>,
    /// What should be otherwise in its header.
    pub warnings: Vec<Warning>,
    /// Whether it says what it takes; one that does not takes any arguments.
    pub described: bool,
    /// What it does, in a sentence.
    pub description: Option<String>,
    /// The group that lists show it in.
    pub group: Option<String>,
    /// Words for filters.
    pub tags: Vec<String>,
    /// What it does to the world.
    pub effect: Option<Effect>,
    /// All that it says of itself. In JSON `parameters`: its parameters as JSON Schema, null where it does not say.
    #[serde(rename = "parameters", serialize_with = "as_schema")]
    pub declared: Option<Arc<ScriptDescription>>,
    /// The output parameters that it says it writes.
    pub outputs: Vec<Output>,
}

impl Catalogue {
    pub(crate) fn new(found: Arc<Found>, is_verified: bool) -> Self {
        Self { found, is_verified }
    }

    /// Tells one state of the same [`Scripts`](crate::Scripts) from another: of two with the same number lists show the same.
    pub fn version(&self) -> u64 {
        self.found.version()
    }

    /// The scripts that lists show, by name, behind `after` where one is given and as far as `wants` says so. An entry is
    /// made when it is asked for.
    pub fn entries<'a>(
        &'a self,
        after: Option<&'a ScriptName>,
        wants: impl Fn(&ScriptName) -> bool + 'a,
    ) -> impl Iterator<Item = ScriptEntry> + 'a {
        let listed = self.found.behind(after).filter(|(_, known)| !is_hidden(known));
        let wanted = listed.filter(move |(name, _)| wants(name));
        wanted.map(|(name, known)| self.entry(name, known))
    }

    /// All scripts by name, those too that lists leave out: whoever knows such a name can run it.
    pub fn all(&self) -> impl Iterator<Item = ScriptEntry> + '_ {
        self.found.behind(None).map(|(name, known)| self.entry(name, known))
    }

    fn entry(&self, name: &ScriptName, known: &Known) -> ScriptEntry {
        match &known.looked {
            Ok(card) => ScriptEntry::of_card(name, card, self.is_verified),
            Err(reason) => ScriptEntry::broken(name, reason.to_string()),
        }
    }

    /// The scripts of which this one and `before` do not say the same: those that came, those that changed, those that
    /// went.
    pub fn changes_since(&self, before: &Self) -> CatalogueChanges {
        let mut changes = CatalogueChanges::default();
        for (name, known) in self.found.behind(None) {
            match before.found.get(name) {
                None => changes.came.push(name.clone()),
                Some(before) if !before.is_like(known) => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let is_gone = |name: &&ScriptName| self.found.get(name).is_none();
        changes.went = before.found.behind(None).map(|(name, _)| name).filter(is_gone).cloned().collect();
        changes
    }
}

/// How two states of a catalogue differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogueChanges {
    /// Scripts that are new.
    pub came: Vec<ScriptName>,
    /// Scripts whose files are others.
    pub changed: Vec<ScriptName>,
    /// Scripts that are not there any more.
    pub went: Vec<ScriptName>,
}

impl ScriptEntry {
    /// The entry of a script that was looked up by its name; none when there is none.
    pub(crate) fn of(
        name: &ScriptName,
        looked: Result<Arc<Card>, StartError>,
        verified: bool,
    ) -> Option<Self> {
        match looked {
            Ok(card) => Some(Self::of_card(name, &card, verified)),
            Err(StartError::NotFound(_)) => None,
            Err(error) => Some(Self::broken(name, error.to_string())),
        }
    }

    fn of_card(name: &ScriptName, card: &Card, verified: bool) -> Self {
        let entry = Self {
            name: name.to_string(),
            sha256: card.sha256.clone(),
            verified,
            warnings: card.header.warnings.clone(),
            ..Self::default()
        };
        match &card.header.description {
            Ok(None) => entry,
            Ok(Some(description)) => entry.described(description),
            Err(reasons) => Self { broken: reasons.clone(), ..entry },
        }
    }

    fn broken(name: &ScriptName, reason: String) -> Self {
        Self { name: name.to_string(), broken: vec![BrokenReason { line: None, reason }], ..Self::default() }
    }

    /// The same of a script that says this of itself.
    #[must_use]
    pub fn described(self, description: &Arc<ScriptDescription>) -> Self {
        Self {
            described: true,
            description: description.description.clone(),
            group: description.group.clone(),
            tags: description.tags.clone(),
            effect: description.effect,
            outputs: description.outputs.clone(),
            declared: Some(description.clone()),
            ..self
        }
    }
}

/// The names of all scripts in a folder, in order, whatever their headers say. Nothing of the files is read.
///
/// # Errors
/// When the folder cannot be read.
pub fn script_names(folder: &Path) -> io::Result<Vec<ScriptName>> {
    let files = inventory::files(folder, &mut |_| ())?;
    let mut names: Vec<ScriptName> = files.scripts.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

/// The first bytes of a script. Whatever was put in its place meanwhile is not waited for, and no link is followed.
///
/// # Errors
/// When it cannot be opened or read.
pub fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    inventory::head(&mut file)
}

/// Whether lists leave it out.
fn is_hidden(known: &Known) -> bool {
    let description = known.looked.as_ref().ok().and_then(|card| card.header.description.as_ref().ok());
    description.and_then(Option::as_ref).is_some_and(|description| description.hidden)
}

fn as_schema<S: Serializer>(
    declared: &Option<Arc<ScriptDescription>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    declared.as_deref().map(schema::parameters).serialize(serializer)
}
