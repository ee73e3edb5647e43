//! Links that somebody planted where the agent writes or works are not followed: the decoy stays as it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use executor_core::{ExecuteScriptRequest, LogReader, StartError};

use crate::bench::{Bench, task_id};

const DECOY: &str = "EXPECTED=1\nuntouched\n";

fn with_decoys() -> (Bench, PathBuf, PathBuf) {
    let bench = Bench::new();
    let (file, folder) = (bench.path("decoy"), bench.path("decoys"));
    fs::write(&file, DECOY).unwrap();
    fs::create_dir(&folder).unwrap();
    (bench, file, folder)
}

#[test]
fn a_link_in_place_of_the_record_is_refused_as_an_id_that_was_used() {
    let (bench, _, folder) = with_decoys();
    let executor = bench.executor();
    symlink(&folder, bench.path("state/tasks/t1")).unwrap();
    let request = ExecuteScriptRequest::new(bench.script("good.sh", "exit 0")).id("t1");
    assert!(matches!(bench.refusal(&executor, request), StartError::Invalid(_)));
    assert!(fs::read_dir(folder).unwrap().next().is_none());
}

#[test]
fn a_link_in_place_of_a_working_folder_is_refused() {
    let (bench, _, folder) = with_decoys();
    let executor = bench.executor();
    symlink(&folder, bench.path("workspace/tasks/t1")).unwrap();
    symlink(&folder, bench.path("workspace/shared/s1")).unwrap();
    let name = bench.script("good.sh", "touch here");
    for request in
        [ExecuteScriptRequest::new(&name).id("t1"), ExecuteScriptRequest::new(&name).work_dir("s1")]
    {
        let error = bench.refusal(&executor, request);
        assert!(error.to_string().contains("there is a link or a file of that name"), "{error}");
    }
    fs::rename(bench.path("workspace/shared"), bench.path("elsewhere")).unwrap();
    symlink(&folder, bench.path("workspace/shared")).unwrap();
    bench.refusal(&executor, ExecuteScriptRequest::new(&name).work_dir("s2"));
    assert!(fs::read_dir(folder).unwrap().next().is_none());
}

#[test]
fn links_that_a_script_plants_in_its_record_and_workspace_are_not_followed() {
    let (bench, file, _) = with_decoys();
    let executor = bench.executor();
    let record = bench.path("state/tasks/t1");
    // It has the agent's own rights here, so it can do the worst: replace what the agent is about to write.
    let body = format!(
        "cd {record}; for name in result.json .result.json.new stdout.txt debug.sh task.json; do \
            rm -f $name; ln -s {decoy} $name; done; cd \"$TASK_WORK_DIR\"; ln -s {decoy} output.env; echo done",
        record = record.display(),
        decoy = file.display(),
    );
    let request = ExecuteScriptRequest::new(bench.script("plant.sh", &body)).id("t1").debug_script(true);
    let execution = bench.start_on(&executor, request);
    let result = bench.wait(&execution);
    assert_eq!(fs::read_to_string(&file).unwrap(), DECOY);
    assert!(result.success && result.output_params.is_empty());
    let error = result.output_error.as_deref();
    assert_eq!(error, Some("output.env: it is a symbolic link; it must be a regular file"));
    assert!(record.join("result.json").symlink_metadata().unwrap().is_file());
    assert_eq!(bench.records().read_result(&task_id("t1")).unwrap().as_ref(), Some(&*result));
    // Who reads through the file that was written reads what the script said, and nobody opens the link.
    let read = |log: LogReader| {
        let mut buffer = [0; 1024];
        let length = log.read_at(0, &mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(execution.log().map_or(true, |log| read(log).contains("done")), "the planted link was opened");
    // The twin: whoever writes to that name in the ordinary way does change the decoy.
    fs::write(record.join("stdout.txt"), "changed").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "changed");
}

#[test]
fn a_record_that_a_script_swaps_for_a_link_is_not_written_through_it() {
    let (bench, _, folder) = with_decoys();
    let executor = bench.executor();
    let tasks = bench.path("state/tasks");
    let body = format!("cd {}; mv t1 moved; ln -s {} t1; echo swapped", tasks.display(), folder.display());
    let execution =
        bench.start_on(&executor, ExecuteScriptRequest::new(bench.script("swap.sh", &body)).id("t1"));
    let result = bench.wait(&execution);
    assert!(result.success, "{result:?}");
    assert!(fs::read_dir(&folder).unwrap().next().is_none(), "something was written through the link");
    assert!(tasks.join("moved/result.json").exists());
    // Nor is it read through the link afterwards.
    fs::copy(tasks.join("moved/result.json"), folder.join("result.json")).unwrap();
    assert!(bench.records().read_result(&task_id("t1")).is_err());
}

/// Runs against somebody who plants links.
const RUNS: usize = 1500;

#[test]
fn many_runs_against_somebody_who_plants_links_all_the_time_change_no_decoy() {
    let (bench, file, folder) = with_decoys();
    let executor = bench.executor();
    let name = bench.script("good.sh", "exit 0");
    let now = AtomicUsize::new(0);
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Plants for the id of this moment and the next one, as fast as it can, and leaves some runs alone.
            for round in 0.. {
                let current = now.load(Ordering::Relaxed);
                if current == RUNS {
                    return;
                }
                if current % 4 > 1 {
                    std::thread::yield_now();
                    continue;
                }
                let id = format!("t{}", current + round % 2);
                let _ = symlink(&file, bench.path("state/tasks").join(&id).join("result.json"));
                let _ = symlink(&file, bench.path("state/tasks").join(&id).join("stdout.txt"));
                let _ = symlink(&file, bench.path("workspace/tasks").join(&id).join("output.env"));
                if current.is_multiple_of(40) {
                    let _ = symlink(&folder, bench.path("workspace/tasks").join(&id));
                    let _ = symlink(&folder, bench.path("state/tasks").join(&id));
                }
            }
        });
        for round in 0..RUNS {
            now.store(round, Ordering::Relaxed);
            let request = ExecuteScriptRequest::new(&name).id(format!("t{round}"));
            match bench.runtime.block_on(executor.execute(request)) {
                Ok(result) => assert!(result.output_error.is_none() || result.output_params.is_empty()),
                Err(_) => refused += 1,
            }
        }
        now.store(RUNS, Ordering::Relaxed);
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), DECOY);
    // The links in there were planted through the link to the folder.
    let made = fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let files: Vec<_> = made.filter(|entry| !entry.file_type().unwrap().is_symlink()).collect();
    assert!(files.is_empty(), "{files:?}");
    println!("{refused} of {RUNS} runs were refused");
    assert!(
        (1..RUNS * 3 / 4).contains(&refused),
        "{refused} of {RUNS} runs met a link before their record was made"
    );
}
