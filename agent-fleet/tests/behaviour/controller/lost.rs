//! What an API server makes of tasks when it has lost what it knew of its nodes.

use task_runners::StartError;
use task_service::TaskOrder;

use super::{FakeNode, Place, code, keys, order, pool, taken_up};

/// A task of a pool runs at the node `a` when the agent dies and its database of nodes is damaged, or goes.
fn damaged(place: &Place, damage: impl Fn(&std::path::Path)) -> TaskOrder {
    let agent = place.agent();
    let mut a = agent.node("a", &keys(place, "a"));
    let task = order("t", 1, &pool());
    agent.start(task.clone());
    agent.wait(a.takes("t"));
    agent.dies();
    for companion in ["fleet.db-wal", "fleet.db-shm"] {
        // It is there where something was not copied yet.
        let _ = std::fs::remove_file(place.path("fleet").join(companion));
    }
    damage(&place.path("fleet/fleet.db"));
    task
}

fn damages() -> [fn(&std::path::Path); 3] {
    [
        |path| std::fs::write(path, "no database at all, and long enough for one".repeat(100)).unwrap(),
        |path| std::fs::write(path, "").unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
    ]
}

/// The first task that the node is told to run is this one.
fn assigned_first(agent: &super::Agent, node: &mut FakeNode, task: &str) {
    agent.start(order(task, 5, &super::named(&node.name)));
    agent.wait(node.takes(task));
}

#[test]
fn a_task_that_runs_goes_on_at_its_node_and_nowhere_else() {
    for damage in damages() {
        let place = Place::new();
        let task = damaged(&place, damage);
        let agent = place.agent();
        let mut b = agent.node("b", &keys(&place, "b"));
        let execution = agent.start(taken_up(&task, Some("a")));
        assert_eq!(execution.node(), Some("a"));
        assigned_first(&agent, &mut b, "other");
        agent.dies();
        // Also at the start after that, and until the node is back.
        let agent = place.agent();
        let mut b = agent.node("b", &keys(&place, "b"));
        let execution = agent.start(taken_up(&task, Some("a")));
        assigned_first(&agent, &mut b, "another");
        let mut a = agent.node_with("a", &keys(&place, "a"), &["t"]);
        agent.wait(a.sends_log("t", 0, b"all of it\n"));
        agent.wait(a.ends("t", 10, 4));
        let result = agent.wait(execution.wait());
        assert_eq!((result.exit_code, result.log.bytes), (Some(4), 10));
    }
}

#[test]
fn a_task_of_which_nobody_knows_where_it_runs_is_not_started_again() {
    let place = Place::new();
    let task = damaged(&place, damages()[0]);
    let agent = place.agent();
    let mut b = agent.node("b", &keys(&place, "b"));
    let result = agent.wait(agent.start(taken_up(&task, None)).wait());
    assert_eq!(code(&result), Some("history_gone"), "{result:?}");
    assigned_first(&agent, &mut b, "other");
}

#[test]
fn a_task_of_which_no_node_has_heard_is_free_to_go_to_any() {
    let place = Place::new();
    let agent = place.agent();
    let task = order("t", 1, &pool());
    assert!(matches!(agent.try_start(task.clone()), Err(StartError::Away(_))));
    // Its turn had come, and no more.
    let (_, mirror) = task_runners::Mirror::open(&agent.records, &task.id).unwrap();
    drop(mirror);
    agent.dies();
    let agent = place.agent();
    let again = taken_up(&task, Some("a"));
    assert!(matches!(agent.try_start(again.clone()), Err(StartError::Away(_))));
    // What waits has no record.
    assert!(!agent.records.folder(&task.id).exists());
    let mut b = agent.node("b", &keys(&place, "b"));
    let execution = agent.start_when_possible(&order("t", 1, &pool()));
    agent.wait(b.takes("t"));
    agent.wait(b.ends("t", 0, 0));
    assert_eq!(agent.wait(execution.wait()).exit_code, Some(0));
}
