//! The board as tables, and against a model that looks at every waiting task.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use task_runners::Lane;

use super::*;

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// What a task needs: "" nothing, "w" the workspace w, "l:2" the lane l of which two run.
fn needs(text: &str) -> Needs {
    match text.split_once(':') {
        Some((name, concurrency)) => {
            let concurrency = concurrency.parse().unwrap();
            let lane = Lane { name: name.to_owned(), concurrency, queue: Some(2) };
            Needs { lane: Some(lane), ..Needs::default() }
        }
        None => Needs { workspace: (!text.is_empty()).then(|| text.to_owned()), ..Needs::default() },
    }
}

/// A board whose running and waiting tasks need this.
fn board(slots: usize, running: &[&str], waiting: &[&str]) -> Board {
    let mut board = Board::new(slots, 3);
    board.begin();
    for (index, text) in running.iter().enumerate() {
        board.start_new(id(&format!("r{index}")), &needs(text));
    }
    for (seq, text) in (1..).zip(waiting) {
        board.wait(seq, id(&format!("w{seq}")), &needs(text));
    }
    board
}

#[test]
fn the_oldest_task_whose_lines_let_it_through_is_next() {
    type Row = (usize, &'static [&'static str], &'static [&'static str], Option<i64>);
    let table: &[Row] = &[
        (1, &[], &[], None),
        (1, &[], &["", ""], Some(1)),
        (1, &[""], &["", ""], None),
        (2, &["a"], &["a", "a", "b"], Some(3)),
        (2, &["a"], &["a", ""], Some(2)),
        (9, &["a", "b"], &["a", "b"], None),
        (0, &[], &[""], None),
        (9, &["l:1"], &["l:1", "l:1", ""], Some(3)),
        (9, &["l:2"], &["l:2", ""], Some(1)),
        (9, &["l:2", "l:2"], &["l:2", "m:1"], Some(2)),
        // A script that was changed: each task is held to the number that it was accepted with.
        (9, &["l:1"], &["l:3"], Some(1)),
        (9, &["l:3", "l:3"], &["l:1", "l:3"], None),
        // The workspace of that name is no lane.
        (9, &["l"], &["l:1"], Some(1)),
    ];
    for (slots, running, waiting, expected) in table {
        let next = board(*slots, running, waiting).next_start(Instant::now());
        assert_eq!(next, *expected, "{slots} slots, running {running:?}, waiting {waiting:?}");
    }
}

#[test]
fn a_new_task_starts_waits_or_is_refused() {
    use OnBusy::{Refuse, Wait};
    type Row = (&'static [&'static str], &'static [&'static str], &'static str, OnBusy, Placement);
    let table: &[Row] = &[
        (&[], &[], "", Wait, Placement::Start),
        (&[""], &[], "a", Refuse, Placement::Start),
        (&["a"], &[], "a", Wait, Placement::Wait),
        (&["a"], &[], "a", Refuse, Placement::Busy),
        (&[""], &["a"], "a", Refuse, Placement::Busy),
        (&["a"], &["a"], "b", Wait, Placement::Start),
        (&["", ""], &[], "", Wait, Placement::Wait),
        (&["", ""], &["", "", ""], "", Wait, Placement::Full),
        (&["a"], &["a", "a", "a"], "a", Wait, Placement::Full),
        (&["a"], &["a", "a", "a"], "a", Refuse, Placement::Busy),
        (&["a"], &["a", "a", "a"], "", Wait, Placement::Start),
        (&["l:1"], &[], "l:1", Wait, Placement::Wait),
        // A lane says nothing about the workspace.
        (&["l:1"], &[], "l:1", Refuse, Placement::Wait),
        (&["l:1"], &["l:1"], "l:1", Wait, Placement::Wait),
        (&["l:1"], &["l:1", "l:1"], "l:1", Wait, Placement::LaneFull(2)),
        (&["l:1"], &["l:1", "l:1"], "m:1", Wait, Placement::Start),
        (&["", ""], &["l:1", "l:1"], "l:1", Wait, Placement::LaneFull(2)),
    ];
    for (running, waiting, wanted, on_busy, expected) in table {
        let placement = board(2, running, waiting).place(&needs(wanted), *on_busy);
        assert_eq!(placement, *expected, "running {running:?}, waiting {waiting:?}, wants {wanted:?}");
    }
}

#[test]
fn a_board_that_is_held_accepts_and_starts_nothing_before_it_begins() {
    let mut board = Board { held: true, ..board(1, &[], &["", "a"]) };
    assert_eq!(board.place(&needs(""), OnBusy::Wait), Placement::Wait);
    assert_eq!(board.next_start(Instant::now()), None);
    board.reload(Vec::new(), crate::clock::Clock::default().now());
    assert_eq!(board.place(&needs(""), OnBusy::Wait), Placement::Wait);
    board.begin();
    assert_eq!(board.place(&needs(""), OnBusy::Wait), Placement::Start);
}

#[test]
fn a_draining_board_starts_and_accepts_nothing() {
    let mut board = board(2, &[], &[""]);
    board.drain();
    assert_eq!(board.next_start(Instant::now()), None);
    assert_eq!(board.place(&Needs::default(), OnBusy::Wait), Placement::Draining);
}

#[test]
fn a_task_that_was_put_back_keeps_its_place_and_waits_longer_each_time() {
    let mut board = board(2, &[], &["a", "a", ""]);
    let now = Instant::now();
    board.start(1);
    board.put_back(1, &id("w1"), now);
    // Number 2 wants the same workspace and stays behind; number 3 does not.
    assert_eq!(board.next_start(now), Some(3));
    assert_eq!(board.next_due(), Some(now + FIRST_RETRY));
    let later = now + FIRST_RETRY;
    assert_eq!(board.next_start(later), Some(1));
    assert_eq!(board.next_due(), None);
    board.start(1);
    board.put_back(1, &id("w1"), later);
    assert_eq!(board.next_due(), Some(later + 2 * FIRST_RETRY));
    assert_eq!(pause(u32::MAX), LAST_RETRY);
}

#[test]
fn a_task_that_waits_for_its_next_attempt_lets_its_lane_pass_and_is_first_when_it_is_due() {
    let mut board = board(9, &[], &["l:1", "l:1", "l:1"]);
    let now = Instant::now();
    board.start(1);
    board.retry(1, &id("w1"), now + LAST_RETRY);
    assert_eq!(board.place(&needs("l:1"), OnBusy::Wait), Placement::LaneFull(3), "it counts as waiting");
    assert_eq!(board.next_start(now), Some(2));
    board.start(2);
    let later = now + LAST_RETRY;
    assert_eq!(board.next_start(later), None, "its lane is taken");
    board.remove_running(&id("w2"));
    assert_eq!(board.next_start(later), Some(1), "it is older than number 3");
}

#[test]
fn tasks_that_run_elsewhere_are_bounded_too() {
    let elsewhere = Needs { is_elsewhere: true, ..Needs::default() };
    let mut board = board(1, &[], &[]);
    for number in 0..3 {
        assert_eq!(board.place(&elsewhere, OnBusy::Wait), Placement::Start);
        board.start_new(id(&format!("e{number}")), &elsewhere);
    }
    assert_eq!(board.place(&elsewhere, OnBusy::Wait), Placement::Full);
    assert_eq!(board.place(&needs(""), OnBusy::Wait), Placement::Start);
    board.remove_running(&id("e1"));
    assert_eq!(board.place(&elsewhere, OnBusy::Wait), Placement::Start);
}

#[test]
fn a_door_lets_the_oldest_in_and_who_comes_later_waits_behind_them() {
    let elsewhere = Needs { is_elsewhere: true, door: Some("d".to_owned()), ..Needs::default() };
    let mut board = board(1, &[""], &[]);
    for seq in 1..=3 {
        board.start_new(id(&format!("e{seq}")), &elsewhere);
        board.put_before("d", seq, &id(&format!("e{seq}")));
    }
    assert_eq!(board.place(&elsewhere, OnBusy::Wait), Placement::Full);
    assert_eq!(
        board.place(&needs(""), OnBusy::Wait),
        Placement::Wait,
        "that takes no room of those that run here"
    );
    assert_eq!((board.next_start(Instant::now()), board.awaited()["d"]), (None, 3));
    board.remove_waiting(1);
    board.let_in("other", 9);
    board.let_in("d", 1);
    assert_eq!(board.next_start(Instant::now()), Some(2));
    board.start(2);
    assert_eq!(
        (board.next_start(Instant::now()), board.place(&elsewhere, OnBusy::Wait)),
        (None, Placement::Wait)
    );
    board.wait(4, id("e4"), &elsewhere);
    assert_eq!((board.next_start(Instant::now()), board.awaited()["d"]), (None, 2));
    board.let_in("d", 9);
    assert_eq!(board.next_start(Instant::now()), Some(3));
    board.start(3);
    assert_eq!(board.next_start(Instant::now()), Some(4));
    board.remove_waiting(4);
    assert!(board.awaited().is_empty());
    assert_eq!(board.place(&elsewhere, OnBusy::Wait), Placement::Start);
    // One whose door is known to be shut is not even tried.
    let shut = Needs { is_shut: true, ..elsewhere };
    assert_eq!(board.place(&shut, OnBusy::Wait), Placement::Wait);
    board.wait(5, id("e5"), &shut);
    assert_eq!((board.next_start(Instant::now()), board.awaited()["d"]), (None, 1));
}

/// Something that happens to a board. Numbers choose among those that there are.
#[derive(Debug, Clone)]
enum Step {
    Accept(&'static str, &'static str),
    End(usize),
    Retry(usize, u64),
    PutBack(usize),
    Cancel(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let workspace = prop::sample::select(vec!["", "", "", "a", "b"]);
    let lane = prop::sample::select(vec!["", "", "l:1", "m:2", "n:3"]);
    prop_oneof![
        4 => (workspace, lane).prop_map(|(workspace, lane)| Step::Accept(workspace, lane)),
        3 => any::<usize>().prop_map(Step::End),
        1 => (any::<usize>(), 0..50_u64).prop_map(|(which, delay)| Step::Retry(which, delay)),
        1 => any::<usize>().prop_map(Step::PutBack),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0..400_u64).prop_map(Step::Pass),
    ]
}

/// A task of the model, with what it waits for.
#[derive(Debug, Clone)]
struct Known {
    lines: Vec<(String, usize)>,
    until: Until,
    puts: u32,
}

/// The board, and a model of it that is as slow as it is plain.
struct Pair {
    board: Board,
    now: Instant,
    waiting: BTreeMap<i64, Known>,
    running: BTreeMap<i64, Known>,
    last: i64,
    /// What the board is told of what a task needs.
    told: fn(&Needs) -> Needs,
}

const SLOTS: usize = 4;

impl Pair {
    fn new(told: fn(&Needs) -> Needs) -> Self {
        let (waiting, running) = Default::default();
        let mut board = Board::new(SLOTS, usize::MAX);
        board.begin();
        Self { board, now: Instant::now(), waiting, running, last: 0, told }
    }

    fn take(&mut self, step: &Step) {
        let pick = |tasks: &BTreeMap<i64, Known>, which: usize| {
            tasks.keys().nth(which.checked_rem(tasks.len()).unwrap_or(0)).copied()
        };
        match *step {
            Step::Accept(workspace, lane) => self.accept(workspace, lane),
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Cancel(which) => {
                let Some(seq) = pick(&self.waiting, which) else { return };
                self.board.remove_waiting(seq);
                self.waiting.remove(&seq);
            }
            Step::End(which) => {
                let Some(seq) = pick(&self.running, which) else { return };
                self.board.remove_running(&id(&format!("t{seq}")));
                self.running.remove(&seq);
            }
            Step::Retry(which, delay) => {
                let Some(seq) = pick(&self.running, which) else { return };
                let at = self.now + Duration::from_millis(delay);
                self.board.retry(seq, &id(&format!("t{seq}")), at);
                self.back(seq, Until::Outside(at), 0);
            }
            Step::PutBack(which) => {
                let Some(seq) = pick(&self.running, which) else { return };
                let puts = self.running[&seq].puts;
                self.board.put_back(seq, &id(&format!("t{seq}")), self.now);
                self.back(seq, Until::InLine(self.now + pause(puts)), puts + 1);
            }
        }
    }

    fn accept(&mut self, workspace: &str, lane: &str) {
        self.last += 1;
        let wanted = Needs { workspace: needs(workspace).workspace, ..needs(lane) };
        let lines = wanted.workspace.iter().map(|name| (format!("workspace {name}"), 1));
        let lane = wanted.lane.iter().map(|lane| (format!("lane {}", lane.name), lane.concurrency as usize));
        let lines = lines.chain(lane).collect();
        self.board.wait(self.last, id(&format!("t{}", self.last)), &(self.told)(&wanted));
        self.waiting.insert(self.last, Known { lines, until: Until::Now, puts: 0 });
    }

    fn back(&mut self, seq: i64, until: Until, puts: u32) {
        if let Some(task) = self.running.remove(&seq) {
            self.waiting.insert(seq, Known { until, puts, ..task });
        }
    }

    /// Who is next, by looking at everybody.
    fn next(&self) -> Option<i64> {
        if self.running.len() >= SLOTS {
            return None;
        }
        let mut run: HashMap<&str, usize> = HashMap::new();
        for (line, _) in self.running.values().flat_map(|task| &task.lines) {
            *run.entry(line).or_default() += 1;
        }
        let mut stood: Vec<&str> = Vec::new();
        for (&seq, task) in &self.waiting {
            let is_due = match task.until {
                Until::Now => true,
                Until::InLine(at) => at <= self.now,
                Until::Outside(at) if at <= self.now => true,
                Until::Outside(_) => continue,
                Until::LetIn => unreachable!("no step of the model leads before a door"),
            };
            let let_through = task.lines.iter().all(|(line, limit)| {
                !stood.contains(&line.as_str()) && run.get(line.as_str()).copied().unwrap_or(0) < *limit
            });
            if is_due && let_through {
                return Some(seq);
            }
            stood.extend(task.lines.iter().map(|(line, _)| line.as_str()));
        }
        None
    }

    /// Starts whoever may start, and says where the two differ.
    fn admit(&mut self) -> Result<(), TestCaseError> {
        loop {
            let (found, expected) = (self.board.next_start(self.now), self.next());
            prop_assert_eq!(found, expected);
            let Some(seq) = found else { return Ok(()) };
            self.board.start(seq);
            if let Some(mut task) = self.waiting.remove(&seq) {
                if let Until::Outside(_) = task.until {
                    task.puts = 0;
                }
                self.running.insert(seq, task);
            }
            prop_assert_eq!(self.board.running(), self.running.len());
            prop_assert_eq!(self.board.queued(), self.waiting.len());
        }
    }
}

/// Whether a board that is told this agrees with the model, whatever happens to it.
fn agrees(told: fn(&Needs) -> Needs) -> Result<(), impl std::fmt::Debug> {
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&prop::collection::vec(step(), 0..120), |steps| {
        let mut pair = Pair::new(told);
        for step in &steps {
            pair.take(step);
            pair.admit()?;
        }
        prop_assert!(pair.board.lines.is_tidy(pair.waiting.is_empty() && pair.running.is_empty()));
        Ok(())
    })
}

#[test]
fn whatever_happens_the_board_keeps_order_and_limits_as_a_model_that_looks_at_every_task() {
    agrees(Needs::clone).unwrap();
}

#[test]
fn a_board_that_forgot_lanes_or_their_bounds_would_be_noticed() {
    let without_lanes = |needs: &Needs| Needs { lane: None, ..needs.clone() };
    let one_more = |needs: &Needs| {
        let lane = needs.lane.clone().map(|lane| Lane { concurrency: lane.concurrency + 1, ..lane });
        Needs { lane, ..needs.clone() }
    };
    assert!(agrees(without_lanes).is_err());
    assert!(agrees(one_more).is_err());
}
