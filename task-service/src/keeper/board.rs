//! The board: who waits, who runs, which shared workspaces are taken. Plain data and plain decisions; the keeper
//! carries them out. It holds what the database holds, so that it can be made anew from there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use task_runners::{OnBusy, TaskId, TaskStatus};

use crate::store::Unfinished;

/// First wait before a task is tried again whose workspace was in use outside this service; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Longest such wait.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Who waits, who runs, which shared workspaces are taken.
#[derive(Debug)]
pub(crate) struct Board {
    slots: usize,
    queue: usize,
    draining: bool,
    waiting: BTreeMap<i64, Waiting>,
    running: HashMap<TaskId, Running>,
}

#[derive(Debug)]
struct Waiting {
    id: TaskId,
    workspace: Option<String>,
    not_before: Option<Instant>,
    tries: u32,
}

#[derive(Debug)]
struct Running {
    workspace: Option<String>,
    tries: u32,
}

/// What becomes of a new task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It starts at once.
    Start,
    /// It waits.
    Wait,
    /// Its shared workspace is taken, and it does not want to wait for that.
    Busy,
    /// The queue is full.
    Full,
    /// Nothing is accepted any more.
    Draining,
}

impl Board {
    /// An empty board with so many slots and so much room for waiting tasks.
    pub(crate) fn new(slots: usize, queue: usize) -> Self {
        Self { slots, queue, draining: false, waiting: BTreeMap::new(), running: HashMap::new() }
    }

    /// Makes the board anew from the rows of all tasks that have not ended.
    pub(crate) fn reload(&mut self, rows: Vec<Unfinished>) {
        self.waiting.clear();
        self.running.clear();
        for Unfinished { seq, id, status, workspace } in rows {
            match status {
                TaskStatus::Queued => self.wait(seq, id, workspace),
                _ => self.start_new(id, workspace),
            }
        }
    }

    /// What becomes of a new task that wants `workspace`. A task that waits for the same workspace comes first.
    pub(crate) fn place(&self, workspace: Option<&str>, on_busy: OnBusy) -> Placement {
        let contested = workspace.is_some() && self.wants().any(|taken| Some(taken) == workspace);
        let fits = self.running.len() < self.slots && !contested;
        if contested && on_busy == OnBusy::Refuse {
            Placement::Busy
        } else if !fits && self.waiting.len() >= self.queue {
            Placement::Full
        } else if self.draining {
            Placement::Draining
        } else if fits {
            Placement::Start
        } else {
            Placement::Wait
        }
    }

    /// The waiting task whose turn it is: the oldest whose shared workspace is free. One that waits for a workspace
    /// does not block those behind it, unless they want the same.
    pub(crate) fn next_start(&self, now: Instant) -> Option<i64> {
        if self.draining || self.running.len() >= self.slots {
            return None;
        }
        let mut taken: HashSet<&str> =
            self.running.values().filter_map(|task| task.workspace.as_deref()).collect();
        for (&seq, task) in &self.waiting {
            let workspace = task.workspace.as_deref();
            let due = task.not_before.is_none_or(|at| at <= now);
            if due && workspace.is_none_or(|workspace| !taken.contains(workspace)) {
                return Some(seq);
            }
            taken.extend(workspace);
        }
        None
    }

    /// When the next task is to be tried again that waits for a time.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.waiting.values().filter_map(|task| task.not_before).filter(|&at| at > now).min()
    }

    /// A new task waits.
    pub(crate) fn wait(&mut self, seq: i64, id: TaskId, workspace: Option<String>) {
        self.waiting.insert(seq, Waiting { id, workspace, not_before: None, tries: 0 });
    }

    /// A new task runs.
    pub(crate) fn start_new(&mut self, id: TaskId, workspace: Option<String>) {
        self.running.insert(id, Running { workspace, tries: 0 });
    }

    /// A waiting task runs.
    pub(crate) fn start(&mut self, seq: i64) {
        if let Some(Waiting { id, workspace, tries, .. }) = self.waiting.remove(&seq) {
            self.running.insert(id, Running { workspace, tries });
        }
    }

    /// A running task waits again, and for longer each time.
    pub(crate) fn put_back(&mut self, seq: i64, id: &TaskId, now: Instant) {
        if let Some(Running { workspace, tries }) = self.running.remove(id) {
            let waiting =
                Waiting { id: id.clone(), workspace, not_before: Some(now + pause(tries)), tries: tries + 1 };
            self.waiting.insert(seq, waiting);
        }
    }

    /// A waiting task could not be started for a reason that may pass.
    pub(crate) fn postpone(&mut self, seq: i64, now: Instant) {
        if let Some(task) = self.waiting.get_mut(&seq) {
            task.not_before = Some(now + pause(task.tries));
            task.tries += 1;
        }
    }

    /// A waiting task is gone.
    pub(crate) fn remove_waiting(&mut self, seq: i64) {
        self.waiting.remove(&seq);
    }

    /// A running task is gone.
    pub(crate) fn remove_running(&mut self, id: &TaskId) {
        self.running.remove(id);
    }

    /// Whether a task runs.
    pub(crate) fn runs(&self, id: &TaskId) -> bool {
        self.running.contains_key(id)
    }

    /// Whether a task waits or runs.
    pub(crate) fn knows(&self, id: &TaskId) -> bool {
        self.runs(id) || self.waiting.values().any(|task| task.id == *id)
    }

    /// From now on nothing is accepted or started.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    fn wants(&self) -> impl Iterator<Item = &str> {
        let running = self.running.values().filter_map(|task| task.workspace.as_deref());
        running.chain(self.waiting.values().filter_map(|task| task.workspace.as_deref()))
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(tries)).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TaskId {
        text.parse().unwrap()
    }

    /// A board whose running and waiting tasks want these workspaces ("" wants none).
    fn board(slots: usize, running: &[&str], waiting: &[&str]) -> Board {
        let workspace = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let mut board = Board::new(slots, 3);
        for (index, name) in running.iter().enumerate() {
            board.start_new(id(&format!("r{index}")), workspace(name));
        }
        for (seq, name) in (1..).zip(waiting) {
            board.wait(seq, id(&format!("w{seq}")), workspace(name));
        }
        board
    }

    #[test]
    fn the_oldest_task_whose_workspace_is_free_is_next() {
        type Row = (usize, &'static [&'static str], &'static [&'static str], Option<i64>);
        let table: &[Row] = &[
            (1, &[], &[], None),
            (1, &[], &["", ""], Some(1)),
            (1, &[""], &["", ""], None),
            (2, &["a"], &["a", "a", "b"], Some(3)),
            (2, &["a"], &["a", ""], Some(2)),
            (9, &["a", "b"], &["a", "b"], None),
            (0, &[], &[""], None),
        ];
        for (slots, running, waiting, expected) in table {
            let next = board(*slots, running, waiting).next_start(Instant::now());
            assert_eq!(next, *expected, "{slots} slots, running {running:?}, waiting {waiting:?}");
        }
    }

    #[test]
    fn a_new_task_starts_waits_or_is_refused() {
        use OnBusy::{Refuse, Wait};
        type Row =
            (&'static [&'static str], &'static [&'static str], Option<&'static str>, OnBusy, Placement);
        let table: &[Row] = &[
            (&[], &[], None, Wait, Placement::Start),
            (&[""], &[], Some("a"), Refuse, Placement::Start),
            (&["a"], &[], Some("a"), Wait, Placement::Wait),
            (&["a"], &[], Some("a"), Refuse, Placement::Busy),
            (&[""], &["a"], Some("a"), Refuse, Placement::Busy),
            (&["a"], &["a"], Some("b"), Wait, Placement::Start),
            (&["", ""], &[], None, Wait, Placement::Wait),
            (&["", ""], &["", "", ""], None, Wait, Placement::Full),
            (&["a"], &["a", "a", "a"], Some("a"), Wait, Placement::Full),
            (&["a"], &["a", "a", "a"], Some("a"), Refuse, Placement::Busy),
            (&["a"], &["a", "a", "a"], None, Wait, Placement::Start),
        ];
        for (running, waiting, workspace, on_busy, expected) in table {
            let placement = board(2, running, waiting).place(*workspace, *on_busy);
            assert_eq!(placement, *expected, "running {running:?}, waiting {waiting:?}, wants {workspace:?}");
        }
    }

    #[test]
    fn a_draining_board_starts_and_accepts_nothing() {
        let mut board = board(2, &[], &[""]);
        board.drain();
        assert_eq!(board.next_start(Instant::now()), None);
        assert_eq!(board.place(None, OnBusy::Wait), Placement::Draining);
    }

    #[test]
    fn a_task_that_was_put_back_keeps_its_place_and_waits_longer_each_time() {
        let mut board = board(2, &[], &["a", "a", ""]);
        let now = Instant::now();
        board.start(1);
        board.put_back(1, &id("w1"), now);
        // Number 2 wants the same workspace and stays behind; number 3 does not.
        assert_eq!(board.next_start(now), Some(3));
        assert_eq!(board.next_due(now), Some(now + FIRST_RETRY));
        let later = now + FIRST_RETRY;
        assert_eq!(board.next_start(later), Some(1));
        assert_eq!(board.next_due(later), None);
        board.start(1);
        board.put_back(1, &id("w1"), later);
        assert_eq!(board.next_due(later), Some(later + 2 * FIRST_RETRY));
        assert_eq!(pause(u32::MAX), LAST_RETRY);
    }
}
