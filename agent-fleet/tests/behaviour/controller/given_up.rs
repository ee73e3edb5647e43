//! Tasks that were given up, and what is still heard of them.

use super::{Agent, FakeNode, Place, code, id, keys, named, order};

/// Tasks that the node `a` runs, each with the beginning of a log, and has not been heard of since they were given up.
fn given_up(place: &Place, agent: &Agent, tasks: &[String]) {
    let mut a = agent.node("a", &keys(place, "a"));
    let mut executions = Vec::new();
    for task in tasks {
        executions.push(agent.start(order(task, 1, &named("a"))));
        agent.wait(a.takes(task));
        agent.wait(a.sends_log(task, 0, b"begun\n"));
    }
    agent.loses(a);
    for (task, execution) in tasks.iter().zip(executions) {
        agent.wait(agent.fleet.abandon("a", &id(task), "ann")).unwrap();
        assert_eq!(code(&agent.wait(execution.wait())), Some("abandoned"));
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t-{number}")).collect()
}

fn back(place: &Place, agent: &Agent, tasks: &[String]) -> FakeNode {
    let begun: Vec<&str> = tasks.iter().map(String::as_str).collect();
    agent.node_with("a", &keys(place, "a"), &begun)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn tasks_whose_node_does_not_come_back_keep_nothing_open() {
    let place = Place::new();
    let agent = place.agent();
    let before = descriptors();
    let tasks = names(60);
    given_up(&place, &agent, &tasks);
    agent.eventually("the end of all", || (descriptors() < before + 30).then_some(()));
    agent.dies();
    let agent = place.agent();
    let before = descriptors();
    // Its work has looked at all of them when the node is let in.
    let mut a = back(&place, &agent, &tasks);
    assert!(descriptors() < before + 30, "{before}, {}", descriptors());
    for (number, task) in tasks.iter().enumerate() {
        assert_eq!(a.welcome[number].held, 6);
        agent.wait(a.sends_log(task, 6, b"go"));
    }
    for task in &tasks {
        agent.wait(a.sends_log(task, 8, b"es on\n"));
        agent.wait(a.ends(task, 14, 7));
        let late = agent.records.late_result(&id(task)).unwrap().unwrap();
        assert_eq!((late.exit_code, late.log.bytes), (Some(7), 14));
        assert_eq!(std::fs::read(agent.records.log_path(&id(task))).unwrap(), b"begun\ngoes on\n");
    }
}

#[test]
fn a_node_is_to_end_what_was_given_up_also_when_the_history_has_forgotten_it() {
    let place = Place::new();
    let agent = place.agent();
    let tasks = names(1);
    given_up(&place, &agent, &tasks);
    agent.dies();
    place.forget("t-0");
    let agent = place.agent();
    let mut a = back(&place, &agent, &tasks);
    agent.wait(a.is_cancelled("t-0"));
    agent.wait(a.sends_log("t-0", 0, b"all of it\n"));
    agent.wait(a.ends("t-0", 10, 1));
    assert!(!agent.records.folder(&id("t-0")).exists());
    agent.dies();
    // That is over.
    let agent = place.agent();
    let mut a = agent.node("a", &keys(&place, "a"));
    agent.start(order("other", 3, &named("a")));
    agent.wait(a.takes("other"));
}
