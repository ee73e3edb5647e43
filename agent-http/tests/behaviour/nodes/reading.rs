//! The log of a task that runs on a node is read in every way as that of one that runs here.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use super::{connected, node_site, submit};
use crate::support::{Reply, Service, Site, eventually, exchange, request_text};

const STEPS: &str =
    "#!/bin/sh\nuntil [ -e \"$1\" ]; do sleep 0.02; done\nseq 1 40000\nprintf 'last \\303\\244 line\\n\\n'\n";

/// What can be asked of a log: the query, and a header.
const QUESTIONS: &[(&str, &str)] = &[
    ("?banner=false", ""),
    ("?banner=false&follow=true", ""),
    ("?banner=false", "Range: bytes=17-4000\r\n"),
    ("?banner=false", "Range: bytes=-100\r\n"),
    ("?banner=false&line=39999", ""),
    ("?banner=false", "Accept: text/event-stream\r\n"),
    ("?banner=false", "Accept: text/event-stream\r\nLast-Event-ID: 200000\r\n"),
    ("/search?banner=false&q=last%20%C3%A4", ""),
    ("/search?banner=false&q=3999&limit=7", ""),
];

fn ask(at: SocketAddr, id: &str, (query, header): (&str, &str)) -> Reply {
    let path = format!("/api/v1/tasks/{id}/log{query}");
    let text = request_text("GET", &path, Some(&Site::token("admin")), None);
    exchange(at, text.replacen("\r\n\r\n", &format!("\r\n{header}\r\n"), 1).as_bytes())
}

/// What was answered, without what differs between two tasks: their ids and times.
fn essence(reply: &Reply) -> (u16, String) {
    let text = reply.text();
    let Some((chunks, end)) = text.split_once("event: end\n") else { return (reply.status, text) };
    let json = end.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let task: Value = serde_json::from_str(json).unwrap();
    // Chunks of events are as large as what is there at a time.
    let texts = chunks.lines().filter_map(|line| line.strip_prefix("data: "));
    let texts =
        texts.map(|data| serde_json::from_str::<Value>(data).unwrap()["text"].as_str().unwrap().to_owned());
    let last_id = text.lines().rev().find(|line| line.starts_with("id: ")).unwrap_or_default().to_owned();
    (reply.status, format!("{} {} {last_id}", texts.collect::<String>(), task["status"]))
}

/// The two tasks that do the same, here and on the node.
fn two_tasks(server: &Service, node: &Service, gate: &str) -> [String; 2] {
    for site in [&server.site, &node.site] {
        site.write_script("steps.sh", STEPS);
    }
    let spec = json!({ "name": "steps.sh", "args": [gate] });
    eventually("the script on the node", || {
        connected(server)["scripts"].as_object().unwrap().contains_key("steps.sh").then_some(())
    });
    [server.submit("steps.sh", &[gate]), submit(server, &spec)]
}

#[test]
fn every_way_to_read_a_log_gives_the_same_for_a_task_on_a_node_while_it_runs_and_afterwards() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let gate = server.site.path("gate").display().to_string();
    let [here, there] = two_tasks(&server, &node, &gate);
    let at = server.at;
    // Asked before the node has said anything of the task, and answered to its end.
    let live: Vec<_> = [QUESTIONS[1], QUESTIONS[5]]
        .into_iter()
        .flat_map(|question| [&here, &there].map(|id| (id.clone(), question)))
        .map(|(id, question)| thread::spawn(move || essence(&ask(at, &id, question))))
        .collect();
    fs::write(gate, "").unwrap();
    let live: Vec<_> = live.into_iter().map(|asked| asked.join().unwrap()).collect();
    assert!(
        live[0].1.starts_with("1\n2\n") && live[0].1.ends_with("40000\nlast ä line\n\n"),
        "{:?}",
        live[0]
    );
    assert!(live[0] == live[1], "{:?}", &live[1].1[..live[1].1.len().min(400)]);
    assert!(live[2] == live[3], "{:?}", &live[3].1[..live[3].1.len().min(400)]);

    server.ended(&here);
    server.ended(&there);
    for question in QUESTIONS {
        let [local, remote] = [&here, &there].map(|id| ask(at, id, *question));
        assert!([200, 206].contains(&local.status), "{question:?}: {}", local.status);
        assert!(essence(&local) == essence(&remote), "{question:?}: {:?}", essence(&remote).1.get(..400));
    }
    for id in [&here, &there] {
        let tag = ask(at, id, QUESTIONS[0]).header("etag").unwrap().to_owned();
        let known = ask(at, id, (QUESTIONS[0].0, &format!("If-None-Match: {tag}\r\n")));
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
}

#[test]
fn a_task_is_run_again_where_it_ran() {
    let server = Service::usual();
    let node = node_site(&server, "labels = { role = \"db\" }").start();
    connected(&server);
    for target in [json!({ "node": "node" }), json!({ "labels": { "role": "db" } })] {
        let spec = json!({ "name": "where.sh", "target": target });
        let id = server.post("/api/v1/tasks", &spec).id();
        server.ended(&id);
        let again = server.post(&format!("/api/v1/tasks/{id}/rerun"), &json!({}));
        assert_eq!(again.status, 202, "{}", again.text());
        let task = server.ended(&again.id());
        assert_eq!((&task["node"], &task["spec"]["target"]), (&json!("node"), &target));
    }
    assert_eq!(node.count(), 4);
}

#[test]
fn the_reproduction_script_of_a_task_is_that_of_its_node_and_runs_nowhere_else_by_mistake() {
    let server = Service::usual();
    let node = node_site(&server, "").start();
    connected(&server);
    let spec = json!({ "name": "secret.sh", "params": { "key": "c4n4ry-of-16-byte" } });
    let id = submit(&server, &spec);
    server.ended(&id);
    let script = server.get(&format!("/api/v1/tasks/{id}/debug.sh"));
    assert_eq!(script.status, 200);
    let there = node.get(&format!("/api/v1/tasks/{id}/debug.sh")).text();
    assert!(script.text().ends_with(there.strip_prefix("#!/bin/sh\n").unwrap()), "{}", script.text());
    assert!(!script.text().contains("c4n4ry"));

    let id = submit(&server, &json!({ "name": "where.sh" }));
    server.ended(&id);
    let script = server.get(&format!("/api/v1/tasks/{id}/debug.sh")).text();
    let run = |node: &str| Command::new("sh").args(["-c", &script]).env("TASK_NODE", node).output().unwrap();
    let refused = run("other");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(126), 0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("on the host of the node node"));
    assert_eq!(String::from_utf8_lossy(&run("node").stdout), format!("on node as {id} for admin\n"));
}
