//! Doors: what tasks wait for together, and for how many of them there is room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use task_runners::{Target, TaskOrder};

use super::fleet::Seat;
use super::view::{OfferedScript, View};
use crate::opens::Opens;

/// What tasks wait for together: a node that is meant and has room, and whose script can be run.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) target: Target,
    pub(super) script: String,
    /// Those scripts of that name that will do; without it all of them. Who waits for some does not stand in the way of who
    /// waits for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) only: Option<BTreeSet<Version>>,
}

/// What tells scripts of one name apart: the file, and what its node opens to callers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) sha256: String,
    pub(super) opens: Option<Opens>,
}

impl Version {
    fn of(script: &OfferedScript, view: &View) -> Self {
        Self { sha256: script.sha256.clone(), opens: view.facts.opens.clone() }
    }

    fn is_of(&self, script: &OfferedScript, view: &View) -> bool {
        self.sha256 == script.sha256 && self.opens == view.facts.opens
    }
}

impl Door {
    /// What a task waits for: a node that offers the script as it was checked, and takes what the spec asks for. Where no
    /// node does that is meant, there or not, any with a script of that name will do: it says what is wrong, and the task
    /// ends.
    pub(super) fn of(seats: &BTreeMap<String, Arc<Seat>>, order: &TaskOrder, target: &Target) -> Self {
        let spec = &order.spec;
        let mut takes: Vec<(Version, bool)> = Vec::new();
        for (name, seat) in seats {
            let view = seat.view();
            let Some(script) = view.offered.scripts.get(&spec.name) else { continue };
            let is_known = takes.iter().any(|(version, _)| version.is_of(script, &view));
            if !is_known && target.means(name, &view.facts.labels) {
                let is_pinned = order.pinned.as_ref().is_none_or(|pinned| *pinned == script.sha256);
                let is_taken = is_pinned && script.check(spec, view.facts.opens.as_ref()).is_ok();
                takes.push((Version::of(script, &view), is_taken));
            }
        }
        let all = takes.len();
        let only = takes.into_iter().filter_map(|(version, is_taken)| is_taken.then_some(version));
        Self::to(target, &spec.name, only.collect(), all)
    }

    /// The door to those of all scripts of a name that will do.
    pub(super) fn to(target: &Target, script: &str, only: BTreeSet<Version>, all: usize) -> Self {
        // What all take, or none, needs no door of its own.
        let only = Some(only).filter(|only| !only.is_empty() && only.len() < all);
        Self { target: target.clone(), script: script.to_owned(), only }
    }

    /// How the task service knows it.
    pub(super) fn text(&self) -> String {
        // It has only texts, which JSON has.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a node is behind it.
    pub(super) fn leads_to(&self, name: &str, view: &View) -> bool {
        let script = view.offered.scripts.get(&self.script);
        let is_one =
            |script| self.only.as_ref().is_none_or(|only| only.iter().any(|one| one.is_of(script, view)));
        script.is_some_and(is_one) && self.target.means(name, &view.facts.labels)
    }
}

/// For how many of those that wait there is room; `taken` is what was given to others of each node.
pub(super) fn room_behind(
    seats: &BTreeMap<String, Arc<Seat>>,
    door: &Door,
    waiting: usize,
    taken: &mut HashMap<String, usize>,
) -> usize {
    if let Target::Node(name) = &door.target {
        let is_open = seats.get(name).is_some_and(|seat| seat.view().is_open());
        return if is_open { waiting } else { 0 };
    }
    if door.only.is_some() && !seats.iter().any(|(name, seat)| door.leads_to(name, &seat.view())) {
        // What they wait for was changed everywhere: they find another door, or their end.
        let all = Door { target: door.target.clone(), script: door.script.clone(), only: None };
        return room_behind(seats, &all, waiting, taken);
    }
    let mut room = 0;
    for (name, seat) in seats {
        let view = seat.view();
        if room >= waiting || !door.leads_to(name, &view) {
            continue;
        }
        let taken = taken.entry(name.clone()).or_default();
        let here = view.room().saturating_sub(*taken).min(waiting - room);
        *taken += here;
        room += here;
    }
    room
}
