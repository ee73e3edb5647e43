//! Verified scripts: what is in use stays in use, what does not verify is refused with everything that is wrong.

use executor_integrity::{CreateOptions, VerificationMode, create_manifest};
use task_runners::{Refusal, ScriptRunner, TaskRunner, TaskSpec};

use crate::place::{Place, body, order, write_executable};

fn spec() -> TaskSpec {
    TaskSpec::new("hello.sh")
}

async fn run(
    runner: &ScriptRunner,
    order: task_runners::TaskOrder,
) -> (String, task_runners::ExecutionResult) {
    let execution = runner.start(order).await.unwrap();
    let result = execution.wait().await;
    (body(execution.log_path(), &result.log), (*result).clone())
}

#[tokio::test]
async fn a_folder_with_a_manifest_runs_from_its_snapshot_and_the_result_names_it() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\ndirname \"$0\"; cat \"$TASK_SCRIPT_DIR/lib.txt\"\n");
    std::fs::write(place.scripts_dir().join("lib.txt"), "a library\n").unwrap();
    place.manifest();
    let runner = place.runner(VerificationMode::Auto);
    let (output, result) = run(&runner, order(&runner, spec())).await;
    let manifest = runner.scripts().status().manifest.clone().unwrap();
    let store = place.path().canonicalize().unwrap().join("state/store").join(&manifest);
    assert_eq!(output, format!("{}\na library\n", store.display()));
    assert_eq!(result.manifest, Some(manifest));
}

#[tokio::test]
async fn a_folder_without_a_manifest_runs_unverified_until_it_has_one_and_never_again() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho plain\n");
    let runner = place.runner(VerificationMode::Auto);
    let (_, result) = run(&runner, order(&runner, spec())).await;
    assert_eq!(result.manifest, None);

    place.manifest();
    let (_, result) = run(&runner, order(&runner, spec())).await;
    assert!(result.manifest.is_some());

    // Whoever removes the manifest does not turn verification off; what is in use stays in use.
    std::fs::remove_file(place.scripts_dir().join("MANIFEST.sha256")).unwrap();
    let (_, result) = run(&runner, order(&runner, spec())).await;
    assert!(result.manifest.is_some());
    assert!(!runner.scripts().refresh().problems.is_empty());
    let fresh = ScriptRunner::new(runner.executor().clone(), place.scripts(VerificationMode::Auto));
    assert!(matches!(fresh.check(&spec()), Err(Refusal::Unverified { .. })));
}

#[tokio::test]
async fn an_unverified_folder_is_refused_with_all_problems_and_works_as_soon_as_it_is_mended() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho vouched for\n");
    place.script("other.sh", "#!/bin/sh\n");
    place.manifest();
    place.script("hello.sh", "#!/bin/sh\necho changed\n");
    place.script("extra.sh", "#!/bin/sh\n");
    let runner = place.runner(VerificationMode::Auto);
    let Err(Refusal::Unverified { problems, mend }) = runner.check(&spec()) else {
        panic!("it was accepted")
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(mend.starts_with("agent-cli manifest create "), "{mend}");

    create_manifest(&place.scripts_dir(), &CreateOptions::default()).unwrap();
    let (output, _) = run(&runner, order(&runner, spec())).await;
    assert_eq!(output, "changed\n");
}

#[tokio::test]
async fn a_task_runs_what_was_in_use_when_it_was_accepted_however_long_it_waited() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho first\n");
    place.manifest();
    let runner = place.runner(VerificationMode::Auto);
    let waiting = order(&runner, spec());
    place.script("hello.sh", "#!/bin/sh\necho second\n");
    place.manifest();
    let (output, _) = run(&runner, order(&runner, spec())).await;
    assert_eq!(output, "second\n");
    let (output, _) = run(&runner, waiting.clone()).await;
    assert_eq!(output, "first\n");

    // After a restart too.
    let restarted = ScriptRunner::new(place.executor(), place.scripts(VerificationMode::Auto));
    let again = task_runners::TaskOrder { id: task_runners::TaskId::generate(), ..waiting };
    let (output, _) = run(&restarted, again).await;
    assert_eq!(output, "first\n");
}

#[tokio::test]
async fn a_task_that_was_accepted_unverified_is_held_to_what_holds_when_its_turn_comes() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho accepted\n");
    let runner = place.runner(VerificationMode::Auto);
    let waiting = order(&runner, spec());
    assert_eq!(waiting.pinned, None);
    let again = || task_runners::TaskOrder { id: task_runners::TaskId::generate(), ..waiting.clone() };

    place.manifest();
    place.script("hello.sh", "#!/bin/sh\necho rewritten\n");
    let restarted = || ScriptRunner::new(runner.executor().clone(), place.scripts(VerificationMode::Auto));
    for runner in [&runner, &restarted()] {
        let error = runner.start(again()).await.unwrap_err();
        assert_eq!(error.code(), "scripts_unverified", "{error}");
        assert!(error.to_string().contains("agent-cli manifest create"), "{error}");
    }
    // The twin: without verification these bytes run.
    let never = ScriptRunner::new(runner.executor().clone(), place.scripts(VerificationMode::Never));
    assert_eq!(run(&never, again()).await.0, "rewritten\n");

    // What somebody vouches for runs, and from the snapshot.
    place.manifest();
    let runner = restarted();
    write_executable(&place.scripts_dir().join("hello.sh"), "#!/bin/sh\necho rewritten again\n");
    let (output, result) = run(&runner, again()).await;
    assert_eq!((output.as_str(), result.manifest.is_some()), ("rewritten\n", true));
}

#[tokio::test]
async fn a_script_that_is_made_not_executable_runs_for_those_who_were_accepted_before() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho hello\n");
    place.manifest();
    let runner = place.runner(VerificationMode::Auto);
    let waiting = order(&runner, spec());
    let file = place.scripts_dir().join("hello.sh");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    runner.scripts().refresh();
    let restarted = ScriptRunner::new(place.executor(), place.scripts(VerificationMode::Auto));
    for runner in [&runner, &restarted] {
        assert_eq!(runner.check(&spec()).unwrap_err().code(), "script_broken");
        assert!(runner.scripts().list().unwrap().is_empty());
        let again = task_runners::TaskOrder { id: task_runners::TaskId::generate(), ..waiting.clone() };
        assert_eq!(run(runner, again).await.0, "hello\n");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    runner.scripts().refresh();
    runner.check(&spec()).unwrap();
}

#[tokio::test]
async fn a_tampered_folder_leaves_the_snapshot_in_use_and_is_reported() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\necho vouched for\n");
    place.manifest();
    let runner = place.runner(VerificationMode::Auto);
    assert_eq!(run(&runner, order(&runner, spec())).await.0, "vouched for\n");
    write_executable(&place.scripts_dir().join("hello.sh"), "#!/bin/sh\necho tampered\n");
    let status = runner.scripts().refresh();
    assert!(status.problems[0].contains("hello.sh"), "{status:?}");
    assert_eq!(run(&runner, order(&runner, spec())).await.0, "vouched for\n");
}

#[test]
fn lists_name_executable_files_and_say_what_is_broken() {
    let place = Place::new();
    place.script("deploy/web.sh", "#!/bin/sh\n");
    place.script("torn.sh", "echo no first line\n");
    std::fs::write(place.scripts_dir().join("notes.txt"), "not a script").unwrap();
    let listed = |verification| {
        let entries = place.scripts(verification).list().unwrap();
        entries.iter().map(|e| (e.name.clone(), e.verified, e.broken.len())).collect::<Vec<_>>()
    };
    let unverified = listed(VerificationMode::Auto);
    assert_eq!(unverified, [("deploy/web.sh".to_owned(), false, 0), ("torn.sh".to_owned(), false, 1)]);
    place.manifest();
    let verified = listed(VerificationMode::Auto);
    assert_eq!(verified, [("deploy/web.sh".to_owned(), true, 0), ("torn.sh".to_owned(), false, 1)]);
}

#[tokio::test]
async fn pruning_leaves_the_last_three_snapshots_and_those_of_waiting_tasks() {
    let place = Place::new();
    let runner = place.runner(VerificationMode::Always);
    let mut pins = Vec::new();
    for version in 1..=6 {
        place.script("hello.sh", &format!("#!/bin/sh\necho version {version}\n"));
        place.manifest();
        pins.push(order(&runner, spec()).pinned.unwrap());
    }
    let waiting = order(&runner, spec());
    runner.scripts().prune(&pins[1..2]).unwrap();
    let store = place.path().join("state/store");
    let left: Vec<bool> = pins.iter().map(|pin| store.join(pin).exists()).collect();
    assert_eq!(left, [false, true, false, true, true, true]);
    assert_eq!(run(&runner, waiting).await.0, "version 6\n");
}

#[test]
fn a_folder_that_does_not_verify_is_not_verified_once_for_each_who_waits() {
    let place = Place::new();
    // Large enough that those who ask come while it is read.
    let large = format!("#!/bin/sh\n#{}\n", "x".repeat(1 << 20));
    (0..40).for_each(|number| place.script(&format!("s{number}.sh"), &large));
    place.manifest();
    place.script("extra.sh", "#!/bin/sh\n");
    let scripts = place.scripts(VerificationMode::Always);
    let began = std::time::Instant::now();
    assert!(scripts.catalogue().is_err());
    let once = began.elapsed();
    let (callers, began) = (64, std::time::Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| assert!(scripts.catalogue().is_err()));
        }
    });
    let all = began.elapsed();
    assert!(all < once * callers / 4, "{callers} callers took {all:?}, and one {once:?}");
    // Mending it works at once all the same.
    std::fs::remove_file(place.scripts_dir().join("extra.sh")).unwrap();
    assert!(scripts.catalogue().is_ok());
}
