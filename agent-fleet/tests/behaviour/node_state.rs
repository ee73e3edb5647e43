//! The node's state machine: what an API server that means ill, or a host that is short of something, makes it do.

use agent_fleet::keys::Nonce;
use agent_fleet::node::{Action, Event, Flow, Journaled, NodeState};
use task_service::TaskId;

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

fn assign(id: &str) -> Event {
    Event::Assign {
        task: task(id),
        nonce: Nonce::random().unwrap(),
        accepted: None,
        journaled: Journaled::Unknown,
    }
}

fn cancel(id: &str, times: u32) -> Event {
    Event::Cancel { task: task(id), times, accepted: None, journaled: Journaled::Unknown }
}

/// A node that is connected and has taken these tasks.
fn node_with(ids: &[&str]) -> NodeState {
    let mut state = NodeState::new(Flow::default());
    state.on(Event::Connected { tasks: Vec::new() });
    for id in ids {
        state.on(assign(id));
        state.on(Event::Journaled { task: task(id) });
    }
    state
}

/// The same, with tasks that run.
fn running(ids: &[&str]) -> NodeState {
    let mut state = node_with(ids);
    for id in ids {
        state.on(Event::Begun { task: task(id), header_bytes: 0 });
    }
    state
}

fn count(actions: &[Action], is_one: impl Fn(&Action) -> bool) -> usize {
    actions.iter().filter(|action| is_one(action)).count()
}

#[test]
fn the_end_of_a_task_is_asked_for_twice_at_most_however_often_the_api_server_says() {
    let is_cancel = |action: &Action| matches!(action, Action::Cancel { .. });
    for (times, expected) in [(1, 1), (2, 2), (3, 2), (10_000, 2)] {
        let asked = running(&["a"]).on(cancel("a", times));
        assert_eq!(count(&asked, is_cancel), expected, "asked for {times} times while it runs");

        let mut state = node_with(&["a"]);
        state.on(cancel("a", times));
        let asked = state.on(Event::Begun { task: task("a"), header_bytes: 0 });
        assert_eq!(count(&asked, is_cancel), expected, "asked for {times} times before it runs");
    }
}

fn started(actions: &[Action]) -> Vec<&str> {
    let mut started = Vec::new();
    for action in actions {
        if let Action::Start { task } = action {
            started.push(task.as_str());
        }
    }
    started
}

#[test]
fn of_tasks_that_the_task_service_has_no_room_for_a_few_are_tried_the_oldest_first_and_more_as_they_are_taken()
 {
    let ids: Vec<String> = (0..100).rev().map(|number| format!("task-{number:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut state = node_with(&ids);
    let refuse = |state: &mut NodeState, id: &str| state.on(Event::NotYet { task: task(id) });
    for id in &ids {
        assert_eq!(refuse(&mut state, id), []);
    }
    // Nothing is asked in between, and none loses its place for being tried.
    for _ in 0..3 {
        assert_eq!(started(&state.on(Event::Tick)), ids[..4]);
        for id in &ids[..4] {
            assert_eq!(started(&refuse(&mut state, id)), [""; 0]);
        }
    }
    // One that is taken shows that there is room; so does one that has ended.
    state.on(Event::Tick);
    let begun = |id: &str| Event::Begun { task: task(id), header_bytes: 0 };
    assert_eq!(started(&state.on(begun(ids[0]))), [ids[4]]);
    assert_eq!(started(&state.on(begun(ids[0]))), [""; 0], "the same again says nothing");
    assert_eq!(started(&state.on(begun(ids[4]))), [ids[5]]);
    refuse(&mut state, ids[5]);
    assert_eq!(started(&state.on(Event::Ended { task: task(ids[0]), log_bytes: 0 })), [ids[5]]);
    // What is cancelled while it waits is not tried.
    state.on(cancel(ids[6], 1));
    assert_eq!(started(&state.on(begun(ids[5]))), [ids[7]]);
}
