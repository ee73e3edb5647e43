//! What an ended attempt leaves is set aside in its task's record, and is never mixed up with the next one's.

use std::fs;
use std::io;

use executor_core::{ExecuteScriptRequest, ExecutionResult, KillScope, Metadata, Outcome, StartError};

use crate::bench::{Bench, task_id};
use crate::recovery::dead_agent;

fn attempt(script: &str, attempt: u32) -> ExecuteScriptRequest {
    let metadata = Metadata { id: Some("t".to_owned()), attempt, ..Metadata::default() };
    ExecuteScriptRequest::new(script).metadata(metadata)
}

fn failed() -> ExecutionResult {
    ExecutionResult::without_run(Outcome::NotStarted, "out_of_descriptors", "as the test wants")
}

#[test]
fn each_attempt_has_its_own_log_result_and_number_and_the_same_working_folder() {
    let bench = Bench::new();
    let executor = bench.executor();
    let script =
        bench.script("a.sh", "echo \"attempt $TASK_ATTEMPT\"; ls; echo x > kept; exit $TASK_ATTEMPT");
    let (records, id) = (bench.records(), task_id("t"));
    for number in 1..=3_u32 {
        let (result, output) = bench.run_on(&executor, attempt(&script, number));
        let found = if number == 1 { "" } else { "kept\n" };
        assert_eq!(output, format!("attempt {number}\n{found}"));
        // As long as it stands in the record no other one takes its place.
        let error = bench.refusal(&executor, attempt(&script, number + 1));
        assert!(matches!(&error, StartError::Invalid(problems) if problems[0].rule == "unique"), "{error}");
        let log = bench.log("t");
        records.set_aside(&id, number, &failed()).unwrap();
        assert_eq!(records.read_result(&id).unwrap(), None);
        assert_eq!(records.attempt_result(&id, number).unwrap().as_ref(), Some(&*result));
        let reader = records.attempt_log(&id, number, &result.log).unwrap();
        let mut bytes = vec![0; log.len() + 1];
        assert_eq!(reader.read_at(0, &mut bytes).unwrap(), log.len());
        assert_eq!(bytes[..log.len()], log);
        assert!(records.debug_script(&id).unwrap().is_some(), "that of the newest there is");
    }
    assert_eq!(records.attempt_result(&id, 4).unwrap(), None);
}

#[test]
fn an_attempt_that_left_nothing_gets_the_result_that_it_came_to_and_none_replaces_another() {
    let bench = Bench::new();
    let (records, id) = (bench.records(), task_id("t"));
    records.set_aside(&id, 1, &failed()).unwrap();
    assert_eq!(records.attempt_result(&id, 1).unwrap(), Some(failed()));
    let other = ExecutionResult::without_run(Outcome::TimedOut, "", "");
    let error = records.set_aside(&id, 1, &other).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(records.attempt_result(&id, 1).unwrap(), Some(failed()));
    assert_eq!(records.read_result(&id).unwrap(), None);
}

#[test]
fn a_record_that_holds_more_than_ended_attempts_is_not_used_again() {
    let bench = Bench::new();
    let (records, id) = (bench.records(), task_id("t"));
    records.set_aside(&id, 1, &failed()).unwrap();
    fs::write(records.folder(&id).join("task.json"), "{}").unwrap();
    assert_eq!(records.create(&id).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    fs::remove_file(records.folder(&id).join("task.json")).unwrap();
    records.create(&id).unwrap();
}

#[test]
fn what_a_dead_agent_still_notes_of_an_attempt_that_was_set_aside_ends_no_later_one() {
    // A loss of power may bring back what the agent had noted before.
    for is_set_aside in [true, false] {
        let bench = Bench::new();
        dead_agent(&bench, KillScope::Marker, 1);
        let (records, id) = (bench.records(), task_id("t0"));
        if is_set_aside {
            records.set_aside(&id, 1, &failed()).unwrap();
        }
        bench.executor();
        let result = records.read_result(&id).unwrap().map(|result| result.outcome);
        assert_eq!(result, (!is_set_aside).then_some(Outcome::Interrupted));
    }
}
