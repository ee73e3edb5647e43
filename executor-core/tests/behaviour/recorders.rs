//! An execution that is code instead of a script has the same log, handle and record.

use executor_core::{Completion, Outcome, Recorder};

use crate::bench::{Bench, body_of, task_id};

#[test]
fn what_it_writes_is_followed_and_its_end_recorded() {
    let bench = Bench::new();
    let (execution, mut recorder) =
        Recorder::begin(&bench.records(), &task_id("t1"), "pinger", "ci").unwrap();
    recorder.write(b"one\n");
    bench.wait_for_output(&execution, "one");
    let completion = Completion { output_params: [("A".to_owned(), "1".to_owned())].into(), failure: None };
    recorder.finish(completion);
    let result = bench.wait(&execution);
    assert_eq!((&result.outcome, result.success), (&Outcome::Exited { code: 0 }, true));
    assert_eq!((result.output_params["A"].as_str(), body_of(&execution).as_slice()), ("1", &b"one\n"[..]));
    assert_eq!(bench.records().read_result(&task_id("t1")).unwrap().as_ref(), Some(&*result));
}

#[test]
fn one_that_fails_when_it_was_asked_to_end_is_cancelled() {
    let bench = Bench::new();
    for (id, cancel, expected) in
        [("t1", true, Outcome::Cancelled), ("t2", false, Outcome::Exited { code: 1 })]
    {
        let (execution, recorder) = Recorder::begin(&bench.records(), &task_id(id), "pinger", "ci").unwrap();
        if cancel {
            execution.cancel();
            bench.runtime.block_on(recorder.cancelled());
        }
        recorder.finish(Completion::failed("no route"));
        let result = bench.wait(&execution);
        assert_eq!(result.outcome, expected);
        assert_eq!(result.error.as_ref().unwrap().message, "no route");
    }
}

#[test]
fn one_that_is_dropped_without_an_end_is_interrupted_in_the_record_too() {
    let bench = Bench::new();
    let (execution, recorder) = Recorder::begin(&bench.records(), &task_id("t1"), "pinger", "ci").unwrap();
    drop(recorder);
    let result = bench.wait(&execution);
    assert_eq!(result.outcome, Outcome::Interrupted);
    assert_eq!(bench.records().read_result(&task_id("t1")).unwrap().as_ref(), Some(&*result));
}
