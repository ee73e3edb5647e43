//! Scripts as lists show them: what a source gives for a name, with what the header says.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use executor_core::{ResolvedScript, ScriptName, ScriptSource, StartError};
use serde_json::Value;

use crate::description::{Effect, Output, ScriptDescription};
use crate::header::{self, BrokenReason, HEAD_BYTES, Header, Warning};
use crate::schema;

/// Headers that are kept; more scripts than anybody has in one folder.
const MAX_KEPT: usize = 20_000;

/// A script as lists show it.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
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
    /// Its parameters as JSON Schema; null where it does not say.
    pub parameters: Option<Value>,
    /// The output parameters that it says it writes.
    pub outputs: Vec<Output>,
    /// All that it says of itself.
    #[serde(skip)]
    pub declared: Option<Arc<ScriptDescription>>,
}

/// Headers that were read, by the digest of their file. Only those of verified copies are kept: another file may lie
/// under a name whose digest was just made.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    known: Mutex<HashMap<String, Arc<Header>>>,
}

impl Headers {
    /// The header of a script that was looked up.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(crate) fn of(&self, script: &ResolvedScript, name: &ScriptName) -> Result<Arc<Header>, StartError> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = script.manifest.as_ref().and_then(|_| lock().get(&script.sha256).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let head = head(&script.path).map_err(|source| StartError::Host {
            operation: format!("read the header of the script {name}"),
            source,
        })?;
        let header = Arc::new(header::read(&head));
        if script.manifest.is_some() {
            let mut known = lock();
            if known.len() >= MAX_KEPT {
                known.clear();
            }
            known.insert(script.sha256.clone(), header.clone());
        }
        Ok(header)
    }

    /// The script of that name; none when there is none.
    pub(crate) fn entry(&self, source: &dyn ScriptSource, name: &ScriptName) -> Option<ScriptEntry> {
        let found = source.resolve(name).and_then(|script| Ok((self.of(&script, name)?, script)));
        let (header, script) = match found {
            Ok(found) => found,
            Err(StartError::NotFound(_)) => return None,
            Err(error) => {
                let reason = BrokenReason { line: None, reason: error.to_string() };
                return Some(ScriptEntry { broken: vec![reason], ..ScriptEntry::named(name) });
            }
        };
        let entry = ScriptEntry {
            sha256: script.sha256,
            verified: script.manifest.is_some(),
            warnings: header.warnings.clone(),
            ..ScriptEntry::named(name)
        };
        Some(match &header.description {
            Ok(None) => entry,
            Ok(Some(description)) => entry.described(description),
            Err(reasons) => ScriptEntry { broken: reasons.clone(), ..entry },
        })
    }
}

impl ScriptEntry {
    fn named(name: &ScriptName) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    fn described(self, description: &Arc<ScriptDescription>) -> Self {
        Self {
            described: true,
            description: description.description.clone(),
            group: description.group.clone(),
            tags: description.tags.clone(),
            effect: description.effect,
            parameters: Some(schema::parameters(description)),
            outputs: description.outputs.clone(),
            declared: Some(description.clone()),
            ..self
        }
    }

    /// Whether lists leave it out.
    pub(crate) fn is_hidden(&self) -> bool {
        self.declared.as_ref().is_some_and(|declared| declared.hidden)
    }
}

/// The first bytes of a script. Whatever was put in its place meanwhile is not waited for, and no link is followed.
///
/// # Errors
/// When it cannot be opened or read.
pub fn head(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}
