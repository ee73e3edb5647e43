//! What a later start makes of the tasks that an earlier one left behind. The database of an agent that died is a copy of
//! its files, taken while it lived: that is what a crash leaves.

use serde_json::json;
use task_runners::Recorder;
use task_service::{
    CancelError, OpenError, Records, RunnerRegistry, TaskFilter, TaskId, TaskService, TaskStatus,
};

use crate::support::{Bench, crashed, exited, open, settings, soon, spec, with_id};

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn running_tasks_are_interrupted_and_waiting_ones_start_in_their_order() {
    let bench = Bench::new(2, 10).await;
    for name in ["r1", "r2", "q1", "q2"] {
        bench.submit(spec(json!({"id": name, "labels": {"of": name}}))).await;
    }
    let running = [bench.manual.next().await, bench.manual.next().await];
    let crash = crashed(&bench.state());
    let (service, manual) = open(crash.path(), 1, 10).await;
    assert_eq!(service.pinned().await.unwrap().into_iter().collect::<Vec<_>>(), ["snapshot"]);
    for name in ["r1", "r2"] {
        let task = soon(service.wait(&id(name))).await.unwrap().unwrap();
        assert_eq!(task.status, TaskStatus::Interrupted);
        let result = task.result.unwrap();
        assert_eq!(result.error.as_ref().unwrap().code, "agent_died");
        assert_eq!((task.log_bytes, result.log.bytes), (6, 6), "the log that was there is still to be read");
        let record = Records::open(crash.path()).unwrap().read_result(&id(name)).unwrap().unwrap();
        assert_eq!(record, *result);
    }
    for name in ["q1", "q2"] {
        let started = manual.next().await;
        assert_eq!((started.id().as_str(), started.order.pinned.as_deref()), (name, Some("snapshot")));
        assert_eq!(started.order.spec.labels["of"], name);
        started.exit(0);
        assert_eq!(soon(service.wait(&id(name))).await.unwrap().unwrap().status, TaskStatus::Succeeded);
    }
    assert!(service.pinned().await.unwrap().is_empty());
    running.into_iter().for_each(|started| started.exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_stepped_by_a_day_changes_no_order() {
    let bench = Bench::new(1, 10).await;
    for name in ["runs", "q1", "q2", "q3"] {
        bench.submit(with_id(name)).await;
    }
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    let database = rusqlite::Connection::open(crash.path().join("agent.db")).unwrap();
    let day = 24 * 60 * 60 * 1_000_000_000_i64;
    for (name, step) in [("q1", day), ("q3", -day)] {
        let sql = "UPDATE task SET created_at = created_at + ?2 WHERE id = ?1";
        assert_eq!(database.execute(sql, rusqlite::params![name, step]).unwrap(), 1);
    }
    database.close().unwrap();
    let (service, manual) = open(crash.path(), 1, 10).await;
    let page = service.list(TaskFilter::default(), 10, None).await.unwrap();
    let listed: Vec<&str> = page.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(listed, ["q3", "q2", "q1", "runs"]);
    for name in ["q1", "q2", "q3"] {
        let started = manual.next().await;
        assert_eq!(started.id(), name);
        started.exit(0);
    }
    running.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_result_beats_the_row_and_a_damaged_one_does_not() {
    let bench = Bench::new(3, 10).await;
    for name in ["whole", "damaged", "empty", "waits"] {
        bench.submit(with_id(name)).await;
    }
    let running = [bench.manual.next().await, bench.manual.next().await, bench.manual.next().await];
    let crash = crashed(&bench.state());
    let records = Records::open(crash.path()).unwrap();
    records.write_result(&id("whole"), &exited(7)).unwrap();
    std::fs::write(records.folder(&id("damaged")).join("result.json"), "{\"outcome\":").unwrap();
    std::fs::write(records.folder(&id("empty")).join("result.json"), "").unwrap();
    // A row of an older database whose task has run since.
    records.write_result(&id("waits"), &exited(0)).unwrap();
    let (service, manual) = open(crash.path(), 3, 10).await;
    let states = [
        ("whole", TaskStatus::Failed),
        ("damaged", TaskStatus::Interrupted),
        ("empty", TaskStatus::Interrupted),
        ("waits", TaskStatus::Succeeded),
    ];
    for (name, status) in states {
        let task = service.task(&id(name)).await.unwrap().unwrap();
        assert_eq!((task.status, task.ended_at.is_some()), (status, true), "{name}");
    }
    assert_eq!(service.task(&id("whole")).await.unwrap().unwrap().result.unwrap().exit_code, Some(7));
    assert!(records.folder(&id("damaged")).join("result.json.damaged").exists());
    assert!(manual.is_idle().await);
    running.into_iter().for_each(|started| started.exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_there_and_cannot_be_read_is_not_overwritten_but_waited_for() {
    let bench = Bench::new(1, 10).await;
    for name in ["locked", "waits"] {
        bench.submit(spec(json!({"id": name, "work_dir": "w"}))).await;
    }
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    let records = Records::open(crash.path()).unwrap();
    records.write_result(&id("locked"), &exited(7)).unwrap();
    // Links are not followed, so that this cannot be read, whoever runs the test.
    let (result, away) = (records.folder(&id("locked")).join("result.json"), crash.path().join("away.json"));
    std::fs::rename(&result, &away).unwrap();
    std::os::unix::fs::symlink(&away, &result).unwrap();

    let (service, manual) = open(crash.path(), 1, 10).await;
    // Neither its slot nor its workspace is held by it.
    let next = manual.next().await;
    assert_eq!(next.id(), "waits");
    let undecided = service.task(&id("locked")).await.unwrap().unwrap();
    assert_eq!((undecided.status, undecided.result), (TaskStatus::Running, None));
    let error = soon(service.cancel(&id("locked"))).await.unwrap_err();
    assert!(matches!(error, CancelError::Unavailable(_)), "{error}");
    assert!(result.is_symlink());

    std::fs::rename(&away, &result).unwrap();
    let ended = soon(service.wait(&id("locked"))).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.result.unwrap().exit_code), (TaskStatus::Failed, Some(7)));
    next.exit(0);
    soon(service.wait(&id("waits"))).await.unwrap().unwrap();
    let stats = service.stats();
    assert_eq!((stats.running, stats.queued, stats.unwritten), (0, 0, 0));
    running.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_banner_of_an_interrupted_task_is_told_from_its_output() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("runs")).await;
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    let records = Records::open(crash.path()).unwrap();
    let (_execution, donor) = Recorder::begin(&records, &id("donor"), "manual", "tester").unwrap();
    let banner = std::fs::read(records.log_path(&id("donor"))).unwrap();
    std::fs::write(records.log_path(&id("runs")), [banner.as_slice(), b"output\n"].concat()).unwrap();
    let (service, _) = open(crash.path(), 1, 10).await;
    let log = service.task(&id("runs")).await.unwrap().unwrap().result.unwrap().log.clone();
    assert_eq!((log.header_bytes, log.bytes), (banner.len() as u64, banner.len() as u64 + 7));
    drop(donor);
    running.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_runner_is_gone_is_rejected_when_its_turn_comes() {
    let bench = Bench::new(1, 10).await;
    for name in ["runs", "waits"] {
        bench.submit(with_id(name)).await;
    }
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    let service = TaskService::open(settings(crash.path(), 1, 10), RunnerRegistry::new()).await.unwrap();
    let task = soon(service.wait(&id("waits"))).await.unwrap().unwrap();
    assert_eq!(task.status, TaskStatus::Rejected);
    let error = task.result.unwrap().error.clone().unwrap();
    assert_eq!(error.code, "runner_gone");
    assert!(error.message.contains("'manual'"), "{}", error.message);
    // The record alone leads to the same state.
    let record = Records::open(crash.path()).unwrap().read_result(&id("waits")).unwrap().unwrap();
    assert_eq!(record.error.unwrap().code, "runner_gone");
    running.exit(0);
}

#[test]
fn a_service_whose_runtime_is_shut_down_lets_go_of_the_folder_and_the_next_one_takes_over() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let bench = first.block_on(async {
        let bench = Bench::new(1, 10).await;
        for name in ["runs", "waits"] {
            bench.submit(with_id(name)).await;
        }
        bench
    });
    let running = first.block_on(bench.manual.next());
    let Bench { service, folder, manual } = bench;
    drop(first);
    drop(service);
    let second = runtime();
    second.block_on(async {
        let opened = soon(async {
            loop {
                let mut registry = RunnerRegistry::new();
                registry.register(manual.clone()).unwrap();
                match TaskService::open(settings(folder.path(), 1, 10), registry).await {
                    Ok(service) => break service,
                    Err(OpenError::Held { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let service = opened.await;
        assert_eq!(service.task(&id("runs")).await.unwrap().unwrap().status, TaskStatus::Interrupted);
        let waits = manual.next().await;
        assert_eq!(waits.id(), "waits");
        waits.exit(0);
    });
    running.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_stay_exclusive_across_a_restart() {
    let bench = Bench::new(4, 10).await;
    for name in ["w1", "w2", "w3"] {
        bench.submit(spec(json!({"id": name, "work_dir": "w"}))).await;
    }
    let running = bench.manual.next().await;
    let crash = crashed(&bench.state());
    let (service, manual) = open(crash.path(), 4, 10).await;
    let w2 = manual.next().await;
    assert_eq!((w2.id().as_str(), service.stats().running), ("w2", 1));
    assert!(manual.is_idle().await);
    w2.exit(0);
    let w3 = manual.next().await;
    assert_eq!(w3.id(), "w3");
    w3.exit(0);
    running.exit(0);
}
