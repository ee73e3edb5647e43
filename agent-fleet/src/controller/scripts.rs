//! The scripts of nodes as lists show those of this agent: of one node, or of all that have some labels.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use task_runners::{ScriptEntry, ScriptName, Target};

use super::fleet::Fleet;
use super::view::{Offered, OfferedScript};

/// Most nodes that are named for a version of a script.
const MAX_NAMED: usize = 100;

/// Whose scripts are meant: all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The node of this name.
    pub node: Option<String>,
    /// The nodes that have all these labels.
    pub labels: BTreeMap<String, String>,
}

/// A script that nodes offer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeScript {
    /// The script as its node says. Where nodes differ it is what most of them have.
    #[serde(flatten)]
    pub entry: ScriptEntry,
    /// Which nodes have what, most nodes first; only where no single node was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<Vec<ScriptVersion>>,
}

/// A script's file, as it is on some nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScriptVersion {
    /// SHA-256 of the file.
    pub sha256: String,
    /// How many of the nodes have it.
    pub count: usize,
    /// The first hundred of them, by name.
    pub nodes: Vec<String>,
}

/// The nodes that are meant, by name, with what each offers.
type Meant = Vec<(String, Arc<Offered>)>;
/// What each of these scripts is, by its name and the digest of its file.
type Found<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Version<'a>>>;

/// A version that was found, with who has it.
struct Version<'a> {
    script: &'a OfferedScript,
    count: usize,
    nodes: Vec<String>,
}

impl Whose {
    fn means(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let is_it = self.node.as_ref().is_none_or(|node| node == name);
        is_it && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// The same as a task would name them, for those who are told that there are none.
    pub fn target(&self) -> Target {
        self.node.clone().map_or_else(|| Target::Labels(self.labels.clone()), Target::Node)
    }
}

impl Fleet {
    /// The first `most` scripts, by name and behind `after`, of those that nodes offer who are meant and that are wanted; none
    /// where no node is meant. What nodes offer that are away now is known as well. Thousands of nodes take a while.
    pub fn scripts(
        &self,
        whose: &Whose,
        after: Option<&ScriptName>,
        most: usize,
        wants: impl Fn(&ScriptEntry) -> bool,
    ) -> Option<Vec<NodeScript>> {
        let meant = self.meant(whose)?;
        let behind = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.as_str()));
        let all = meant.iter().flat_map(|(node, offered)| {
            offered.scripts.range::<str, _>((behind, Bound::Unbounded)).map(move |script| (node, script))
        });
        let mut found = Found::new();
        let listed = all.filter(|(_, (_, script))| !script.is_hidden());
        listed.for_each(|(node, (name, script))| note(&mut found, node, name, script));
        let shown = found.into_iter().filter_map(|(name, versions)| shown(whose, name, versions));
        Some(shown.filter(|script| wants(&script.entry)).take(most).collect())
    }

    /// One script of theirs, which lists may leave out. The outer none is that of [`scripts`](Self::scripts).
    pub fn script(&self, whose: &Whose, name: &ScriptName) -> Option<Option<NodeScript>> {
        let meant = self.meant(whose)?;
        let mut found = Found::new();
        for (node, offered) in &meant {
            if let Some((name, script)) = offered.scripts.get_key_value(name.as_str()) {
                note(&mut found, node, name, script);
            }
        }
        Some(found.into_iter().find_map(|(name, versions)| shown(whose, name, versions)))
    }

    /// What those nodes offer; none where there are none.
    fn meant(&self, whose: &Whose) -> Option<Meant> {
        let seats = self.inner.seats();
        let views = seats.iter().map(|(name, seat)| (name, seat.view()));
        let meant = views.filter(|(name, view)| whose.means(name, &view.facts.labels));
        let meant: Meant = meant.map(|(name, view)| (name.clone(), view.offered.clone())).collect();
        (!meant.is_empty()).then_some(meant)
    }
}

/// Notes that a node has a script.
fn note<'a>(found: &mut Found<'a>, node: &str, name: &'a str, script: &'a OfferedScript) {
    let new = || Version { script, count: 0, nodes: Vec::new() };
    let version = found.entry(name).or_default().entry(&script.sha256).or_insert_with(new);
    version.count += 1;
    if version.nodes.len() < MAX_NAMED {
        version.nodes.push(node.to_owned());
    }
}

/// A script by all versions of it; none where there are none.
fn shown(whose: &Whose, name: &str, versions: BTreeMap<&str, Version<'_>>) -> Option<NodeScript> {
    let mut versions: Vec<_> = versions.into_iter().collect();
    // Of equals the first by digest, so that the same one is shown each time.
    versions.sort_by_key(|(_, version)| std::cmp::Reverse(version.count));
    let entry = versions.first()?.1.script.entry(name);
    let told = versions.into_iter().map(|(sha256, Version { count, nodes, .. })| ScriptVersion {
        sha256: sha256.to_owned(),
        count,
        nodes,
    });
    let versions = whose.node.is_none().then(|| told.collect());
    Some(NodeScript { entry, versions })
}
