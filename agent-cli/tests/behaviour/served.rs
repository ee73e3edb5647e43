//! `list --server` and `show --server`: the scripts of a service, and how each ended last there. And lists in front of
//! people, which have headings.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::service::Service;
use crate::support::{Site, make_folder};
use crate::terminal::{TERM, on_terminal};

fn served() -> (Site, Service, String) {
    let (site, service) = Service::on_a_free_port();
    site.script("ok.sh", "#!/bin/sh\n#TASK description=\"Does\" effect=\"read\" group=\"care\"\n#USAGE arg \"[x]\" help=\"Which\"\n");
    site.script("deploy/fails.sh", "#!/bin/sh\nexit 3\n");
    site.script("never.sh", "#!/bin/sh\n");
    site.script("broken.sh", "#!/bin/sh\n#TASK nothing=1\n");
    let url = format!("http://127.0.0.1:{}", service.port);
    (site, service, url)
}

fn run_there(site: &Site, args: &[&str]) -> String {
    let ended = site.ended([&["task", "submit", "--follow"], args].concat());
    ended.stderr.lines().next().unwrap().strip_prefix("task ").unwrap().to_owned()
}

#[test]
fn a_list_of_a_service_tells_how_each_script_ended_last() {
    let (site, _service, url) = served();
    run_there(&site, &["deploy/fails.sh"]);
    run_there(&site, &["ok.sh"]);
    run_there(&site, &["--id", "by-runner", "--param", "script=ok.sh", "script"]);
    let ended = site.ended(["list", "--server", &url]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows: Vec<Vec<String>> = ended
        .text()
        .lines()
        .map(|line| {
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        })
        .collect();
    let facts: Vec<(&str, &str, &str)> =
        rows.iter().map(|row| (row[0].as_str(), row[5].as_str(), row[7].as_str())).collect();
    let expected = [
        ("broken.sh", "-", "-"),
        ("deploy/fails.sh", "failed", "admin"),
        ("never.sh", "-", "-"),
        ("ok.sh", "succeeded", "admin"),
    ];
    assert_eq!(facts, expected, "{}", ended.text());
    let json = site.ended(["list", "--json", "--server", &url]).json();
    assert_eq!(json["scripts"][3]["last"]["id"], "by-runner");
    assert!(json["scripts"][2]["last"].is_null() && json["scripts"][2]["name"] == "never.sh");
}

#[test]
fn a_script_of_a_service_is_shown_with_its_last_task() {
    let (site, _service, url) = served();
    let show = |script: &str| site.ended(["show", "--server", &url, script]);
    assert!(show("ok.sh").text().lines().any(|line| line == "last         -"), "{}", show("ok.sh").text());
    let id = run_there(&site, &["ok.sh"]);
    let shown = show("ok.sh").text();
    assert!(
        shown.contains("description  Does\n") && shown.contains(&format!("admin, task {id}\n")),
        "{shown}"
    );
    assert!(shown.contains("\nparameters:\n  x  string") && shown.contains("Which"), "{shown}");
    assert!(show("broken.sh").text().contains("broken    line 2: `nothing`"), "{}", show("broken.sh").text());
    let json = site.ended(["show", "--json", "--server", &url, "ok.sh"]).json();
    assert_eq!((&json["last"]["status"], &json["name"]), (&"succeeded".into(), &"ok.sh".into()));
    assert_eq!(show("no.sh").code, Some(1));
    let elsewhere = site.ended(["list", "--server", "http://127.0.0.1:9", "--token-file", "state/token"]);
    assert!(elsewhere.stderr.contains("cannot reach the service"), "{}", elsewhere.stderr);
}

#[test]
fn ids_of_tasks_are_offered_where_one_is_wanted() {
    let (site, _service, _) = served();
    run_there(&site, &["--id", "mine", "ok.sh"]);
    let offered = |words: &[&str]| {
        let mut command = site.without_configuration(["__complete", "fish", "--", "agent-cli", "--config"]);
        command.arg(site.path("application.toml")).args(words);
        crate::support::Ended::of(&mut command).text()
    };
    for command in ["show", "logs", "cancel"] {
        assert_eq!(offered(&["task", command, ""]), "words\nmine\tsucceeded ok.sh\n", "{command}");
    }
}

#[test]
fn people_see_scripts_under_the_headings_of_their_groups_and_programs_see_columns() {
    let site = Site::new();
    site.script("a.sh", "#!/bin/sh\n#TASK group=\"net\" effect=\"destructive\" description=\"Cuts\"\n");
    site.script("b.sh", "#!/bin/sh\n");
    site.script("c.sh", "#!/bin/sh\n#TASK group=\"host\" effect=\"read\" description=\"Looks\"\n");
    let shown = on_terminal(&site, &["list"], &[TERM, ("NO_COLOR", "1")]);
    let expected = "host\n  c.sh  not verified  read         Looks\n\nnet\n  a.sh  not verified  destructive  Cuts\n\n\
        without a group\n  b.sh  not verified  undescribed\n";
    assert_eq!(shown, expected);
    let coloured = on_terminal(&site, &["list"], &[TERM]);
    assert!(coloured.contains("\x1b[1mhost\x1b[0m") && coloured.contains("\x1b[31;1mdestructive\x1b[0m"));
    let piped = site.ended(["list"]).text();
    let names: Vec<&str> = piped.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["a.sh", "b.sh", "c.sh"]);
    assert!(piped.contains("  destructive  net ") || piped.contains("  destructive  net"), "{piped}");
    let empty = Site::new();
    make_folder(&empty.path("scripts"));
    assert_eq!(on_terminal(&empty, &["list"], &[TERM]).lines().count(), 1);
}

/// A service that gives scripts, and nodes, in two pages and has no end of tasks; it counts how often it was asked for those.
pub(crate) fn endless() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let what = if first.contains("/nodes") { "nodes" } else { "scripts" };
            let page =
                |name: &str, next: &str| format!("{{\"{what}\":[{{\"name\":\"{name}\"}}],\"next\":{next}}}");
            let body = if first.contains("/tasks") {
                counted.fetch_add(1, Ordering::Relaxed);
                "{\"tasks\":[],\"next\":\"more\"}".to_owned()
            } else if first.contains("cursor=one%2Ftwo") {
                page("b.sh", "null")
            } else {
                page("a.sh", "\"one/two\"")
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let length = body.len();
            (&stream).write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn all_pages_of_scripts_are_followed_and_of_tasks_only_so_many() {
    let site = Site::new();
    fs::write(site.path("token"), "dag_token").unwrap();
    let (url, asked) = endless();
    let ended = site.ended(["list", "--server", &url, "--token-file", "token"]);
    let text = ended.text();
    let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((ended.code, names), (Some(0), vec!["a.sh", "b.sh"]), "{}", ended.stderr);
    assert_eq!(asked.load(Ordering::Relaxed), 10);
}
