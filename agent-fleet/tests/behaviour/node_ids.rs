//! Ids that are used again: a node tells its API server which of two tasks it means, and takes nothing that is said of the one
//! for the other.

use agent_fleet::keys::Nonce;
use agent_fleet::message::{AcceptedAt, ToNode, ToServer};
use task_service::TaskSpec;

use crate::scripted::{Line, Running, Server, crashed, task};

/// Hands the task `a` out anew; gives when it was accepted.
async fn assign(line: &mut Line, server: &Server, name: &str) -> AcceptedAt {
    let message = server.assignment(line, "a", Nonce::random().unwrap(), &TaskSpec::new(name));
    let ToNode::Assign(signed) = &message else { unreachable!() };
    let payload: serde_json::Value = serde_json::from_str(&signed.payload).unwrap();
    line.say(&message).await;
    Some(payload["accepted"].as_str().unwrap().parse().unwrap())
}

/// What the node complains of next, and which task it has.
async fn complaint(line: &mut Line) -> (String, AcceptedAt) {
    let is_one = |said| match said {
        ToServer::Complaint { code, accepted, .. } => Some((code, accepted)),
        _ => None,
    };
    line.until("a complaint", is_one).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_node_says_of_a_task_names_the_time_of_its_acceptance_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let state = folder.path().join("state");
    let node = Running::start(&state, &[&server]).await;
    let mut line = server.connected().await;
    let accepted = assign(&mut line, &server, "quick").await;
    for _ in 0..2 {
        let said = |message| match message {
            ToServer::Taken { accepted, .. } | ToServer::Started { accepted, .. } => Some(accepted),
            _ => None,
        };
        assert_eq!(line.until("what is said of it", said).await, accepted);
    }
    assert_eq!(line.ended("a").await.accepted, accepted);
    let state = crashed(&state, &folder.path().join("crashed"));
    drop((node, line));
    let _node = Running::start(&state, &[&server]).await;
    let mut line = server.connected_to(|hello| !hello.unsettled.is_empty()).await;
    assert_eq!(line.hello.unsettled[0].accepted, accepted);
    assert_eq!(line.ended("a").await.accepted, accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_an_older_task_of_an_id_keeps_that_and_says_so_while_it_runs_and_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let state = folder.path().join("state");
    let node = Running::start(&state, &[&server]).await;
    let mut line = server.connected().await;
    let first = assign(&mut line, &server, "gate").await;
    line.until("the start", |said| matches!(said, ToServer::Started { .. }).then_some(())).await;

    let second = assign(&mut line, &server, "quick").await;
    assert_eq!(complaint(&mut line).await, ("other_assignment".to_owned(), first));
    line.say(&ToNode::Cancel { task: task("a"), times: 1, accepted: second }).await;
    assert_eq!(complaint(&mut line).await, ("other_assignment".to_owned(), first));
    line.say(&ToNode::Cancel { task: task("a"), times: 1, accepted: first }).await;
    assert_eq!(line.ended("a").await.accepted, first);
    // Its end is told on, whatever is said of the other one.
    line.say(&ToNode::Settled { task: task("a"), accepted: second }).await;
    line.say(&ToNode::Held { task: task("a"), bytes: 1 << 40, again: false, accepted: second }).await;
    assert_eq!(line.ended("a").await.accepted, first);
    line.say(&ToNode::Settled { task: task("a"), accepted: first }).await;
    node.has_unsettled(0).await;

    // Now it remembers the older one, and starts neither.
    line.say(&ToNode::Cancel { task: task("a"), times: 1, accepted: first }).await;
    assert_eq!(complaint(&mut line).await, ("settled_before".to_owned(), first));
    let third = assign(&mut line, &server, "quick").await;
    let ended = line.ended("a").await;
    let code = ended.result.error.map(|error| error.code);
    assert_eq!((ended.accepted, code.as_deref()), (third, Some("id_conflict")));
    // So it is when it is started again.
    let copy = crashed(&state, &folder.path().join("crashed"));
    drop((node, line));
    let _node = Running::start(&copy, &[&server]).await;
    let mut line = server.connected_to(|hello| !hello.unsettled.is_empty()).await;
    assert_eq!(line.hello.unsettled[0].accepted, third);
    assert_eq!(line.ended("a").await.accepted, third);
}
