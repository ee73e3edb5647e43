//! A database that is damaged, foreign, or newer than the agent.

use std::path::Path;
use std::time::Duration;

use task_service::{OpenError, RunnerRegistry, StoreError, Task, TaskFilter, TaskService};

use crate::support::{Bench, open, settings, soon, spec, with_id};

/// A state folder with some history, closed properly.
async fn with_history() -> tempfile::TempDir {
    let bench = Bench::new(1, 100).await;
    for number in 0..20 {
        bench.submit(with_id(&format!("t{number}"))).await;
        bench.manual.next().await.exit(0);
        bench.wait(&format!("t{number}")).await;
    }
    soon(bench.service.drain(Duration::ZERO)).await;
    bench.folder
}

async fn count(service: &TaskService) -> usize {
    service.list(TaskFilter::default(), 1000, None).await.unwrap().tasks.len()
}

fn set_aside(state: &Path) -> usize {
    let names =
        std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Without the companions, `-wal` and `-shm`.
    let number =
        |name: &str| name.strip_prefix("agent.db.damaged-").is_some_and(|n| n.parse::<u32>().is_ok());
    names.filter(|name| number(name)).count()
}

/// Opens a service, uses it, and closes it.
async fn works(state: &Path) -> usize {
    let (service, manual) = open(state, 1, 10).await;
    let known = count(&service).await;
    let task = soon(service.submit(task_service::TaskSpec::new("manual"), "tester")).await.unwrap().task;
    manual.next().await.exit(0);
    soon(service.wait(&task.id)).await.unwrap().unwrap();
    soon(service.drain(Duration::ZERO)).await;
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_set_aside_and_the_start_goes_on() {
    let folder = with_history().await;
    let database = folder.path().join("agent.db");
    let sound = std::fs::read(&database).unwrap();
    let zeroed = vec![0; sound.len()];
    let halved = sound[..sound.len() / 2].to_vec();
    let foreign = b"#!/bin/sh\necho I am no database, and longer than a header of one hundred bytes, as can be seen here\n";
    for (number, bytes) in [zeroed, halved, foreign.to_vec()].into_iter().enumerate() {
        std::fs::write(&database, &bytes).unwrap();
        assert_eq!(works(folder.path()).await, 0);
        assert_eq!(set_aside(folder.path()), number + 1);
        let kept = folder.path().join(format!("agent.db.damaged-{}", number + 1));
        assert_eq!(std::fs::read(kept).unwrap(), bytes, "what was set aside is unchanged");
    }
    // The twin: the sound file is not set aside.
    std::fs::write(&database, &sound).unwrap();
    assert_eq!(works(folder.path()).await, 20);
    assert_eq!(set_aside(folder.path()), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_a_new_database() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("agent.db"), "").unwrap();
    assert_eq!(works(folder.path()).await, 0);
    assert_eq!(set_aside(folder.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_in_the_file_never_stops_the_start() {
    let folder = with_history().await;
    let sound = std::fs::read(folder.path().join("agent.db")).unwrap();
    let mut noticed = 0;
    for offset in (0..sound.len()).step_by(512) {
        let copy = tempfile::tempdir().unwrap();
        let mut garbled = sound.clone();
        let end = (offset + 512).min(garbled.len());
        for (index, byte) in garbled[offset..end].iter_mut().enumerate() {
            *byte = (index * 37 + offset / 512 * 11 + 5) as u8;
        }
        std::fs::write(copy.path().join("agent.db"), garbled).unwrap();
        works(copy.path()).await;
        noticed += set_aside(copy.path());
    }
    assert!(noticed > 0, "some of the damage must have been in a page's structure");
}

/// The database, as one file, of an agent that died with three tasks running and three waiting.
async fn of_a_dead_agent() -> Vec<u8> {
    let bench = Bench::new(3, 10).await;
    for name in ["r1", "r2", "r3", "q1", "q2", "q3"] {
        let labels = serde_json::json!({"of": name});
        bench.submit(spec(serde_json::json!({"id": name, "work_dir": name, "labels": labels}))).await;
    }
    let copy = tempfile::tempdir().unwrap();
    for name in ["agent.db", "agent.db-wal"] {
        std::fs::copy(bench.state().join(name), copy.path().join(name)).unwrap();
    }
    let path = copy.path().join("agent.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    database.close().unwrap();
    for _ in 0..3 {
        bench.manual.next().await.exit(0);
    }
    std::fs::read(path).unwrap()
}

/// Opens a service, lets everything run that it starts, and closes it. Afterwards no row waits or runs.
async fn comes_to_an_end(state: &Path) -> Vec<Task> {
    let (service, manual) = open(state, 10, 10).await;
    let tasks = soon(async {
        loop {
            let stats = service.stats();
            if (stats.queued, stats.running, stats.unwritten) == (0, 0, 0) {
                break service.list(TaskFilter::default(), 1000, None).await.unwrap().tasks;
            }
            while !manual.is_idle().await {
                manual.next().await.exit(0);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(service.drain(Duration::ZERO)).await;
    let database = rusqlite::Connection::open(state.join("agent.db")).unwrap();
    let sql = "SELECT group_concat(CAST(status AS TEXT)) FROM task NOT INDEXED
        WHERE status NOT IN ('succeeded', 'failed', 'interrupted', 'rejected')";
    let open_rows: Option<String> = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(open_rows, None);
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_leaves_no_task_that_ran_or_waited_without_an_end() {
    let sound = of_a_dead_agent().await;
    let (mut noticed, mut ended) = (0, 0);
    for offset in (0..sound.len()).step_by(32) {
        let end = (offset + 32).min(sound.len());
        if sound[offset..end].iter().all(|&byte| byte == 0) {
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        let mut garbled = sound.clone();
        for (index, byte) in garbled[offset..end].iter_mut().enumerate() {
            *byte = (index * 37 + offset / 32 * 11 + 5) as u8;
        }
        std::fs::write(copy.path().join("agent.db"), garbled).unwrap();
        ended += comes_to_an_end(copy.path()).await.len();
        noticed += set_aside(copy.path());
    }
    assert!(noticed > 0 && ended > 0, "{noticed} {ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_ends_its_task_and_no_other() {
    let sound = of_a_dead_agent().await;
    let damages = [
        ("spec = '{\"name\": gar'", "failed row_damaged", "interrupted agent_died"),
        ("created_by = CAST(x'66ff' AS TEXT)", "failed row_damaged", "interrupted agent_died"),
        ("attempt = -1", "failed row_damaged", "interrupted agent_died"),
        ("workspace = CAST(x'ff' AS TEXT)", "succeeded", "interrupted agent_died"),
        ("pinned = CAST(x'ff' AS TEXT)", "failed row_damaged", "interrupted agent_died"),
        ("id = 'no/id'", "failed row_damaged", "interrupted row_damaged"),
        ("id = CAST(x'ff' AS TEXT)", "failed row_damaged", "interrupted row_damaged"),
        ("status = 'quXued'", "interrupted row_damaged", "interrupted row_damaged"),
        ("status = CAST(x'ff' AS TEXT)", "interrupted row_damaged", "interrupted row_damaged"),
    ];
    for (damage, queued, running) in damages {
        for (damaged, expected) in [("q2", queued), ("r2", running)] {
            let copy = tempfile::tempdir().unwrap();
            let path = copy.path().join("agent.db");
            std::fs::write(&path, &sound).unwrap();
            let place = "SELECT seq FROM task WHERE id = ?1";
            let database = rusqlite::Connection::open(&path).unwrap();
            let seq: i64 = database.query_row(place, [damaged], |row| row.get(0)).unwrap();
            database.execute(&format!("UPDATE task SET {damage} WHERE seq = ?1"), [seq]).unwrap();
            database.close().unwrap();
            comes_to_an_end(copy.path()).await;
            let database = rusqlite::Connection::open(&path).unwrap();
            let sql =
                "SELECT status || coalesce(' ' || (result ->> '$.error.code'), '') FROM task ORDER BY seq";
            let mut statement = database.prepare(sql).unwrap();
            let found: Vec<String> =
                statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            let mut all =
                ["interrupted agent_died"; 3].into_iter().chain(["succeeded"; 3]).collect::<Vec<_>>();
            all[if damaged == "r2" { 1 } else { 4 }] = expected;
            assert_eq!(found, all, "{damage} of {damaged}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_write_ahead_log_never_stops_the_start() {
    let bench = Bench::new(1, 100).await;
    for number in 0..5 {
        bench.submit(with_id(&format!("t{number}"))).await;
        bench.manual.next().await.exit(0);
        bench.wait(&format!("t{number}")).await;
    }
    let log = std::fs::read(bench.state().join("agent.db-wal")).unwrap();
    assert!(log.len() > 10_000);
    for offset in (0..log.len()).step_by(log.len() / 23) {
        for cut in [true, false] {
            let copy = tempfile::tempdir().unwrap();
            std::fs::copy(bench.state().join("agent.db"), copy.path().join("agent.db")).unwrap();
            let mut damaged = log.clone();
            if cut {
                damaged.truncate(offset);
            } else {
                let end = (offset + 512).min(damaged.len());
                damaged[offset..end].fill(0xA5);
            }
            std::fs::write(copy.path().join("agent.db-wal"), damaged).unwrap();
            let known = works(copy.path()).await;
            assert!(known <= 5);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_agent_is_left_alone_and_said_so() {
    let folder = with_history().await;
    let database = folder.path().join("agent.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&database).unwrap();
    let error = TaskService::open(settings(folder.path(), 1, 1), RunnerRegistry::new()).await.unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Newer { found: 99, .. })), "{error}");
    assert!(error.to_string().contains("version 99"), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
    assert_eq!(set_aside(folder.path()), 0);
}
