//! A node with its journal, its task service and its line, while an API server says what a test likes.

use std::sync::atomic::Ordering;

use agent_fleet::keys::Nonce;
use agent_fleet::message::ToServer;
use task_service::TaskSpec;

use crate::scripted::{Running, Server, task};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_comes_over_a_slow_line_while_somebody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let node = Running::start(&folder.path().join("state"), &[&server]).await;
    let mut line = server.connected().await;
    line.assign(&server, "busy", "gate").await;
    line.until("the start", |said| matches!(said, ToServer::Started { .. }).then_some(())).await;
    let mut spec = TaskSpec::new("quick");
    spec.params.insert("text".to_owned(), "x".repeat(180 << 10).into());
    let long = server.assignment(&line, "long", Nonce::random().unwrap(), &spec);
    // Nine seconds, of which nothing but this message comes.
    line.slowness.store(200, Ordering::Relaxed);
    line.say(&long).await;
    let is_long =
        |said| matches!(said, ToServer::Taken { task: taken } if taken == task("long")).then_some(());
    line.until("what came slowly", is_long).await;
    assert_eq!(node.numbers().connections, 1);
}
