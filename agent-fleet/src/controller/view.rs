//! What can be seen of a node: whether it is there, and what it offers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use task_runners::header::{self, Header, Warning};
use task_runners::{ScriptDescription, ScriptEntry, TaskSpec, check_remote};
use task_service::{Problem, TaskId};

use super::store::{Facts, KnownNode};
use crate::message::{CatalogueScript, Hello};
use crate::opens::Opens;

/// A node as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when, where it is.
    pub since: Option<Timestamp>,
    /// Whether it takes no new tasks.
    pub draining: bool,
    /// Tasks that were handed to it and have not ended here.
    pub running: usize,
    /// Its labels, of its last connection.
    pub labels: BTreeMap<String, String>,
    /// Its runners.
    pub runners: Vec<String>,
    /// Most tasks that it runs at once.
    pub capacity: Option<usize>,
    /// The version of its agent.
    pub agent: Option<String>,
    /// The scripts that it offers and lists show, with their digests.
    pub scripts: BTreeMap<String, String>,
}

/// What is known of a node.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) connected: Option<Timestamp>,
    /// Whether it has said that it offers something else than is known, which has not come yet.
    pub(super) is_out_of_date: bool,
    pub(super) facts: Facts,
    pub(super) is_draining: bool,
    /// The tasks that are handed to it, or about to be, and have not ended here.
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) offered: Arc<Offered>,
}

/// What a node offers, read.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) digest: String,
    pub(super) scripts: BTreeMap<String, OfferedScript>,
}

/// A script that a node offers.
#[derive(Debug)]
pub(super) struct OfferedScript {
    pub(super) sha256: String,
    verified: bool,
    pub(super) declared: Option<Arc<ScriptDescription>>,
    warnings: Vec<Warning>,
}

impl OfferedScript {
    /// Reads a header; none where this build cannot.
    fn read(script: &CatalogueScript) -> Option<Self> {
        let Header { description, warnings } = header::read(script.header.as_bytes());
        let (sha256, verified) = (script.sha256.clone(), script.verified);
        Some(Self { sha256, verified, declared: description.ok()?, warnings })
    }

    /// Whether lists leave it out.
    pub(super) fn is_hidden(&self) -> bool {
        self.declared.as_ref().is_some_and(|declared| declared.hidden)
    }

    /// The script as lists show it.
    pub(super) fn entry(&self, name: &str) -> ScriptEntry {
        let entry = ScriptEntry {
            name: name.to_owned(),
            sha256: self.sha256.clone(),
            verified: self.verified,
            warnings: self.warnings.clone(),
            ..ScriptEntry::default()
        };
        match &self.declared {
            Some(declared) => entry.described(declared),
            None => entry,
        }
    }
}

impl OfferedScript {
    /// Checks a spec for this script at a node that opens this, and gives the names of the secrets in it.
    pub(super) fn check(&self, spec: &TaskSpec, opens: Option<&Opens>) -> Result<Vec<String>, Vec<Problem>> {
        let declared = self.declared.as_deref();
        let by_script = declared.map_or(&[][..], |declared| &declared.env);
        let closed = opens.map_or_else(Vec::new, |opens| opens.problems(spec, by_script));
        match (check_remote(spec, declared), closed.is_empty()) {
            (Ok(secrets), true) => Ok(secrets),
            (checked, _) => Err(checked.err().into_iter().flatten().chain(closed).collect()),
        }
    }
}

impl Offered {
    /// The digest of a script.
    pub(super) fn digest_of(&self, name: &str) -> Option<String> {
        self.scripts.get(name).map(|script| script.sha256.clone())
    }

    /// Reads the headers. A script whose header this build cannot read is not offered.
    pub(super) fn read(digest: String, scripts: &[CatalogueScript]) -> Self {
        let read =
            scripts.iter().filter_map(|script| Some((script.name.clone(), OfferedScript::read(script)?)));
        Self { digest, scripts: read.collect() }
    }
}

impl View {
    /// A node that was here before this agent was started.
    pub(super) fn of_known(node: KnownNode) -> Self {
        let offered = Arc::new(Offered::read(node.digest, &node.scripts));
        Self { offered, facts: node.facts, is_draining: node.is_draining, ..Self::default() }
    }

    pub(super) fn connected(&mut self, hello: &Hello) {
        self.connected = Some(Timestamp::now());
        self.facts = Facts::of(hello);
        self.is_out_of_date = self.offered.digest != hello.catalogue;
    }

    /// Whether tasks can be handed to it: what it does not offer any more it would refuse for good.
    pub(super) fn is_open(&self) -> bool {
        self.connected.is_some() && !self.is_draining && !self.is_out_of_date
    }

    /// How many tasks a node of a pool has room for.
    pub(super) fn room(&self) -> usize {
        let capacity = self.facts.capacity.filter(|_| self.is_open()).unwrap_or_default();
        capacity.saturating_sub(self.tasks.len())
    }

    pub(super) fn entry(&self, name: &str) -> NodeEntry {
        let listed = self.offered.scripts.iter().filter(|(_, script)| !script.is_hidden());
        let digests = listed.map(|(name, script)| (name.clone(), script.sha256.clone()));
        NodeEntry {
            name: name.to_owned(),
            connected: self.connected.is_some(),
            since: self.connected,
            draining: self.is_draining,
            running: self.tasks.len(),
            labels: self.facts.labels.clone(),
            runners: self.facts.runners.clone(),
            capacity: self.facts.capacity,
            agent: self.facts.agent.clone(),
            scripts: digests.collect(),
        }
    }
}
