//! Of more tasks, or bytes, than are to be kept, the oldest go.

use std::time::Duration;

use task_service::{Removed, Retention};

use super::{DAY, age_task, ended, ids, retention};
use crate::support::{Bench, exited, with_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_length_that_no_log_has_keeps_the_others_from_nothing() {
    let bench = Bench::new(2, 10).await;
    for id in ["old", "liar", "new"] {
        ended(&bench, id).await;
    }
    let database = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    let sql = "UPDATE task SET log_bytes = ?1 WHERE id = 'liar'";
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute(sql, [i64::MAX]).unwrap();
    age_task(&bench, "old", 31 * DAY);
    let bound = Retention { max_bytes: 1 << 50, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&bound).await.unwrap().tasks, 1);
    age_task(&bench, "liar", 31 * DAY);
    assert_eq!(bench.service.clean_up(&bound).await.unwrap().tasks, 1);
    assert_eq!(bench.status("new").await, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_tasks_the_oldest_that_have_ended_go_with_their_records() {
    let bench = Bench::new(1, 10).await;
    bench.submit(with_id("runs")).await;
    let runs = bench.manual.next().await;
    bench.submit(with_id("waits")).await;
    let at_most = |max_tasks| Retention { max_tasks, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most(1)).await.unwrap(), Removed::default());
    runs.exit(0);
    bench.manual.next().await.exit(0);
    bench.wait("waits").await;
    for id in ["a", "b", "c"] {
        ended(&bench, id).await;
    }
    assert_eq!(bench.service.clean_up(&at_most(0)).await.unwrap(), Removed::default());
    assert_eq!(bench.service.clean_up(&at_most(5)).await.unwrap(), Removed::default());
    let removed = bench.service.clean_up(&at_most(2)).await.unwrap();
    assert_eq!((removed.tasks, removed.records), (3, 3));
    assert_eq!(ids(&bench).await, ["b", "c"]);
    let record = |id: &str| bench.state().join("tasks").join(id).exists();
    assert_eq!(["runs", "waits", "a", "b", "c"].map(record), [false, false, false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_bytes_as_many_tasks_go_as_it_takes() {
    let bench = Bench::new(1, 10).await;
    for id in ["a", "b", "c", "d"] {
        bench.submit(with_id(id)).await;
        let mut result = exited(0);
        result.log.bytes = 1 << 20;
        bench.manual.next().await.driver.finish(result);
        bench.wait(id).await;
    }
    let at_most = |max_bytes| Retention { max_bytes, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most(5 << 20)).await.unwrap(), Removed::default());
    // Each takes a MiB and a few blocks.
    assert_eq!(bench.service.clean_up(&at_most((3 << 20) + (1 << 18))).await.unwrap().tasks, 1);
    assert_eq!(ids(&bench).await, ["b", "c", "d"]);
    assert_eq!(bench.service.clean_up(&at_most(1 << 20)).await.unwrap().tasks, 3);
}
