//! Both ends over a link that loses, repeats, delays and reorders, while either end crashes between any two of its steps:
//! one end a task, no second start, equal logs. The same storm finds every weakness that is put in on purpose.

mod node;
mod server;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use world::{Step, Weakness, World};

/// Storms in which nothing may be found.
const CASES: u32 = 4000;

/// Everything that may happen.
const ALL: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];
/// What a second start takes that only the journal is in the way of: a task that has ended and was forgotten by the
/// history, a crash of the node, and the assignment once more.
const REPEATED: &[u8] = &[0, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14];

/// What happens, as numbers that shrink well.
fn steps(kinds: &'static [u8]) -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(kinds);
    let step = (kind, any::<u8>()).prop_map(|(what, which)| Step { what, which });
    prop::collection::vec(step, 20..300)
}

/// Storms until something is wrong whose words have these in them.
fn storm(
    mut runner: TestRunner,
    kinds: &'static [u8],
    weakness: Weakness,
    words: &str,
) -> Result<(), String> {
    let outcome = runner.run(&steps(kinds), |steps| {
        let mut world = World::new(weakness);
        steps.iter().for_each(|step| world.step(*step));
        world.calm();
        world.verdict().or_else(|wrong| match wrong.contains(words) {
            true => Err(TestCaseError::fail(wrong)),
            false => Ok(()),
        })
    });
    outcome.map_err(|error| error.to_string())
}

fn config(cases: u32, max_shrink_iters: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() }
}

/// The same storms in each run: what is to be found must not be a matter of luck.
fn found(weakness: Weakness, words: &str) {
    found_among(ALL, weakness, words);
}

fn found_among(kinds: &'static [u8], weakness: Weakness, words: &str) {
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let runner = TestRunner::new_with_rng(config(20_000, 0), random);
    assert!(storm(runner, kinds, weakness, words).is_err(), "the storm does not find it: {weakness:?}");
}

#[test]
fn whatever_the_link_and_crashes_do_a_task_starts_once_ends_once_and_its_log_is_whole() {
    storm(TestRunner::new(config(CASES, 2000)), ALL, Weakness::None, "").unwrap();
}

#[test]
fn without_a_journal_the_same_storm_finds_a_second_start() {
    found_among(REPEATED, Weakness::NoJournal, "was started");
}

#[test]
fn without_offsets_the_same_storm_finds_a_log_that_differs() {
    found(Weakness::NoOffsets, "the logs of");
}

#[test]
fn without_a_written_intent_the_same_storm_finds_a_start_behind_the_end() {
    found(Weakness::NoIntent, "nobody had heard of");
}

#[test]
fn without_repetitions_the_same_storm_finds_a_task_that_never_ends() {
    found(Weakness::NoRepetition, "has no end");
}

#[test]
fn settled_before_the_result_is_on_disk_the_same_storm_finds_a_result_that_is_lost() {
    found(Weakness::SettledTooEarly, "is lost");
}

#[test]
fn unknown_taken_for_ended_the_same_storm_finds_a_result_that_is_lost() {
    found(Weakness::SettlesUnknown, "is lost");
}

#[test]
fn a_log_that_cannot_be_read_unnoticed_the_same_storm_finds_a_task_without_an_end() {
    found(Weakness::SendsWhatCannotBeRead, "has no end");
}

#[test]
fn what_cannot_be_assigned_cancelled_as_by_a_person_the_same_storm_finds_no_rest() {
    found(Weakness::CancelsWhatCannotBeAssigned, "come to rest");
}
