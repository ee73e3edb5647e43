//! What a node offers, in as many parts as it likes.

use std::time::{Duration, Instant};

use agent_fleet::message::{CataloguePart, CatalogueScript, ToServer};

use super::{FakeNode, Place, keys, named, order};

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
