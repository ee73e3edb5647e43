//! An answer that is under way ends when its token is taken away, expires or loses the right to it; those of others go on.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    IN_FORCE, LONG, Service, Site, connect, eventually, read_reply, request_text, with, without,
};

/// What goes on for long: a log that is followed, as bytes and as events, and a task that is waited for.
const KINDS: [(&str, &str); 3] = [
    ("/log?follow=true&banner=false", ""),
    ("/log?banner=false", "Accept: text/event-stream\r\n"),
    ("", "Prefer: wait=60\r\n"),
];

/// A service with a task that waits for its gate.
struct Stage {
    service: Service,
    gate: String,
    path: String,
}

/// An answer under way, read by a thread of its own.
struct Reading {
    ended: Receiver<(Instant, String)>,
}

impl Stage {
    fn new(site: Site) -> Self {
        let service = site.start();
        let gate = service.site.path("gate").display().to_string();
        let path = format!("/api/v1/tasks/{}", service.submit("gate.sh", &[&gate]));
        eventually("its first line", || {
            (service.get(&format!("{path}/log?banner=false")).text() == "waiting\n").then_some(())
        });
        Self { service, gate, path }
    }

    /// Begins all kinds of long answers for a token; those that are streams have their first line by then.
    fn begin(&self, token: &str) -> [Reading; 3] {
        KINDS.map(|(below, headers)| {
            let mut stream = self.ask(token, "GET", below, headers);
            if below.starts_with("/log") {
                let mut head = String::new();
                while !head.contains("waiting") {
                    assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{token}: {below}: {head}");
                }
            }
            Reading::of(stream)
        })
    }

    fn ask(&self, token: &str, method: &str, below: &str, headers: &str) -> BufReader<TcpStream> {
        let (path, token) = (&self.path, Site::token(token));
        let mut stream = connect(self.service.at);
        let text = format!(
            "{method} {path}{below} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n{headers}\r\n"
        );
        stream.write_all(text.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The lines about answers that were cut: whose, and why.
    fn cuts(&self) -> Vec<(Value, Value)> {
        let lines = self.service.audit().into_iter().filter(|line| line["decision"] == "cut");
        lines.map(|line| (line["token"].clone(), line["code"].clone())).collect()
    }
}

impl Reading {
    fn of(mut stream: BufReader<TcpStream>) -> Self {
        let (tell, ended) = channel();
        thread::spawn(move || {
            let mut rest = Vec::new();
            // A connection that is reset has ended too.
            let _ = stream.read_to_end(&mut rest);
            let _ = tell.send((Instant::now(), String::from_utf8(rest).unwrap()));
        });
        Self { ended }
    }

    fn goes_on(&self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// When it ended, and what came last.
    fn end(self) -> (Instant, String) {
        self.ended.recv_timeout(LONG).expect("it should end")
    }
}

/// All ended within that time of `since`: streams without their end, waits with that refusal.
fn assert_cut(readings: [Reading; 3], since: Instant, code: &str) {
    let [bytes, events, waited] = readings.map(Reading::end);
    for (at, _) in [&bytes, &events, &waited] {
        let took = at.saturating_duration_since(since);
        assert!(took < IN_FORCE, "{took:?}");
    }
    for (_, rest) in [&bytes, &events] {
        assert!(!rest.contains("passed") && !rest.contains("event: end"), "{rest}");
        assert!(!rest.ends_with("0\r\n\r\n"), "it ended as if it were whole: {rest:?}");
    }
    assert!(waited.1.contains(&format!("\"code\":\"{code}\"")), "{}", waited.1);
}

/// All end as they should: with the rest of the log, and the task.
fn assert_whole(stage: &Stage, readings: [Reading; 3]) {
    assert!(readings.iter().all(Reading::goes_on));
    std::fs::write(&stage.gate, "").unwrap();
    let [bytes, events, waited] = readings.map(|reading| reading.end().1);
    assert!(bytes.contains("passed\n") && bytes.ends_with("0\r\n\r\n"), "{bytes:?}");
    assert!(events.contains("event: end") && events.ends_with("0\r\n\r\n"), "{events:?}");
    assert!(waited.contains(r#""status":"succeeded""#), "{waited}");
}

#[test]
fn what_a_token_reads_ends_when_it_is_taken_away_and_what_others_read_goes_on() {
    let stage = Stage::new(Site::new(""));
    let (of_reader, of_others) = (stage.begin("reader"), stage.begin("all"));
    // A change that takes nothing from anybody cuts nothing.
    stage.service.change_settings(|text| with(&text, "runner", "env = [\"A\"]"));
    eventually("the change", || stage.service.said().contains("settings read again").then_some(()));
    assert!(of_reader.iter().all(Reading::goes_on));
    let began = Instant::now();
    stage.service.change_settings(|text| without(&text, "reader"));
    assert_cut(of_reader, began, "token_invalid");
    let why = (json!("reader"), json!("token_invalid"));
    assert_eq!(stage.cuts(), [why.clone(), why]);
    assert_whole(&stage, of_others);
    assert_eq!(stage.cuts().len(), 2);
}

#[test]
fn what_a_token_reads_ends_when_it_loses_the_scope_or_the_script_and_not_the_rest() {
    let stage = Stage::new(Site::new(""));
    for (change, code) in [
        (["scopes = [\"read\"]", "scopes = [\"cancel\"]"], "scope_missing"),
        (["scripts = [\"**\"]", "scripts = [\"deploy/*\"]"], "not_found"),
    ] {
        let (of_reader, of_others) = (stage.begin("reader"), stage.begin("all"));
        let settings = std::fs::read_to_string(stage.service.site.path("application.toml")).unwrap();
        let began = Instant::now();
        stage.service.change_settings(|text| {
            let (before, section) = text.split_once("name = \"reader\"\n").unwrap();
            format!("{before}name = \"reader\"\n{}", section.replacen(change[0], change[1], 1))
        });
        assert_cut(of_reader, began, code);
        assert!(of_others.iter().all(Reading::goes_on));
        stage.service.change_settings(|_| settings);
        eventually("the old settings", || {
            (stage.service.call("reader", "GET", &stage.path, None).status == 200).then_some(())
        });
    }
    let codes: Vec<Value> = stage.cuts().into_iter().map(|(_, code)| code).collect();
    assert_eq!(codes, ["scope_missing", "scope_missing", "not_found", "not_found"]);
    assert_whole(&stage, stage.begin("reader"));
}

#[test]
fn what_a_token_reads_ends_when_the_token_expires() {
    let stage = Stage::new(Site::new(""));
    let expires = jiff::Timestamp::now() + Duration::from_secs(3);
    let end = Instant::now() + Duration::from_secs(3);
    stage.service.change_settings(|text| with(&text, "reader", &format!("expires = \"{expires}\"")));
    eventually("the change", || stage.service.said().contains("settings read again").then_some(()));
    let (of_reader, of_others) = (stage.begin("reader"), stage.begin("all"));
    assert!(of_reader.iter().all(Reading::goes_on), "it took longer to begin than the token lived");
    assert_cut(of_reader, end, "token_expired");
    assert!(Instant::now() >= end);
    assert_whole(&stage, of_others);
}

#[test]
fn who_submits_and_waits_is_told_at_once_that_it_was_accepted_and_nothing_of_what_becomes_of_it() {
    let stage = Stage::new(Site::new(""));
    let (path, body) = ("/api/v1/tasks", json!({ "name": "gate.sh", "id": "mine", "args": [stage.gate] }));
    let body = body.to_string();
    let stage = Stage { path: path.to_owned(), ..stage };
    let headers = format!(
        "Prefer: wait=60\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut waiting = stage.ask("runner", "POST", "", &headers);
    eventually("that it runs", || {
        (stage.service.get("/api/v1/tasks/mine").json()["status"] == "running").then_some(())
    });
    let began = Instant::now();
    stage.service.change_settings(|text| without(&text, "runner"));
    let reply = read_reply(&mut waiting, false).unwrap();
    assert!(began.elapsed() < IN_FORCE, "{:?}", began.elapsed());
    assert_eq!((reply.status, reply.id().as_str()), (202, "mine"));
    assert_eq!(reply.header("preference-applied"), None);
    // The task is as it would be had nobody waited.
    std::fs::write(&stage.gate, "").unwrap();
    assert_eq!(stage.service.ended("mine")["status"], "succeeded");
}

#[test]
fn who_waits_for_its_turn_to_submit_when_its_token_is_taken_away_has_submitted_nothing() {
    let site = Site::new("");
    let path = site.path("application.toml");
    let settings = with(&std::fs::read_to_string(&path).unwrap(), "runner", "concurrent = 10");
    std::fs::write(path, settings).unwrap();
    let service = site.start();
    // The history cannot be written for a while, so that the first one keeps the turn.
    let database = rusqlite::Connection::open(service.site.path("state/agent.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let submit = |id: &str| {
        let body = json!({ "name": "hello.sh", "id": id });
        let mut stream = connect(service.at);
        let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("runner")), Some(&body));
        stream.write_all(text.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    // Whichever comes first.
    let mut both = [submit("one"), submit("two")];
    eventually("that both were let in", || {
        let metrics = service.get("/metrics").text();
        metrics.contains("devops_agent_http_connections{state=\"serving\"} 3").then_some(())
    });
    service.change_settings(|text| without(&text, "runner"));
    let refused = eventually("the refusal", || {
        let lines = service.audit();
        lines.into_iter().find(|line| line["status"] == 401)
    });
    assert_eq!((&refused["token"], &refused["code"]), (&json!("runner"), &json!("token_invalid")));
    database.execute_batch("COMMIT").unwrap();
    // The other one was on its way.
    let replies = both.each_mut().map(|stream| read_reply(stream, false).unwrap());
    let mut statuses = replies.each_ref().map(|reply| reply.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 401]);
    assert_eq!(service.count(), 1);
}

#[test]
fn a_node_whose_token_is_taken_away_is_cut_off() {
    let server = Service::usual();
    let site = Site::new(&format!(
        "[node]\napi_server = \"ws://{}\"\nname = \"node\"\ntoken_file = \"node.token\"\n",
        server.at
    ));
    std::fs::write(site.path("node.token"), Site::token("node")).unwrap();
    std::fs::set_permissions(site.path("node.token"), Permissions::from_mode(0o600)).unwrap();
    let _node = site.start();
    let is_connected = || server.get("/api/v1/nodes/node").json()["connected"] == true;
    eventually("the node", || is_connected().then_some(()));
    let settings = std::fs::read_to_string(server.site.path("application.toml")).unwrap();
    let began = Instant::now();
    server.change_settings(|text| without(&text, "node"));
    let cut = eventually("the cut", || (!is_connected()).then(|| began.elapsed()));
    assert!(cut < IN_FORCE, "{cut:?}");
    let cuts = server.audit().into_iter().filter(|line| line["decision"] == "cut");
    let told: Vec<_> = cuts.map(|line| (line["token"].clone(), line["code"].clone())).collect();
    assert_eq!(told, [(json!("node"), json!("token_invalid"))]);
    // It goes on trying, and is let in again when it may.
    server.change_settings(|_| settings);
    eventually("the node again", || is_connected().then_some(()));
}
