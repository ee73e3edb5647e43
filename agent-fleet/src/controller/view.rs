//! What can be seen of a node: whether it is there, and what it offers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use task_runners::{ScriptDescription, header};

use crate::message::{CatalogueScript, Hello};

/// A node as lists show it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when, where it is.
    pub since: Option<Timestamp>,
    /// Its labels, of its last connection since this agent was started.
    pub labels: BTreeMap<String, String>,
    /// Its runners.
    pub runners: Vec<String>,
    /// Most tasks that it runs at once.
    pub capacity: Option<usize>,
    /// The version of its agent.
    pub agent: Option<String>,
    /// The scripts that it offers, with their digests.
    pub scripts: BTreeMap<String, String>,
}

/// What is known of a node.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) connected: Option<Timestamp>,
    labels: BTreeMap<String, String>,
    runners: Vec<String>,
    capacity: Option<usize>,
    agent: Option<String>,
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
    pub(super) declared: Option<Arc<ScriptDescription>>,
}

impl Offered {
    /// Reads the headers. A script whose header this build cannot read is not offered.
    pub(super) fn read(digest: String, scripts: &[CatalogueScript]) -> Self {
        let read = scripts.iter().filter_map(|script| {
            let declared = header::read(script.header.as_bytes()).description.ok()?;
            Some((script.name.clone(), OfferedScript { sha256: script.sha256.clone(), declared }))
        });
        Self { digest, scripts: read.collect() }
    }
}

impl View {
    pub(super) fn of_offer(offered: Offered) -> Self {
        Self { offered: Arc::new(offered), ..Self::default() }
    }

    pub(super) fn connected(&mut self, hello: &Hello) {
        self.connected = Some(Timestamp::now());
        self.labels.clone_from(&hello.labels);
        self.runners.clone_from(&hello.runners);
        self.capacity = Some(hello.capacity);
        self.agent = Some(hello.agent.clone());
    }

    pub(super) fn entry(&self, name: &str) -> NodeEntry {
        let digests = self.offered.scripts.iter().map(|(name, script)| (name.clone(), script.sha256.clone()));
        NodeEntry {
            name: name.to_owned(),
            connected: self.connected.is_some(),
            since: self.connected,
            labels: self.labels.clone(),
            runners: self.runners.clone(),
            capacity: self.capacity,
            agent: self.agent.clone(),
            scripts: digests.collect(),
        }
    }
}
