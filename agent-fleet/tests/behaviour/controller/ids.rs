//! Ids that are used again: what was known of the task that had one before is not taken for the new one.

use agent_fleet::frame::LogFrame;
use agent_fleet::link::Frame;
use agent_fleet::message::{AcceptedAt, ToNode, ToServer};
use rusqlite::Connection;
use serde_json::json;
use task_runners::{Execution, StartError};
use task_service::{RunnerRegistry, ServiceSettings, TaskOrder, TaskService, TaskSpec};

use super::{Agent, FakeNode, Place, code, id, keys, named, order, pool, taken_up};

fn intents(place: &Place) -> Vec<(String, String)> {
    let db = Connection::open(place.path("fleet/fleet.db")).unwrap();
    let mut statement = db.prepare("SELECT task, node FROM intent ORDER BY task").unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_task_under_an_id_of_before_goes_where_its_own_target_means() {
    let place = Place::new();
    let agent = place.agent();
    let (mut a, mut b) = (agent.node("a", &keys(&place, "a")), agent.node("b", &keys(&place, "b")));
    let first = agent.start(order("t", 1, &named("a")));
    let nonce = agent.wait(a.takes("t"));
    agent.wait(a.ends("t", 0, 1));
    assert_eq!(agent.wait(first.wait()).exit_code, Some(1));

    // What is known of the first one is still on disk.
    assert_eq!(intents(&place), [("t".to_owned(), "a".to_owned())]);
    place.forget("t");
    let second = agent.start(order("t", 2, &named("b")));
    assert_ne!(agent.wait(b.takes("t")), nonce);
    agent.wait(b.ends("t", 0, 0));
    assert_eq!(agent.wait(second.wait()).exit_code, Some(0));
}

#[test]
fn what_is_removed_late_is_not_what_is_known_of_a_task_that_came_meanwhile() {
    let place = Place::new();
    let agent = place.agent();
    let (a, b) = (keys(&place, "a"), keys(&place, "b"));
    let (mut first, mut second) = (agent.node("a", &a), agent.node("b", &b));
    agent.start(order("t", 1, &named("a")));
    agent.wait(first.takes("t"));
    agent.wait(first.ends("t", 0, 0));
    place.forget("t");
    agent.start(order("t", 2, &pool()));
    agent.wait(second.takes("t"));
    agent.eventually("the removal", || (intents(&place).len() == 1).then_some(()));
    assert_eq!(intents(&place), [("t".to_owned(), "b".to_owned())]);
    agent.dies();
    // It is taken up where it is.
    let agent = place.agent();
    let (mut first, mut second) = (agent.node("a", &a), agent.node_with("b", &b, &["t"]));
    let execution = agent.start(taken_up(&order("t", 2, &pool()), None));
    agent.wait(second.ends("t", 0, 3));
    assert_eq!(agent.wait(execution.wait()).exit_code, Some(3));
    agent.start(order("other", 2, &named("a")));
    agent.wait(first.takes("other"));
}

/// A task was given up at the node `a`, which is away, and its record was removed.
fn given_up(place: &Place) -> Agent {
    let agent = place.agent();
    let mut a = agent.node("a", &keys(place, "a"));
    let lost = agent.start(order("t", 1, &named("a")));
    agent.wait(a.takes("t"));
    agent.wait(a.sends_log("t", 0, b"first\n"));
    agent.loses(a);
    agent.wait(agent.fleet.abandon("a", &id("t"), "ann")).unwrap();
    assert_eq!(code(&agent.wait(lost.wait())), Some("abandoned"));
    place.forget("t");
    agent
}

/// The task under the id of one that was given up runs, while that is heard of again.
fn each_has_its_own(place: &Place, agent: &Agent) {
    let mut b = agent.node("b", &keys(place, "b"));
    let again = agent.start(order("t", 2, &pool()));
    agent.wait(b.takes("t"));
    agent.wait(b.sends_log("t", 0, b"sec"));
    // The node of the first one is back: it is to end what nobody waits for, and is not heard of the second one.
    let mut a = agent.node_with("a", &keys(place, "a"), &["t"]);
    agent.wait(a.is_cancelled("t"));
    let held = a.welcome[0].held;
    agent.wait(a.sends_log("t", held, b"more of the first\n"));
    agent.wait(a.ends("t", held + 18, 1));
    agent.wait(b.sends_log("t", 3, b"ond\n"));
    agent.wait(b.ends("t", 7, 0));
    let result = agent.wait(again.wait());
    assert_eq!((result.exit_code, result.log.bytes), (Some(0), 7));
    assert_eq!(std::fs::read(agent.records.log_path(&id("t"))).unwrap(), b"second\n");
    assert!(agent.records.late_result(&id("t")).unwrap().is_none());
}

#[test]
fn the_id_of_a_task_that_was_given_up_is_tried_again_by_others_and_each_has_its_own_log() {
    let place = Place::new();
    each_has_its_own(&place, &given_up(&place));
}

#[test]
fn so_it_is_when_the_agent_is_started_again_meanwhile() {
    let place = Place::new();
    given_up(&place).dies();
    each_has_its_own(&place, &place.agent());
}

#[test]
fn a_node_that_may_still_have_an_older_task_of_an_id_gets_no_other_one() {
    let place = Place::new();
    let agent = given_up(&place);
    let mut a = agent.node_with("a", &keys(&place, "a"), &["t"]);
    let again = order("t", 2, &named("a"));
    assert!(matches!(agent.try_start(again.clone()), Err(StartError::Away(_))));
    agent.wait(a.is_cancelled("t"));
    agent.wait(a.ends("t", 6, 1));
    let execution = agent.start_when_possible(&again);
    agent.wait(a.takes("t"));
    agent.wait(a.ends("t", 0, 0));
    assert_eq!(agent.wait(execution.wait()).exit_code, Some(0));
}

#[test]
fn what_an_agent_that_was_stopped_has_not_removed_is_removed_at_its_next_start() {
    let place = Place::new();
    let agent = place.agent();
    let mut a = agent.node("a", &keys(&place, "a"));
    let ended = agent.start(order("t", 1, &named("a")));
    agent.wait(a.takes("t"));
    agent.wait(a.ends("t", 0, 0));
    agent.wait(ended.wait());
    agent.dies();
    assert_eq!(intents(&place).len(), 1);

    let agent = place.agent();
    let service = agent.wait(service(&place, &agent));
    agent.runtime.spawn(agent.fleet.clone().attend(service));
    agent.eventually("the removal", || intents(&place).is_empty().then_some(()));
}

#[test]
fn what_an_older_agent_has_written_is_known_of_the_tasks_that_it_has_begun() {
    let place = Place::new();
    std::fs::create_dir(place.path("fleet")).unwrap();
    let db = Connection::open(place.path("fleet/fleet.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE node (name TEXT PRIMARY KEY, key TEXT NOT NULL, digest TEXT NOT NULL, catalogue TEXT NOT NULL,
            facts TEXT NOT NULL DEFAULT '{}', is_draining INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
        CREATE TABLE intent (task TEXT PRIMARY KEY, node TEXT NOT NULL, nonce TEXT NOT NULL, given_up_by TEXT)
            STRICT, WITHOUT ROWID;
        INSERT INTO intent VALUES ('runs', 'a', '0123456789abcdef0123456789abcdef', NULL),
            ('old', 'a', '0123456789abcdef0123456789abcdef', NULL);
        PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(db);
    let agent = place.agent();
    let (mut a, mut b) = (agent.node("a", &keys(&place, "a")), agent.node("b", &keys(&place, "b")));
    let runs = agent.start(taken_up(&order("runs", 1, &pool()), Some("a")));
    let nonce = agent.wait(a.takes("runs"));
    assert_eq!(nonce.to_string(), "0123456789abcdef0123456789abcdef");
    agent.wait(a.ends("runs", 0, 0));
    assert_eq!(agent.wait(runs.wait()).exit_code, Some(0));
    agent.eventually("the removal", || (intents(&place).len() == 1).then_some(()));
    // One that is new under an id of before is another one.
    agent.start(order("old", 2, &pool()));
    agent.wait(b.takes("old"));
    a.say(&ToServer::Taken { task: id("old"), accepted: None });
}

/// When the API server accepts the task of that hour.
fn at(hour: u8) -> AcceptedAt {
    Some(order("t", hour, &named("a")).created_at)
}

/// A task has ended at the node `a`, which has not heard that this is settled when its line is cut; the history has forgotten
/// it, and another one has its id.
fn forgotten(place: &Place) -> (Agent, TaskOrder) {
    let agent = place.agent();
    let mut a = agent.node("a", &keys(place, "a"));
    let first = agent.start(order("t", 1, &named("a")));
    agent.wait(a.takes("t"));
    agent.wait(a.sends_log("t", 0, b"first\n"));
    agent.wait(a.ends("t", 6, 1));
    assert_eq!(agent.wait(first.wait()).exit_code, Some(1));
    agent.loses(a);
    place.forget("t");
    (agent, order("t", 2, &named("a")))
}

/// The node is back and says all that it has to say of the first one, before and after it takes the second.
fn only_the_second_counts(agent: &Agent, mut a: FakeNode, second: &Execution) {
    let frame = |offset, bytes| Frame::Log(LogFrame { task: id("t"), attempt: 1, offset, bytes }.encode());
    let started = ToServer::Started { task: id("t"), header_bytes: 3, body_end: Some(4), accepted: at(1) };
    a.say(&ToServer::Taken { task: id("t"), accepted: at(1) });
    a.say(&started);
    agent.wait(a.sends_log("t", 0, b"first\n"));
    agent.wait(a.ends("t", 6, 1));
    agent.wait(a.takes("t"));
    a.says.send(frame(0, b"the second\n")).unwrap();
    a.say(&started);
    a.accepted.insert("t".to_owned(), at(1));
    agent.wait(a.ends("t", 6, 1));
    a.accepted.insert("t".to_owned(), at(2));
    agent.wait(a.ends("t", 11, 0));
    let result = agent.wait(second.wait());
    assert_eq!((result.exit_code, result.log.bytes, result.log.header_bytes), (Some(0), 11, 0));
    assert_eq!(std::fs::read(agent.records.log_path(&id("t"))).unwrap(), b"the second\n");
}

#[test]
fn what_a_node_still_says_of_an_older_task_of_an_id_is_not_taken_for_the_new_one() {
    let place = Place::new();
    let (agent, again) = forgotten(&place);
    let a = agent.node_that_says("a", &keys(&place, "a"), &[("t", at(1))]);
    let second = agent.start_when_possible(&again);
    only_the_second_counts(&agent, a, &second);
}

#[test]
fn so_it_is_when_the_new_one_is_there_before_its_node() {
    let place = Place::new();
    let (agent, again) = forgotten(&place);
    let mut a = agent.node("a", &keys(&place, "a"));
    let second = agent.start_when_possible(&again);
    agent.wait(a.takes("t"));
    // It is not in the journal of the node that comes back.
    agent.loses(a);
    let a = agent.node_that_says("a", &keys(&place, "a"), &[("t", at(1))]);
    only_the_second_counts(&agent, a, &second);
    agent.dies();
    // Nor is it taken for begun at the next start of the agent, while it runs.
    let agent = place.agent();
    let mut a = agent.node_that_says("a", &keys(&place, "a"), &[("u", at(1))]);
    let third = agent.start(taken_up(&order("u", 2, &named("a")), Some("a")));
    agent.wait(a.takes("u"));
    agent.wait(a.ends("u", 0, 5));
    assert_eq!(agent.wait(third.wait()).exit_code, Some(5));
}

#[test]
fn a_task_that_its_node_does_not_take_for_an_older_one_of_its_id_says_so_and_nothing_of_that() {
    let place = Place::new();
    let (agent, again) = forgotten(&place);
    let mut a = agent.node_that_says("a", &keys(&place, "a"), &[("t", at(1))]);
    let second = agent.start_when_possible(&again);
    a.has_another("t");
    assert_eq!(code(&agent.wait(second.wait())), Some("id_conflict"));
    // The twin: one that is about the task itself says that it is gone.
    let third = agent.start(order("u", 2, &named("a")));
    a.accepted.insert("u".to_owned(), at(2));
    a.has_another("u");
    assert_eq!(code(&agent.wait(third.wait())), Some("history_gone"));
}

#[test]
fn a_node_that_speaks_of_an_older_task_is_not_sent_away_because_another_node_has_the_new_one() {
    let place = Place::new();
    let agent = place.agent();
    let mut b = agent.node("b", &keys(&place, "b"));
    let service = agent.wait(service(&place, &agent));
    agent.runtime.spawn(agent.fleet.clone().answer_by(service.clone()));
    let spec = json!({ "id": "t", "name": "where.sh", "target": named("b") });
    agent.wait(service.submit(TaskSpec::from_json(spec).unwrap(), "tester")).unwrap();
    agent.wait(b.takes("t"));
    let mut a = agent.node_that_says("a", &keys(&place, "a"), &[("t", at(1))]);
    agent.wait(a.ends("t", 0, 1));
    // The twin: one that lies about that very task.
    a.accepted.insert("t".to_owned(), b.accepted["t"]);
    a.says_the_end("t", 0, 1);
    let refused = |message: &ToNode| match message {
        ToNode::Refuse { code, .. } => Some(code.clone()),
        _ => None,
    };
    assert_eq!(agent.wait(a.next_that(refused)), "foreign_task");
    agent.wait(b.ends("t", 0, 0));
    let ended = agent.wait(service.wait(&id("t"))).unwrap().unwrap();
    assert_eq!(ended.result.unwrap().exit_code, Some(0));
}

async fn service(place: &Place, agent: &Agent) -> TaskService {
    let mut registry = RunnerRegistry::new();
    registry.register(std::sync::Arc::new(agent.fleet.runner())).unwrap();
    let state_dir = place.folder.path().to_owned();
    TaskService::open(ServiceSettings { state_dir, concurrent: 1, queue: 1 }, registry).await.unwrap()
}
