//! Lines: what only so many tasks may have at once, who stands in each, and how many of it run.

use std::collections::{BTreeSet, HashMap};

use task_runners::{Lane, Plan};

/// What a task needs beside a slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// The shared workspace that nobody else may work in meanwhile.
    pub(crate) workspace: Option<String>,
    /// The lane whose other tasks leave it room.
    pub(crate) lane: Option<Lane>,
    /// Whether it runs on another agent, and takes no slot of this one.
    pub(crate) is_elsewhere: bool,
    /// What must have room for it there. A new task only knows; one that waits for it stands there.
    pub(crate) door: Option<String>,
    /// Whether it has none now.
    pub(crate) is_shut: bool,
}

/// Names a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Name {
    Workspace(String),
    Lane(String),
}

/// A task's place in one line: at most so many of it may run while the task does, itself included.
#[derive(Debug, Clone)]
pub(super) struct Place {
    line: Name,
    limit: usize,
}

/// All lines in which somebody stands, or of which somebody runs.
#[derive(Debug, Default)]
pub(super) struct Lines(HashMap<Name, Line>);

#[derive(Debug, Default)]
struct Line {
    waiting: BTreeSet<i64>,
    /// How many wait for a time before they stand in the line.
    outside: usize,
    running: usize,
}

impl Needs {
    /// Those of a new task.
    pub(crate) fn of(plan: &Plan, is_elsewhere: bool) -> Self {
        let workspace = plan.workspace.as_ref().map(|name| name.as_str().to_owned());
        // Nobody would ever leave a lane that lets nobody in.
        let lane = plan.lane.clone().map(|lane| Lane { concurrency: lane.concurrency.max(1), ..lane });
        Self { workspace, lane, is_elsewhere, door: plan.door.clone(), is_shut: plan.is_shut }
    }

    /// The lines that such a task stands in.
    pub(super) fn places(&self) -> Vec<Place> {
        let workspace = self.workspace.clone().map(|name| Place { line: Name::Workspace(name), limit: 1 });
        let lane = self.lane.as_ref().map(|lane| Place {
            line: Name::Lane(lane.name.clone()),
            limit: usize::try_from(lane.concurrency).unwrap_or(usize::MAX),
        });
        workspace.into_iter().chain(lane).collect()
    }
}

impl Lines {
    /// Whether a new task in this place has to wait.
    pub(super) fn is_contested(&self, place: &Place) -> bool {
        let line = self.0.get(&place.line);
        line.is_some_and(|line| !line.waiting.is_empty() || line.running >= place.limit)
    }

    /// Whether anybody works in the workspace or waits for it.
    pub(super) fn is_workspace_wanted(&self, needs: &Needs) -> bool {
        let line = needs.workspace.clone().and_then(|name| self.0.get(&Name::Workspace(name)));
        line.is_some_and(|line| line.running > 0 || !line.waiting.is_empty())
    }

    /// How many wait of the lane, and how many may.
    pub(super) fn bound(&self, needs: &Needs) -> (usize, usize) {
        let Some(lane) = &needs.lane else { return (0, usize::MAX) };
        let line = self.0.get(&Name::Lane(lane.name.clone()));
        let most = lane.queue.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        (line.map_or(0, |line| line.waiting.len() + line.outside), most)
    }

    /// Whether the task is the first in all its lines, and each has room for it.
    pub(super) fn let_through(&self, seq: i64, places: &[Place]) -> bool {
        places.iter().all(|place| {
            let line = self.0.get(&place.line);
            line.is_some_and(|line| line.waiting.first() == Some(&seq) && line.running < place.limit)
        })
    }

    /// The first two in each of these lines.
    pub(super) fn heads(&self, places: &[Place]) -> Vec<i64> {
        let lines = places.iter().filter_map(|place| self.0.get(&place.line));
        lines.flat_map(|line| line.waiting.iter().take(2).copied()).collect()
    }

    /// Whether nothing is kept of lines that nobody stands in, where there is nobody at all.
    #[cfg(test)]
    pub(super) fn is_tidy(&self, is_nobody: bool) -> bool {
        !is_nobody || self.0.is_empty()
    }

    pub(super) fn enter(&mut self, seq: i64, places: &[Place]) {
        self.change(places, |line| {
            line.waiting.insert(seq);
        });
    }

    pub(super) fn leave(&mut self, seq: i64, places: &[Place]) {
        self.change(places, |line| {
            line.waiting.remove(&seq);
        });
    }

    pub(super) fn step_out(&mut self, places: &[Place]) {
        self.change(places, |line| line.outside += 1);
    }

    pub(super) fn step_in(&mut self, places: &[Place]) {
        self.change(places, |line| line.outside = line.outside.saturating_sub(1));
    }

    pub(super) fn run(&mut self, places: &[Place]) {
        self.change(places, |line| line.running += 1);
    }

    pub(super) fn stop(&mut self, places: &[Place]) {
        self.change(places, |line| line.running = line.running.saturating_sub(1));
    }

    fn change(&mut self, places: &[Place], change: impl Fn(&mut Line)) {
        for place in places {
            let line = self.0.entry(place.line.clone()).or_default();
            change(line);
            if line.waiting.is_empty() && line.outside == 0 && line.running == 0 {
                self.0.remove(&place.line);
            }
        }
    }
}
