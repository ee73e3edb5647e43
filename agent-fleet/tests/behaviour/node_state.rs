//! The node's state machine: what an API server that means ill, or a host that is short of something, makes it do.

use agent_fleet::keys::Nonce;
use agent_fleet::node::{Action, Event, Flow, Journaled, NodeState};
use task_service::TaskId;

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

fn assign(id: &str) -> Event {
    Event::Assign { task: task(id), nonce: Nonce::random().unwrap(), journaled: Journaled::Unknown }
}

fn cancel(id: &str, times: u32) -> Event {
    Event::Cancel { task: task(id), times, journaled: Journaled::Unknown }
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
