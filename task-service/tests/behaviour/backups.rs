//! Backups of a state folder that is in use, and what is restored from them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use task_service::{BackupError, Records, TaskSpec, TaskStatus, back_up, restore};

use crate::support::{Bench, exited, open, soon, spec, with_id};

fn verdict(state: &Path) -> String {
    let database = rusqlite::Connection::open(state.join("agent.db")).unwrap();
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_is_restored_to_a_state_that_a_service_goes_on_with() {
    let bench = Bench::new(4, 1000).await;
    // One runs while the backup is made, one waits for its workspace.
    for id in ["runs", "waits"] {
        bench.submit(spec(json!({"id": id, "work_dir": "w"}))).await;
    }
    let runs = bench.manual.next().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let load = {
        let (service, is_over) = (bench.service.clone(), is_over.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                service.submit(TaskSpec::new("instant"), "load").await.unwrap();
            }
        })
    };
    let mut acknowledged = Vec::new();
    for _ in 0..100 {
        acknowledged
            .push(soon(bench.service.submit(TaskSpec::new("instant"), "tester")).await.unwrap().task.id);
    }
    let place = tempfile::tempdir().unwrap();
    let (saved, state) = (place.path().join("saved"), bench.state());
    let backup = {
        let saved = saved.clone();
        tokio::task::spawn_blocking(move || back_up(&state, &saved)).await.unwrap().unwrap()
    };
    is_over.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert!(backup.tasks >= 102, "{backup:?}");
    let restored = place.path().join("restored");
    assert_eq!(restore(&saved, &restored).unwrap(), backup);
    assert_eq!(verdict(&restored), "ok");

    let (service, manual) = open(&restored, 4, 1000).await;
    for id in &acknowledged {
        assert!(service.task(id).await.unwrap().is_some(), "{id}");
    }
    let ran = service.task(&"runs".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(ran.status, TaskStatus::Interrupted);
    let next = manual.next().await;
    assert_eq!(next.id(), "waits");
    next.exit(0);
    let waited = soon(service.wait(&"waits".parse().unwrap())).await.unwrap().unwrap();
    assert_eq!(waited.status, TaskStatus::Succeeded);
    soon(service.drain(Duration::ZERO)).await;
    runs.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_records_and_state_files_for_its_owner_only_and_follows_no_link() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("t")).await;
    bench.manual.next().await.exit(0);
    bench.wait("t").await;
    let state = bench.state();
    Records::open(&state).unwrap().write_result(&"t".parse().unwrap(), &exited(0)).unwrap();
    fs::write(state.join("token"), "secret").unwrap();
    fs::set_permissions(state.join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    for folder in ["scratch", "instances", "locks", "store/abc", "tasks/.leaving-x"] {
        fs::create_dir_all(state.join(folder)).unwrap();
        fs::write(state.join(folder).join("file"), "x").unwrap();
    }
    fs::set_permissions(state.join("store/abc"), fs::Permissions::from_mode(0o500)).unwrap();
    let decoy = tempfile::tempdir().unwrap();
    fs::write(decoy.path().join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(decoy.path(), state.join("tasks/t/link")).unwrap();
    std::os::unix::fs::symlink(decoy.path().join("precious"), state.join("tasks/t/debug.sh")).unwrap();

    let place = tempfile::tempdir().unwrap();
    back_up(&state, &place.path().join("saved")).unwrap();
    restore(&place.path().join("saved"), &place.path().join("state")).unwrap();
    let restored = place.path().join("state");
    for (file, expected) in [
        ("agent.db", true),
        ("tasks/t/stdout.txt", true),
        ("tasks/t/result.json", true),
        ("token", true),
        ("store/abc/file", true),
        ("tasks/t/link", false),
        ("tasks/t/debug.sh", false),
        ("tasks/.leaving-x", false),
        ("scratch", false),
        ("instances", false),
        ("locks", false),
    ] {
        assert_eq!(fs::symlink_metadata(restored.join(file)).is_ok(), expected, "{file}");
    }
    for folder in [place.path().join("saved"), restored.clone()] {
        every_entry(&folder, &|path, metadata| {
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
        });
    }
    assert_eq!(fs::metadata(restored.join("store/abc")).unwrap().permissions().mode() & 0o777, 0o500);
    let changed = |state: &Path| fs::metadata(state.join("tasks/t")).unwrap().mtime();
    assert_eq!(changed(&restored), changed(&state));
}

fn every_entry(folder: &Path, look: &dyn Fn(&Path, &fs::Metadata)) {
    look(folder, &fs::metadata(folder).unwrap());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { every_entry(&entry.path(), look) } else { look(&entry.path(), &metadata) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_there_is_written_over_and_no_half_backup_is_restored() {
    let bench = Bench::new(1, 10).await;
    let place = tempfile::tempdir().unwrap();
    let saved = place.path().join("saved");
    back_up(&bench.state(), &saved).unwrap();
    assert!(matches!(back_up(&bench.state(), &saved), Err(BackupError::NotEmpty(_))));
    assert!(matches!(restore(&saved, &bench.state()), Err(BackupError::Held { .. })));
    soon(bench.service.drain(Duration::ZERO)).await;
    assert!(matches!(restore(&saved, &bench.state()), Err(BackupError::NotEmpty(_))));
    fs::remove_file(saved.join("backup.json")).unwrap();
    let error = restore(&saved, &place.path().join("new")).unwrap_err();
    assert!(matches!(error, BackupError::NoBackup { .. }), "{error}");
    assert!(!place.path().join("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_the_state_folder_itself_is_refused_before_anything_is_made() {
    let bench = Bench::new(1, 10).await;
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(bench.state(), elsewhere.path().join("link")).unwrap();
    for target in [bench.state(), bench.state().join("saved"), elsewhere.path().join("link/new/saved")] {
        let refused = back_up(&bench.state(), &target).unwrap_err();
        assert!(matches!(refused, BackupError::Inside(_)), "{refused}");
    }
    assert!(!bench.state().join("saved").exists() && !bench.state().join("new").exists());
    back_up(&bench.state(), &elsewhere.path().join("saved")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_into_a_folder_of_somebody_else() {
    let bench = Bench::new(1, 10).await;
    let place = tempfile::tempdir().unwrap();
    let (saved, state) = (place.path().join("saved"), place.path().join("state"));
    back_up(&bench.state(), &saved).unwrap();
    fs::create_dir(&state).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&state, Some(65534), None).unwrap();
        let refused = restore(&saved, &state).unwrap_err();
        assert!(matches!(refused, BackupError::Foreign { .. }), "{refused}");
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        std::os::unix::fs::chown(&state, Some(0), None).unwrap();
    } else {
        println!("tier: no root, folders of other users cannot be made");
    }
    restore(&saved, &state).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_started_behind_the_copy_of_the_database_is_restored_as_one_that_ran() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("runs")).await;
    let runs = bench.manual.next().await;
    for id in ["started", "waits"] {
        bench.submit(with_id(id)).await;
    }
    let place = tempfile::tempdir().unwrap();
    let (saved, state) = (place.path().join("saved"), place.path().join("state"));
    back_up(&bench.state(), &saved).unwrap();
    // Its record, as it is when its turn comes before the records are copied.
    let record = saved.join("state/tasks/started");
    fs::create_dir_all(&record).unwrap();
    fs::write(record.join("task.json"), "{}").unwrap();
    fs::write(record.join("stdout.txt"), "half of its log").unwrap();
    restore(&saved, &state).unwrap();
    let (service, manual) = open(&state, 1, 10).await;
    let started = service.task(&"started".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((started.status, started.log_bytes), (TaskStatus::Interrupted, 15));
    // The twin: who has no record has not been started, and is now.
    let next = manual.next().await;
    assert_eq!(next.id(), "waits");
    next.exit(0);
    soon(service.drain(Duration::from_secs(5))).await;
    runs.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_not_taken_for_a_backup() {
    let bench = Bench::new(1, 100).await;
    for _ in 0..50 {
        soon(bench.service.submit(TaskSpec::new("instant"), "tester")).await.unwrap();
    }
    soon(bench.service.drain(Duration::from_secs(10))).await;
    let database = bench.state().join("agent.db");
    let sound = fs::read(&database).unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut noticed = 0;
    for page in 1..sound.len() / 4096 {
        let mut garbled = sound.clone();
        garbled[page * 4096..page * 4096 + 64].fill(0xA5);
        fs::write(&database, garbled).unwrap();
        noticed += usize::from(back_up(&bench.state(), &place.path().join(page.to_string())).is_err());
    }
    assert!(noticed > sound.len() / 4096 / 2, "{noticed}");
    fs::write(&database, sound).unwrap();
    back_up(&bench.state(), &place.path().join("sound")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_nodes_are_copied_as_they_are_while_they_are_written() {
    let bench = Bench::new(4, 1000).await;
    let fleet = bench.state().join("fleet");
    fs::create_dir(&fleet).unwrap();
    fs::write(fleet.join("server.key"), "key").unwrap();
    // What was written last stands in the companion only, and somebody writes just now.
    let mut open_by_another = rusqlite::Connection::open(fleet.join("fleet.db")).unwrap();
    open_by_another
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE intent (task);",
        )
        .unwrap();
    open_by_another.execute("INSERT INTO intent VALUES ('a')", ()).unwrap();
    let writing = open_by_another.transaction().unwrap();
    writing.execute("INSERT INTO intent VALUES ('b')", ()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (saved, restored) = (place.path().join("saved"), place.path().join("restored"));
    back_up(&bench.state(), &saved).unwrap();
    drop(writing);
    restore(&saved, &restored).unwrap();
    for state in [saved.join("state"), restored] {
        let names: Vec<String> = fs::read_dir(state.join("fleet"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.len() == 2 && names.contains(&"fleet.db".to_owned()), "{names:?}");
        let copy = rusqlite::Connection::open(state.join("fleet/fleet.db")).unwrap();
        let tasks: Vec<String> = copy
            .prepare("SELECT task FROM intent")
            .unwrap()
            .query_map((), |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(tasks, ["a"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_were_handed_is_copied_before_the_records_of_tasks() {
    let bench = Bench::new(1, 10).await;
    soon(bench.service.drain(Duration::ZERO)).await;
    // Folders are listed in an order of the file system's, often that in which they were made.
    for made in [["fleet", "tasks"], ["tasks", "fleet"]] {
        let place = tempfile::tempdir().unwrap();
        let (saved, state) = (place.path().join("saved"), place.path().join("state"));
        fs::create_dir(&state).unwrap();
        fs::copy(bench.state().join("agent.db"), state.join("agent.db")).unwrap();
        made.iter().for_each(|name| fs::create_dir(state.join(name)).unwrap());
        // The copy goes no further than to a database that is none.
        fs::write(state.join("fleet/fleet.db"), "no database at all".repeat(100)).unwrap();
        assert!(matches!(back_up(&state, &saved), Err(BackupError::Store(_))));
        assert!(!saved.join("state/tasks").exists(), "{made:?}");
        fs::remove_file(state.join("fleet/fleet.db")).unwrap();
        back_up(&state, &place.path().join("sound")).unwrap();
        assert!(place.path().join("sound/state/tasks").exists());
    }
}
