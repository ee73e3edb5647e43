//! What a node offers, in as many parts as it likes.

use std::time::{Duration, Instant};

use agent_fleet::message::{CataloguePart, CatalogueScript, ToServer};
use task_runners::StartError;

use super::{FakeNode, Place, keys, named, order, pool};

/// Parts without a script.
const PARTS: usize = 10_000;

fn part(digest: char, scripts: Vec<CatalogueScript>, is_last: bool) -> ToServer {
    ToServer::Catalogue(CataloguePart { digest: digest.to_string().repeat(64), scripts, is_last })
}

/// How long it takes until a task is handed to a node that has sent these parts before it says more.
fn time_of_parts(agent: &super::Agent, a: &mut FakeNode, task: &str) -> Duration {
    let begun = Instant::now();
    (0..PARTS).for_each(|_| a.say(&part('2', Vec::new(), false)));
    agent.start(order(task, 1, &named("a")));
    agent.wait(a.takes(task));
    // What is said behind the parts is heard behind them.
    agent.wait(a.ends(task, 0, 0));
    begun.elapsed()
}

#[test]
fn a_part_costs_no_more_where_many_scripts_have_come_before_it() {
    let place = Place::new();
    let agent = place.agent();
    let mut a = agent.node("a", &keys(&place, "a"));
    let few = time_of_parts(&agent, &mut a, "few");
    let script = |number: usize| CatalogueScript {
        name: format!("script-{number}.sh"),
        sha256: "1".repeat(64),
        verified: false,
        header: String::new(),
    };
    a.say(&part('2', (0..30_000).map(script).collect(), false));
    let many = time_of_parts(&agent, &mut a, "many");
    assert!(many < 4 * few + Duration::from_secs(3), "{few:?}, {many:?}");
    a.say(&part('2', Vec::new(), true));
    let offers = || agent.fleet.node("a").is_some_and(|node| node.scripts.len() == 30_000);
    agent.eventually("all of them", || offers().then_some(()));
}

#[test]
fn a_node_that_comes_with_other_scripts_gets_no_task_before_they_are_known() {
    let place = Place::new();
    let (agent, keys) = (place.agent(), keys(&place, "a"));
    agent.loses(agent.node("a", &keys));
    let mut a = agent.node_before_its_offer("a", &keys, &[], '2');
    let targets = [named("a"), pool()];
    for target in &targets {
        let refused = agent.try_start(order("early", 1, target));
        assert!(matches!(refused, Err(StartError::Away(_))), "{refused:?}");
    }
    a.offers('2', &"3".repeat(64));
    agent.start_when_possible(&order("late", 1, &targets[0]));
    agent.wait(a.takes("late"));
    // The twin: one that comes with what is known has its tasks at once.
    agent.loses(a);
    let mut a = agent.node_before_its_offer("a", &keys, &[("late", None)], '2');
    agent.start_when_possible(&order("later", 2, &targets[0]));
    agent.wait(a.takes("later"));
}
