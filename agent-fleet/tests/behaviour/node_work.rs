//! A node with its journal, its task service and its line, while an API server says what a test likes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use agent_fleet::journal::{Journal, Record};
use agent_fleet::keys::Nonce;
use agent_fleet::message::{ToNode, ToServer};
use jiff::{SignedDuration, Timestamp};
use task_service::TaskSpec;

use crate::journal::first_version;
use crate::scripted::{Line, Running, Server, crashed, task};

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
        |said| matches!(said, ToServer::Taken { task: taken, .. } if taken == task("long")).then_some(());
    line.until("what came slowly", is_long).await;
    assert_eq!(node.numbers().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_was_ahead_by_an_hour_takes_assignments_as_soon_as_it_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let state = folder.path().join("state");
    std::fs::create_dir_all(state.join("node")).unwrap();
    first_version(&state.join("node/journal.db"), Timestamp::now() + SignedDuration::from_mins(90));
    let _node = Running::start(&state, &[&server]).await;
    let mut line = server.connected().await;
    line.assign(&server, "now", "quick").await;
    let said = |said| match said {
        ToServer::Taken { task: taken, .. } if taken == task("now") => Some("taken".to_owned()),
        ToServer::Complaint { code, .. } => Some(code),
        _ => None,
    };
    assert_eq!(line.until("an answer", said).await, "taken");
}

/// A task that runs at the node, or has ended there unheard. The node goes first: with its line it would come again.
async fn taken(server: &Server, state: &Path, name: &str) -> (Running, Line) {
    let node = Running::start(state, &[server]).await;
    let mut line = server.connected().await;
    line.assign(server, "a", name).await;
    line.until("the start", |said| matches!(said, ToServer::Started { .. }).then_some(())).await;
    if name == "quick" {
        node.ended("a").await;
    }
    (node, line)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_history_was_set_aside_a_task_that_ran_ends_as_its_record_says() {
    for (name, removed, expected) in [
        ("quick", None, (None, "quick\n")),
        // Its result went too, or it died before it had one.
        ("quick", Some("result.json"), (Some("history_gone"), "")),
        ("gate", None, (Some("history_gone"), "")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::new(folder.path()).await;
        let before = taken(&server, &folder.path().join("state"), name).await;
        let state = crashed(&folder.path().join("state"), &folder.path().join("crashed"));
        for suffix in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(state.join(format!("agent.db{suffix}"))));
        }
        if let Some(removed) = removed {
            std::fs::remove_file(state.join("tasks/a").join(removed)).unwrap();
        }
        drop(before);
        let _node = Running::start(&state, &[&server]).await;
        let mut line = server.connected_to(|hello| !hello.unsettled.is_empty()).await;
        assert!(line.hello.unsettled[0].is_begun, "{name} {removed:?}");
        let ended = line.ended("a").await;
        let code = ended.result.error.as_ref().map(|error| error.code.as_str());
        assert_eq!((code, ended.result.success), (expected.0, expected.0.is_none()), "{name} {removed:?}");
        assert_eq!(String::from_utf8_lossy(&line.log).contains("quick\n"), !expected.1.is_empty());
        assert_eq!(line.log.len() as u64, ended.log_bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_the_journal_that_was_never_started_is_wanted_again_and_starts_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let state = folder.path().join("state");
    std::fs::create_dir_all(state.join("node")).unwrap();
    let mut journal = Journal::open(&state.join("node/journal.db")).unwrap();
    let nonce = Nonce::random().unwrap();
    journal
        .write(&[Record::Taken { task: task("a"), nonce, accepted: None, server: None }], Timestamp::now())
        .unwrap();
    drop(journal);
    let node = Running::start(&state, &[&server]).await;
    let mut line = server.connected().await;
    assert!(!line.hello.unsettled[0].is_begun);
    let again = server.assignment(&line, "a", nonce, &TaskSpec::new("quick"));
    line.say(&again).await;
    assert_eq!(line.ended("a").await.result.error, None);
    node.ended("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_tasks_that_nobody_settles_hold_no_logs_open_and_are_all_told_again() {
    const TASKS: usize = 120;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let state = folder.path().join("state");
    let node = Running::start(&state, &[&server]).await;
    let mut line = server.connected().await;
    for number in 0..TASKS {
        line.assign(&server, &format!("task-{number}"), "quick").await;
    }
    let mut ended = BTreeSet::new();
    while ended.len() < TASKS {
        ended.insert(line.any_end().await);
    }
    assert!(open_logs(&state) < 30, "{} logs are open", open_logs(&state));
    // The same of those that had ended before the start.
    let state = crashed(&state, &folder.path().join("crashed"));
    drop((node, line));
    let _node = Running::start(&state, &[&server]).await;
    let mut line = server.connected_to(|hello| hello.unsettled.len() == TASKS).await;
    let mut again = BTreeSet::new();
    while again.len() < TASKS {
        again.insert(line.any_end().await);
    }
    assert_eq!(again, ended);
    assert!(open_logs(&state) < 30, "{} logs are open", open_logs(&state));
    assert!(line.log.len() >= TASKS * "quick\n".len());
}

/// How many logs below a folder this process has open.
fn open_logs(state: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().path().read_link().ok());
    open.filter(|path| path.starts_with(state) && path.ends_with("stdout.txt")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_no_message_can_hold_is_told_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(folder.path()).await;
    let _node = Running::start(&folder.path().join("state"), &[&server]).await;
    let mut line = server.connected().await;
    for (id, bytes, code) in [("short", 1 << 20, None), ("long", 17 << 20, Some("result_too_long"))] {
        let mut spec = TaskSpec::new("long");
        spec.params.insert("bytes".to_owned(), bytes.into());
        let assign = server.assignment(&line, id, Nonce::random().unwrap(), &spec);
        line.say(&assign).await;
        let ended = line.ended(id).await;
        assert_eq!(ended.result.error.map(|error| error.code).as_deref(), code);
        assert!(ended.log_bytes > 0 && ended.result.log.bytes == ended.log_bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_moved_to_another_api_server_keeps_the_results_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) =
        (Server::new(&folder.path().join("first")).await, Server::new(&folder.path().join("second")).await);
    let mut state = folder.path().join("state");
    let mut left = Some(taken(&first, &state, "quick").await);
    let moved = |state: &Path, number: u32| crashed(state, &folder.path().join(format!("moved-{number}")));

    state = moved(&state, 1);
    drop(left.take());
    let node = Running::start(&state, &[&second]).await;
    let mut line = second.connected().await;
    assert_eq!(line.hello.unsettled, [], "it is nothing to the second one");
    // That speaks of it all the same.
    for message in [
        ToNode::Settled { task: task("a"), accepted: None },
        ToNode::Cancel { task: task("a"), times: 1, accepted: None },
        ToNode::Held { task: task("a"), bytes: 0, again: true, accepted: None },
    ] {
        line.say(&message).await;
        let complaint = |said| match said {
            ToServer::Complaint { task: Some(about), code, .. } if about == task("a") => Some(code),
            _ => None,
        };
        assert_eq!(line.until("the complaint", complaint).await, "other_assignment");
    }
    line.assign(&second, "b", "quick").await;
    assert_eq!(line.ended("b").await.result.error, None);
    line.say(&ToNode::Settled { task: task("b"), accepted: None }).await;
    node.has_unsettled(1).await;

    // The twin: the first one gets it, and is asked nothing of the other's.
    state = moved(&state, 2);
    drop((node, line));
    let node = Running::start(&state, &[&first]).await;
    let mut line = first.connected_to(|hello| hello.unsettled.len() == 1).await;
    assert_eq!(line.ended("a").await.result.error, None);
    line.say(&ToNode::Settled { task: task("a"), accepted: None }).await;
    node.has_unsettled(0).await;
}
