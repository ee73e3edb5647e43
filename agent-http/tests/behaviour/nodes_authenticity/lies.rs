//! A node that is let in and lies about tasks of another: nothing of those is touched.

use agent_fleet::frame::LogFrame;
use serde_json::{Value, json};

use super::middle::Way;
use super::{Member, kind, server_of, server_with};
use crate::support::eventually;

#[test]
fn a_node_that_speaks_of_another_s_task_changes_nothing_of_it() {
    let server = server_of(&["db-1", "db-2"]);
    let (honest, liar) = (Member::start(&server, "db-1"), Member::start(&server, "db-2"));
    let id = honest.submit(&server, "gated.sh");
    let log = || server.get(&format!("/api/v1/tasks/{id}/log")).body;
    eventually("the log", || String::from_utf8_lossy(&log()).contains("begun\n").then_some(()));
    let before = log();

    // An end of its own, to take the result of.
    let own = liar.submit(&server, "started.sh");
    assert_eq!(server.ended(&own)["status"], "succeeded");
    let ended = liar.middle.seen(Way::ToServer).into_iter().find(|text| kind(text) == "ended").unwrap();
    // Of whichever task has that id.
    let mut ended: Value = serde_json::from_str(&ended).unwrap();
    assert!(ended.as_object_mut().unwrap().remove("accepted").is_some());
    let ended = ended.to_string();
    let task: task_service::TaskId = id.parse().unwrap();
    let bytes = b"all is well\n";
    let logs = [0, before.len() as u64, 1 << 40].map(|offset| {
        let frame = LogFrame { task: task.clone(), attempt: 1, offset, bytes };
        frame.encode()
    });
    let mut texts: Vec<String> = ["taken", "started"]
        .map(|kind| json!({ "v": 1, "type": kind, "task": id, "header_bytes": 1 }).to_string())
        .into();
    texts.push(ended.replace(&own, &id));
    // The first of them may end the connection.
    liar.middle.send_together(Way::ToServer, &logs, &texts);

    // Both ends say so, and the liar is let in again, later, as a node that was refused.
    let words =
        format!("refused, foreign_task: the task {id} was not handed to this node; nothing was changed");
    eventually("the refusal", || liar.service.said().contains(&words).then_some(()));
    let told =
        |line: &str| line.contains("a node speaks of a task that was not handed to it") && line.contains(&id);
    assert!(server.said().lines().any(|line| told(line) && line.contains("db-2")), "{}", server.said());
    let after = liar.submit(&server, "started.sh");
    assert_eq!(server.ended(&after)["status"], "succeeded");
    assert!(!server.said().lines().any(|line| told(line) && line.contains("db-1")), "{}", server.said());
    assert_eq!(server.get(&format!("/api/v1/tasks/{id}")).json()["status"], "running");
    assert_eq!(log(), before);
    std::fs::write(honest.service.site.path("gate"), "").unwrap();
    let task = server.ended(&id);
    assert_eq!((task["status"].as_str(), task["node"].as_str()), (Some("succeeded"), Some("db-1")));
    assert_eq!(log(), honest.service.get(&format!("/api/v1/tasks/{id}/log")).body);

    // The twin: of its own task the same lie is believed, which is its own risk.
    let gated = liar.submit(&server, "gated.sh");
    eventually("the start", || liar.starts().contains(&gated).then_some(()));
    let lie = ended.replace(&own, &gated);
    let mut lie: Value = serde_json::from_str(&lie).unwrap();
    lie["log_bytes"] = json!(0);
    liar.middle.say(Way::ToServer, &lie.to_string());
    assert_eq!(server.ended(&gated)["status"], "succeeded");
}

#[test]
fn a_node_s_log_takes_no_more_room_here_than_one_of_this_agent_may() {
    let server = server_with(&["db-1"], "[script_executor]\nmax_log_bytes = \"64KiB\"\n");
    let node = Member::start(&server, "db-1");
    node.service.site.write_script("long.sh", "#!/bin/sh\nseq 1 100000\n");
    eventually("the new script", || {
        let offered = &server.get("/api/v1/nodes/db-1").json()["scripts"]["long.sh"];
        offered.is_string().then_some(())
    });
    let id = node.submit(&server, "long.sh");
    let task = server.ended(&id);
    let log = &task["result"]["log"];
    // The bound, and room for banners.
    assert_eq!(
        (task["status"].as_str(), log["bytes"].as_u64()),
        (Some("succeeded"), Some(2 * 65_536)),
        "{task}"
    );
    assert!(log["truncated_bytes"].as_u64().unwrap() > 400_000, "{task}");
    let there = node.service.get(&format!("/api/v1/tasks/{id}/log")).body;
    assert_eq!(server.get(&format!("/api/v1/tasks/{id}/log")).body, there[..2 * 65_536]);
}
