//! How long a task is left to a node that is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::json;
use task_service::{TaskOrder, TaskSpec};

use super::{Agent, Place, code, keys, order, taken_up};

/// A task for the node `a` that is left to it for so long, in words.
fn patient(task: &str, patience: &str) -> TaskOrder {
    let spec = json!({ "name": "where.sh", "target": { "node": "a" }, "unreachable_after": patience });
    let spec = Arc::new(TaskSpec::from_json(spec).unwrap());
    TaskOrder { spec, ..order(task, 1, &super::named("a")) }
}

/// The same taken up by an agent that was stopped when the node had been away since then, by the wall clock of then.
fn since(order: &TaskOrder, since: Timestamp) -> TaskOrder {
    TaskOrder { unreachable_since: Some(since), ..taken_up(order, Some("a")) }
}

/// Tasks that the node `a` has begun when the agent dies.
fn begun(place: &Place, orders: &[&TaskOrder]) -> Agent {
    let agent = place.agent();
    let mut a = agent.node("a", &keys(place, "a"));
    for order in orders {
        agent.start((*order).clone());
        agent.wait(a.takes(order.id.as_str()));
    }
    agent.dies();
    place.agent()
}

#[test]
fn a_clock_that_was_set_makes_nobody_give_up_before_nodes_can_be_back_nor_later_than_allowed() {
    let place = Place::new();
    let (short, long) = (patient("short", "1s"), patient("long", "1h"));
    let agent = begun(&place, &[&short, &long]);
    let now = Timestamp::now();
    let day = SignedDuration::from_hours(24);
    let began = Instant::now();
    // By the clock of now the node went away a day ago, or will tomorrow.
    let long = agent.start(since(&long, now - day));
    let short = agent.start(since(&short, now + day));
    assert_eq!(code(&agent.wait(short.wait())), Some("unreachable"));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let mut a = agent.node_with("a", &keys(&place, "a"), &["long"]);
    agent.wait(a.ends("long", 0, 2));
    assert_eq!(agent.wait(long.wait()).exit_code, Some(2));
}

#[test]
fn a_node_is_let_in_while_tasks_that_are_overdue_cannot_be_given_up() {
    let place = Place::new();
    let orders: Vec<_> = (0..40).map(|number| patient(&format!("t-{number}"), "1s")).collect();
    let agent = begun(&place, &orders.iter().collect::<Vec<_>>());
    for order in &orders {
        // No file can take this one's place.
        std::fs::create_dir_all(agent.records.folder(&order.id).join("result.json/x")).unwrap();
        agent.start(since(order, Timestamp::now()));
    }
    let db = Connection::open(place.path("fleet/fleet.db")).unwrap();
    let is_tried = || {
        let sql = "SELECT count(*) FROM intent WHERE given_up_by IS NOT NULL";
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 40
    };
    let began = Instant::now();
    agent.eventually("a try of each", || is_tried().then_some(()));
    let _a = agent.node("a", &keys(&place, "a"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
