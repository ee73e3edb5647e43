//! A disk that is full or read-only never ends a script: the result says what was lost, and later runs go on.

use std::fs;

use executor_core::{BuildError, ExecuteScriptRequest};

use crate::bench::{Bench, Mounted};

#[test]
fn a_script_whose_log_fills_the_disk_runs_to_its_end_and_the_result_says_what_was_lost() {
    let bench = Bench::new();
    let state = bench.path("state");
    let Some(_mounted) = Mounted::tmpfs(&state, "size=64k") else { return };
    let executor = bench.builder().scratch_dir(bench.path("scratch")).build().unwrap();
    let name =
        bench.script("much.sh", "head -c 1000000 /dev/zero | tr '\\000' x; echo A=1 > output.env; exit 5");
    let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(&name).id("full"));
    assert_eq!((result.exit_code, result.output_params["A"].as_str()), (Some(5), "1"));
    let told = result.log.incomplete.as_deref().unwrap();
    let lost = 1_000_000 - output.len();
    assert!(!output.is_empty() && lost > 900_000);
    let end = result.log.header_bytes as usize + output.len();
    let expected = format!(
        "the log ends at byte {end}: No space left on device (os error 28); {lost} bytes that the script wrote behind it \
         are lost"
    );
    assert!(told.starts_with(&expected), "{told}");
    assert!(told.contains("the result could not be written"), "{told}");

    // The next one is told why, and may be tried again.
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name).id("next"));
    assert_eq!((error.code(), error.is_retriable()), ("disk_full", true));
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(executor.running().is_empty());

    // It recovers by itself once there is room.
    fs::remove_dir_all(state.join("tasks/full")).unwrap();
    let quick = bench.script("quick.sh", "echo fine");
    let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(quick).id("after"));
    assert_eq!((result.success, output.as_str(), &result.log.incomplete), (true, "fine\n", &None));
}

#[test]
fn a_full_scratch_folder_is_the_scripts_own_affair() {
    let bench = Bench::new();
    let Some(_mounted) = Mounted::tmpfs(&bench.path("scratch"), "size=64k") else { return };
    let executor = bench.builder().scratch_dir(bench.path("scratch")).build().unwrap();
    let body =
        "head -c 1000000 /dev/zero > \"$TMPDIR/much\" || echo failed; echo A=1 > \"$TASK_OUTPUT\" || exit 9";
    let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("much.sh", body)));
    assert!(output.contains("failed"), "{output}");
    // The shell made the file and could not fill it.
    assert!(result.output_params.is_empty());
    let quick = ExecuteScriptRequest::new(bench.script("quick.sh", "echo A=1 > \"$TASK_OUTPUT\""));
    assert_eq!(bench.run_on(&executor, quick).0.output_params["A"], "1");
}

#[test]
fn a_record_that_cannot_take_the_result_is_told_in_the_result() {
    let bench = Bench::new();
    let executor = bench.executor();
    let record = bench.path("state/tasks/gone");
    let name = bench.script("remove.sh", &format!("rm -rf {}; echo still here", record.display()));
    let execution = bench.start_on(&executor, ExecuteScriptRequest::new(name).id("gone"));
    let result = bench.wait(&execution);
    assert_eq!(result.exit_code, Some(0));
    let told = result.log.incomplete.as_deref().unwrap();
    assert_eq!(told, "the result could not be written: No such file or directory (os error 2)");
    assert!(!record.exists());
}

#[test]
fn a_read_only_file_system_is_named() {
    let bench = Bench::new();
    let Some(mounted) = Mounted::tmpfs(&bench.path("read-only"), "size=1m") else { return };
    let executor = bench.builder().work_dir(bench.path("read-only/workspace")).build().unwrap();
    mounted.remount("ro");
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(bench.script("a.sh", "exit 0")));
    assert_eq!((error.code(), error.is_retriable()), ("read_only_file_system", true));
    let Err(error) = bench.builder().state_dir(bench.path("read-only/state")).build() else {
        panic!("it was built")
    };
    assert!(matches!(&error, BuildError::Folder { .. }), "{error}");
    assert!(error.to_string().contains("read-only/state: Read-only file system"), "{error}");
}

#[test]
fn a_start_that_fails_after_its_record_was_made_leaves_a_result_that_says_so() {
    let bench = Bench::new();
    let executor = bench.builder().scratch_dir(bench.path("scratch")).build().unwrap();
    fs::remove_dir_all(bench.path("scratch")).unwrap();
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(bench.script("a.sh", "exit 0")).id("t1"));
    assert!(error.to_string().contains("make the scratch folder of task t1"), "{error}");
    let result =
        bench.records().read_result(&"t1".parse().unwrap()).unwrap().expect("a record without a result");
    assert_eq!(result.outcome, executor_core::Outcome::NotStarted);
    assert_eq!(result.error.unwrap().code, error.code());
    assert!(executor.running().is_empty());
}
