//! The board: who waits, who runs, which lines they stand in. Plain data and plain decisions; the keeper carries them
//! out. It holds what the database holds, so that it can be made anew from there.
//!
//! A shared workspace is a line of which one runs; the lane of a script one of which as many run as it says. Who may start
//! is kept, and only the heads of the lines that change are looked at again: an event costs the same however many wait.

mod doors;
mod line;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use task_runners::{OnBusy, TaskId, TaskStatus};

use doors::Doors;
pub(crate) use line::Needs;
use line::{Lines, Place};

use crate::clock::Moment;
use crate::store::Unfinished;

/// First wait before a task is tried again whose workspace was in use outside this service; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Longest such wait.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Who waits, who runs, which lines they stand in.
#[derive(Debug)]
pub(crate) struct Board {
    slots: usize,
    queue: usize,
    /// Whether nothing may start yet.
    held: bool,
    draining: bool,
    waiting: BTreeMap<i64, Waiting>,
    running: HashMap<TaskId, Running>,
    /// How many of those that run do so on other agents, and how many of those that wait are to.
    elsewhere: usize,
    waiting_elsewhere: usize,
    lines: Lines,
    /// Those that may start as soon as a slot is free.
    ready: BTreeSet<i64>,
    /// Those that may start and need no slot.
    ready_elsewhere: BTreeSet<i64>,
    /// When those that wait for a time are due.
    timers: BTreeSet<(Instant, i64)>,
    /// Those that wait for what is elsewhere.
    doors: Doors,
}

#[derive(Debug)]
struct Waiting {
    id: TaskId,
    places: Vec<Place>,
    is_elsewhere: bool,
    until: Until,
    tries: u32,
    /// Where it waits, where that is before a door.
    door: Option<String>,
}

/// What a waiting task waits for beside its lines and a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Nothing.
    Now,
    /// A time, in its lines: those behind it in one wait as well.
    InLine(Instant),
    /// A time, outside its lines: others pass.
    Outside(Instant),
    /// That it is let in by its door, in its lines.
    LetIn,
}

#[derive(Debug)]
struct Running {
    places: Vec<Place>,
    is_elsewhere: bool,
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
    /// So many of its lane wait, and no more may.
    LaneFull(usize),
    /// The queue is full.
    Full,
    /// Nothing is accepted any more.
    Draining,
}

impl Board {
    /// An empty board with so many slots and so much room for waiting tasks. Nothing starts before [`begin`](Self::begin).
    pub(crate) fn new(slots: usize, queue: usize) -> Self {
        Self {
            slots,
            queue,
            held: true,
            draining: false,
            waiting: BTreeMap::new(),
            running: HashMap::new(),
            elsewhere: 0,
            waiting_elsewhere: 0,
            lines: Lines::default(),
            ready: BTreeSet::new(),
            ready_elsewhere: BTreeSet::new(),
            timers: BTreeSet::new(),
            doors: Doors::default(),
        }
    }

    /// Makes the board anew from the rows of all tasks that have not ended.
    pub(crate) fn reload(&mut self, rows: Vec<Unfinished>, now: Moment) {
        let (held, draining) = (self.held, self.draining);
        *self = Self { held, draining, ..Self::new(self.slots, self.queue) };
        rows.into_iter().for_each(|row| self.restore(row, now));
    }

    /// Puts a task where its row says that it is.
    pub(crate) fn restore(&mut self, row: Unfinished, now: Moment) {
        let Unfinished { seq, id, status, needs, not_before } = row;
        match (status, not_before) {
            (TaskStatus::Queued, Some(at)) => {
                let task = Waiting::new(id, needs.places(), needs.is_elsewhere);
                self.insert(seq, task, Until::Outside(now.instant_of(at)));
            }
            (TaskStatus::Queued, None) => self.wait(seq, id, &needs),
            _ => self.start_new(id, &needs),
        }
    }

    /// What becomes of a new task. One that waits for the same line comes first.
    pub(crate) fn place(&self, needs: &Needs, on_busy: OnBusy) -> Placement {
        let is_contested = needs.places().iter().any(|place| self.lines.is_contested(place));
        let has_slot = match &needs.door {
            Some(door) => !needs.is_shut && !self.doors.is_waited_at(door),
            None => needs.is_elsewhere || self.running() < self.slots,
        };
        let fits = has_slot && !is_contested && !self.held;
        let (waiting, most) = self.lines.bound(needs);
        if on_busy == OnBusy::Refuse && self.lines.is_workspace_wanted(needs) {
            Placement::Busy
        } else if !fits && waiting >= most {
            Placement::LaneFull(waiting)
        } else if self.is_full(needs, fits) {
            Placement::Full
        } else if self.draining {
            Placement::Draining
        } else if fits {
            Placement::Start
        } else {
            Placement::Wait
        }
    }

    /// Whether there is no room for one more. Tasks for other agents take none of the room of those that run here, and are
    /// bounded themselves, those that run too: each has files open here.
    fn is_full(&self, needs: &Needs, fits: bool) -> bool {
        match needs.is_elsewhere {
            true => self.elsewhere + self.waiting_elsewhere >= self.queue,
            false => !fits && self.waiting.len() - self.waiting_elsewhere >= self.queue,
        }
    }

    /// The waiting task whose turn it is: the oldest of those that may start. One that waits for a line does not block
    /// those behind it, unless they want the same.
    pub(crate) fn next_start(&mut self, now: Instant) -> Option<i64> {
        self.wake(now);
        if self.held || self.draining {
            return None;
        }
        let here = self.ready.first().filter(|_| self.running() < self.slots);
        here.or(self.ready_elsewhere.first()).copied()
    }

    /// When the next of those is due that wait for a time; that may be over by now.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A new task waits.
    pub(crate) fn wait(&mut self, seq: i64, id: TaskId, needs: &Needs) {
        let door = needs.door.clone().filter(|door| needs.is_shut || self.doors.is_waited_at(door));
        let until = if door.is_some() { Until::LetIn } else { Until::Now };
        self.insert(seq, Waiting { door, ..Waiting::new(id, needs.places(), needs.is_elsewhere) }, until);
    }

    /// A new task runs.
    pub(crate) fn start_new(&mut self, id: TaskId, needs: &Needs) {
        self.run(Waiting::new(id, needs.places(), needs.is_elsewhere));
    }

    /// A waiting task runs.
    pub(crate) fn start(&mut self, seq: i64) {
        if let Some(task) = self.take(seq) {
            self.run(task);
        }
    }

    /// A running task waits again, because nothing could be started of it, and for longer each time.
    pub(crate) fn put_back(&mut self, seq: i64, id: &TaskId, now: Instant) {
        if let Some(Running { places, is_elsewhere, tries }) = self.stop(id) {
            let task = Waiting { tries: tries + 1, ..Waiting::new(id.clone(), places, is_elsewhere) };
            self.insert(seq, task, Until::InLine(now + pause(tries)));
        }
    }

    /// A running task waits for its next attempt. Others of its lines may run until its time has come.
    pub(crate) fn retry(&mut self, seq: i64, id: &TaskId, at: Instant) {
        if let Some(Running { places, is_elsewhere, .. }) = self.stop(id) {
            self.insert(seq, Waiting::new(id.clone(), places, is_elsewhere), Until::Outside(at));
        }
    }

    /// A waiting task could not be started for a reason that may pass.
    pub(crate) fn postpone(&mut self, seq: i64, now: Instant) {
        if let Some(task) = self.take(seq) {
            let until = Until::InLine(now + pause(task.tries));
            self.insert(seq, Waiting { tries: task.tries + 1, ..task }, until);
        }
    }

    /// A waiting task is gone.
    pub(crate) fn remove_waiting(&mut self, seq: i64) {
        self.take(seq);
    }

    /// A running task is gone.
    pub(crate) fn remove_running(&mut self, id: &TaskId) {
        self.stop(id);
    }

    /// Whether a task has a slot.
    pub(crate) fn has_slot(&self, id: &TaskId) -> bool {
        self.running.get(id).is_some_and(|task| !task.is_elsewhere)
    }

    /// All that wait or run.
    pub(crate) fn ids(&self) -> HashSet<&TaskId> {
        self.waiting.values().map(|task| &task.id).chain(self.running.keys()).collect()
    }

    /// From now on tasks start.
    pub(crate) fn begin(&mut self) {
        self.held = false;
    }

    /// From now on nothing is accepted or started.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// How many run here.
    pub(crate) fn running(&self) -> usize {
        self.running.len() - self.elsewhere
    }

    /// How many run on other agents.
    pub(crate) fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    fn insert(&mut self, seq: i64, task: Waiting, until: Until) {
        let places = task.places.clone();
        match until {
            Until::Now => self.lines.enter(seq, &places),
            Until::InLine(at) => {
                self.lines.enter(seq, &places);
                self.timers.insert((at, seq));
            }
            Until::Outside(at) => {
                self.lines.step_out(&places);
                self.timers.insert((at, seq));
            }
            Until::LetIn => {
                self.lines.enter(seq, &places);
                self.doors.enter(task.door.clone().unwrap_or_default(), seq);
            }
        }
        let heads = self.lines.heads(&places);
        self.waiting_elsewhere += usize::from(task.is_elsewhere);
        self.waiting.insert(seq, Waiting { until, ..task });
        self.look_at(seq);
        heads.into_iter().for_each(|head| self.look_at(head));
    }

    /// Takes a waiting task off the board.
    fn take(&mut self, seq: i64) -> Option<Waiting> {
        let task = self.waiting.remove(&seq)?;
        self.waiting_elsewhere -= usize::from(task.is_elsewhere);
        self.ready.remove(&seq);
        self.ready_elsewhere.remove(&seq);
        match task.until {
            Until::Now => self.lines.leave(seq, &task.places),
            Until::InLine(at) => {
                self.lines.leave(seq, &task.places);
                self.timers.remove(&(at, seq));
            }
            Until::Outside(at) => {
                self.lines.step_in(&task.places);
                self.timers.remove(&(at, seq));
            }
            Until::LetIn => {
                self.lines.leave(seq, &task.places);
                self.doors.leave(task.door.as_deref().unwrap_or_default(), seq);
            }
        }
        self.look_at_heads(&task.places);
        Some(task)
    }

    fn run(&mut self, task: Waiting) {
        let Waiting { id, places, is_elsewhere, tries, .. } = task;
        self.lines.run(&places);
        self.look_at_heads(&places);
        self.elsewhere += usize::from(is_elsewhere);
        self.running.insert(id, Running { places, is_elsewhere, tries });
    }

    fn stop(&mut self, id: &TaskId) -> Option<Running> {
        let task = self.running.remove(id)?;
        self.elsewhere -= usize::from(task.is_elsewhere);
        self.lines.stop(&task.places);
        self.look_at_heads(&task.places);
        Some(task)
    }

    /// Brings those into their lines, and to their turn, whose time has come.
    fn wake(&mut self, now: Instant) {
        while let Some((_, seq)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let Some(task) = self.take(seq) else { return };
            self.insert(seq, task, Until::Now);
        }
    }

    /// Notes who of those at the heads of these lines may start. The second in a line is looked at because it may have been
    /// the first.
    fn look_at_heads(&mut self, places: &[Place]) {
        for seq in self.lines.heads(places) {
            self.look_at(seq);
        }
    }

    /// Notes whether a waiting task may start.
    fn look_at(&mut self, seq: i64) {
        let Some(task) = self.waiting.get(&seq) else { return };
        let ready = if task.is_elsewhere { &mut self.ready_elsewhere } else { &mut self.ready };
        if task.until == Until::Now && self.lines.let_through(seq, &task.places) {
            ready.insert(seq);
        } else {
            ready.remove(&seq);
        }
    }
}

impl Waiting {
    fn new(id: TaskId, places: Vec<Place>, is_elsewhere: bool) -> Self {
        Self { id, places, is_elsewhere, until: Until::Now, tries: 0, door: None }
    }
}

fn pause(tries: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(tries)).min(LAST_RETRY)
}
