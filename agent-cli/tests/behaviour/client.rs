//! The client of the HTTP service, without one: what it makes of answers, and what it says when it gets none.

mod tokens;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::support::{Ended, Site, write};
use crate::terminal::{TERM, on_terminal};

fn site() -> Site {
    let site = Site::new();
    write(&site.path("token"), "dag_canary\n", 0o600);
    site
}

/// `task list` of a server, with the site's token.
fn list(site: &Site, server: &str) -> Ended {
    site.ended(["task", "list", "--server", server, "--token-file", "token"])
}

/// Gives the same answer to everybody, and tells what they sent.
fn server(answer: String) -> (SocketAddr, Receiver<String>) {
    server_that(move |_| answer.clone())
}

/// Gives each the answer that is made for the head of the request, in small letters, and tells what they sent.
fn server_that(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heads) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let head = head.join("\n").to_lowercase();
            // Nobody may want to know, and the client may hang up first.
            let _ = stream.write_all(answer(&head).as_bytes());
            let _ = tell.send(head);
        }
    });
    (address, heads)
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_service_that_is_not_there_is_said_to_be_not_there() {
    let site = site();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let server = ["--server", &url, "--token-file", "token"];
    for (command, code) in [
        (&["task", "list"][..], 1),
        (&["task", "show", "x"], 1),
        (&["task", "logs", "x"], 1),
        (&["task", "cancel", "x"], 1),
        (&["task", "debug-script", "x"], 1),
        (&["task", "submit", "x"], 1),
        // These two end with a script's code where all is well: a code of their own would be taken for one.
        (&["task", "logs", "-f", "x"], 125),
        (&["task", "submit", "-f", "x"], 125),
    ] {
        let (words, rest) = command.split_at(2);
        let ended = site.ended([words, &server[..], rest].concat());
        assert_eq!((ended.code, ended.stdout.len()), (Some(code), 0), "{command:?}: {ended:?}");
        assert!(ended.stderr.contains(&format!("cannot reach the service at {url}: ")), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: is it running? agent-http starts it"), "{}", ended.stderr);
    }
    // No part of a name is as long as that, which the resolver knows by itself.
    let ended = list(&site, &format!("https://{}.invalid", "a".repeat(70)));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("hint: no address is known for that name"), "{}", ended.stderr);
}

#[test]
fn an_id_or_name_of_nothing_is_a_mistake_on_the_command_line() {
    let site = site();
    for words in [["task", "show"], ["task", "cancel"], ["node", "remove"]] {
        let ended = site.ended([&words[..], &[""]].concat());
        assert!(ended.code == Some(2) && ended.stderr.contains("a value is required"), "{}", ended.stderr);
    }
}

#[test]
fn an_answer_that_is_none_of_the_services_is_no_success() {
    let site = site();
    for (status, body) in [
        ("200 OK", "<html>welcome</html>"),
        ("200 OK", "{\"tasks\": [{\"id\": 1}]}"),
        ("200 OK", ""),
        ("500 Oh No", "<html>oh no</html>"),
        ("404 Not Found", ""),
    ] {
        let (address, _heads) = server(answer(status, "text/html", body));
        let ended = list(&site, &format!("http://{address}"));
        assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{body}: {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_service_without_what_would_steer_a_terminal() {
    let site = site();
    let errors = "[{\"field\": \"limit\", \"rule\": \"range\", \"expected\": \"a whole\\u0007 number\"}]";
    for (errors, said) in [
        ("[]", "error: it is \\u{1b}[2J wrong\n"),
        (
            errors,
            "error: the service refused this; mend the following\n  limit: a whole\\u{7} number (range)\n",
        ),
    ] {
        let body = format!("{{\"detail\": \"it is \\u001b[2J wrong\", \"errors\": {errors}}}");
        let (address, _heads) = server(answer("422 Unprocessable", "application/problem+json", &body));
        assert_eq!(list(&site, &format!("http://{address}")).stderr, said);
    }
}

#[test]
fn ids_cannot_lead_to_another_path() {
    let site = site();
    let (address, heads) =
        server(answer("404 Not Found", "application/problem+json", "{\"detail\": \"no\"}"));
    let url = format!("http://{address}");
    for (id, path) in [("../nodes", "..%2fnodes"), ("a?x=1#y", "a%3fx%3d1%23y"), ("a b", "a%20b")] {
        let ended = site.ended(["task", "show", "--server", &url, "--token-file", "token", "--", id]);
        assert_eq!(ended.code, Some(1));
        let head = heads.recv().unwrap();
        assert!(head.starts_with(&format!("get /api/v1/tasks/{path} ")), "{head}");
    }
}

/// A task as a service tells it, with a name of its own.
fn task(id: &str, name: &str) -> Value {
    json!({
        "id": id, "name": name, "spec": {"name": "x.sh"}, "status": "queued", "node": null, "attempt": 1,
        "created_by": name, "created_at": "2027-01-01T00:00:00Z", "started_at": null, "ended_at": null,
        "log_bytes": 0, "unreachable_since": null, "result": null
    })
}

#[test]
fn a_list_is_fetched_page_after_page_until_there_are_as_many_as_were_asked_for() {
    let site = site();
    let (address, heads) = server_that(|head| {
        let size = if head.contains("limit=1000") { 1000 } else { 500 };
        let tasks: Vec<Value> = (0..size).map(|n| task(&format!("t{n}"), "x.sh")).collect();
        let next = if head.contains("cursor=b%26c") { Value::Null } else { "b&c".into() };
        answer("200 OK", "application/json", &json!({ "tasks": tasks, "next": next }).to_string())
    });
    let url = format!("http://{address}");
    let listed = |limit: &str| {
        site.ended([
            "task",
            "list",
            "--server",
            &url,
            "--token-file",
            "token",
            "--name",
            "x.sh",
            "--limit",
            limit,
        ])
    };
    let lines = |ended: &Ended| ended.text().lines().count();
    let asked = || heads.recv().unwrap().split(' ').nth(1).unwrap().to_owned();

    let ended = listed("1500");
    assert_eq!((ended.code, lines(&ended)), (Some(0), 1500), "{}", ended.stderr);
    assert_eq!(asked(), "/api/v1/tasks?limit=1000&name=x.sh");
    assert_eq!(asked(), "/api/v1/tasks?limit=500&cursor=b%26c&name=x.sh");
    assert!(!ended.stderr.contains("there are more"), "{}", ended.stderr);

    let ended = listed("1000");
    assert_eq!((lines(&ended), asked().as_str()), (1000, "/api/v1/tasks?limit=1000&name=x.sh"));
    assert!(ended.stderr.contains("there are more; ask for more with --limit"), "{}", ended.stderr);

    // The service has no more than these.
    assert_eq!(lines(&listed("9999")), 2000);
}

#[test]
fn nothing_that_a_service_says_steers_the_terminal() {
    let site = site();
    // A cleared screen, one of eight bits, a turned direction, and concealed text.
    let hostile = "a\u{1b}[2J\u{9b}2J\u{202e}\u{1b}[8mz";
    let (address, _heads) = server_that(move |head| {
        let (kind, body) = match head.split(' ').nth(1).unwrap() {
            path if path.ends_with("/debug.sh") => ("text/plain", hostile.to_owned()),
            path if path.ends_with("/cancel") => {
                ("application/json", json!({ "status": hostile }).to_string())
            }
            path if path.contains('?') => {
                ("application/json", json!({ "tasks": [task("x", hostile)], "next": null }).to_string())
            }
            path if path.ends_with("/tasks") => ("application/json", json!({ "id": hostile }).to_string()),
            _ => ("application/json", task("x", hostile).to_string()),
        };
        answer("200 OK", kind, &body)
    });
    let url = format!("http://{address}");
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["show", "x"],
        &["show", "--json", "x"],
        &["cancel", "x"],
        &["debug-script", "x"],
        &["submit", "x"],
        &["submit", "--json", "x"],
    ] {
        let (command, rest) = words.split_at(1);
        let args = [&["task"], command, &["--server", &url, "--token-file", "token"], rest].concat();
        let shown = on_terminal(&site, &args, &[TERM]);
        assert!(shown.contains("[2J") && shown.ends_with('\n'), "{words:?}: {shown:?}");
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steers), "{words:?}: {shown:?}");
    }
    // Programs get what the service said: JSON of the same meaning, and a script byte for byte.
    let server = ["--server", &url, "--token-file", "token", "x"];
    let json = site.ended([&["task", "show", "--json"], &server[..]].concat()).json();
    assert_eq!(json["name"], hostile);
    assert_eq!(site.ended([&["task", "debug-script"], &server[..]].concat()).text(), hostile);
}

#[test]
fn a_service_that_takes_a_request_and_never_answers_is_given_up() {
    let site = site();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = list(&site, &format!("http://{}", listener.local_addr().unwrap()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot reach the service at ") && ended.stderr.contains("timeout"));
}

#[test]
fn a_socket_at_which_nobody_accepts_is_given_up() {
    let site = site();
    let path = site.path("full.sock");
    let address = socket2::SockAddr::unix(&path).unwrap();
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let another = socket();
        another.set_nonblocking(true).unwrap();
        match another.connect(&address) {
            Ok(()) => waiting.push(another),
            Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    let ended = list(&site, &format!("unix:{}", path.display()));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("full.sock"), "{}", ended.stderr);
}
