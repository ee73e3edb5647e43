//! What HTTP shows of the catalogue: lists by pages, changes soon, an operation for each script, and bad input in the words
//! of the library.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::probe;
use crate::support::{Reply, Service, Site, eventually, exchange, request_text};

/// When a change must be seen.
const LIMIT: Duration = Duration::from_secs(1);

fn names(page: &Value) -> Vec<&str> {
    page["scripts"].as_array().unwrap().iter().map(|script| script["name"].as_str().unwrap()).collect()
}

fn public(service: &Service, path: &str) -> Reply {
    exchange(service.at, request_text("GET", path, None, None).as_bytes())
}

fn document(service: &Service, token: &str) -> Value {
    service.call(token, "GET", "/openapi.json", None).json()
}

/// The operation of a script in a document.
fn operation<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    document["paths"][format!("/api/v1/scripts/{}/run", name.replace('/', "%2F"))].get("post")
}

/// The usual site, with scripts that say something of themselves.
fn described() -> Site {
    let site = Site::new("");
    site.write_script(
        "deploy/db.sh",
        "#!/bin/sh\n#TASK description=\"Deploy the database\" help=\"Slowly.\" group=\"release\" tag=\"db\" tag=\"x\"\n\
         #TASK effect=\"write\" output.VERSION=\"What is there now\"\n#USAGE arg \"<tag>\" help=\"Which one\"\n\
         #USAGE flag \"--wipe\" effect=\"destructive\"\n",
    );
    site.write_script("purge.sh", "#!/bin/sh\n#TASK effect=\"destructive\" group=\"care\" tag=\"x\"\n");
    site.write_script("hidden.sh", "#!/bin/sh\n#TASK hidden=#true effect=\"read\"\n");
    site.write_script("broken.sh", "#!/bin/sh\n#TASK effect=\"nonsense\"\n");
    site
}

#[test]
fn scripts_are_listed_by_pages_and_filters_as_far_as_the_token_sees_them() {
    let service = described().start();
    let list = |token: &str, query: &str| {
        let reply = service.call(token, "GET", &format!("/api/v1/scripts{query}"), None);
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()
    };
    let all = list("admin", "");
    let every = [
        "broken.sh",
        "deploy/db.sh",
        "deploy/web.sh",
        "fail.sh",
        "gate.sh",
        "hello.sh",
        "purge.sh",
        "task_debug.sh",
    ];
    assert_eq!((names(&all), &all["next"]), (every.to_vec(), &Value::Null));
    let (mut found, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let page = list("admin", &query);
        found.extend(names(&page).into_iter().map(str::to_owned));
        assert!(names(&page).len() <= 3);
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=3&cursor={next}");
    }
    assert_eq!(found, every);
    // A page that ends with the last script is the last one; a cursor need not be a script any more.
    assert_eq!(list("admin", "?limit=8")["next"], Value::Null);
    assert_eq!(names(&list("admin", "?cursor=gone.sh&limit=1")), ["hello.sh"]);
    for (query, expected) in [
        ("?group=release", vec!["deploy/db.sh"]),
        ("?tag=x", vec!["deploy/db.sh", "purge.sh"]),
        ("?tag=x&tag=db", vec!["deploy/db.sh"]),
        ("?tag=x&group=care", vec!["purge.sh"]),
        ("?group=none", vec![]),
    ] {
        assert_eq!(names(&list("admin", query)), expected, "{query}");
    }
    let page = list("deployer", "?limit=1");
    assert_eq!((names(&page), &page["next"]), (vec!["deploy/db.sh"], &json!("deploy/db.sh")));
    let page = list("deployer", "?limit=1&cursor=deploy/db.sh");
    assert_eq!((names(&page), &page["next"]), (vec!["deploy/web.sh"], &Value::Null));
    let wrong = service.get("/api/v1/scripts?limit=1001&cursor=../x&colour=red&group=a&group=b");
    assert_eq!(wrong.status, 422);
    insta::assert_json_snapshot!(wrong.json());
}

#[test]
fn five_scripts_that_are_dropped_in_are_in_lists_and_description_within_a_second() {
    let service = Service::usual();
    let before = document(&service, "admin");
    for number in 0..5 {
        let text = format!("#!/bin/sh\n#TASK description=\"Number {number}\" effect=\"read\"\n");
        service.site.write_script(&format!("new/s{number}.sh"), &text);
    }
    let begun = Instant::now();
    assert_eq!(service.get("/api/v1/scripts/new/s4.sh").status, 200, "a name is looked up at once");
    let new: Vec<String> = (0..5).map(|number| format!("new/s{number}.sh")).collect();
    eventually("the list", || {
        let list = service.get("/api/v1/scripts").json();
        new.iter().all(|name| names(&list).contains(&name.as_str())).then_some(())
    });
    let after = document(&service, "admin");
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    for name in &new {
        assert!(operation(&before, name).is_none() && operation(&after, name).is_some(), "{name}");
    }
    // A script that goes is gone from both as soon.
    fs::remove_file(service.site.path("scripts/new/s0.sh")).unwrap();
    let begun = Instant::now();
    assert_eq!(service.get("/api/v1/scripts/new/s0.sh").status, 404);
    eventually("its end", || operation(&document(&service, "admin"), "new/s0.sh").is_none().then_some(()));
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn a_change_that_the_kernel_had_no_room_to_tell_of_is_seen_within_a_second() {
    let service = described().start();
    let room: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    service.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", service.pid());
    eventually("the service to stop", || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    // In turns: the same twice in a row is told once.
    for turn in 0..room {
        let name = ["scripts/purge.sh", "scripts/hidden.sh"][turn % 2];
        let mode = if turn % 4 < 2 { 0o755 } else { 0o750 };
        fs::set_permissions(service.site.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    service.site.write_script("late/late.sh", "#!/bin/sh\n");
    let begun = Instant::now();
    service.signal(Signal::SIGCONT);
    eventually("the late script", || {
        names(&service.get("/api/v1/scripts").json()).contains(&"late/late.sh").then_some(())
    });
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn each_script_that_the_token_sees_is_an_operation_of_the_description() {
    let service = described().start();
    let general = public(&service, "/openapi.json").json();
    let all = document(&service, "admin");
    for name in ["deploy/db.sh", "deploy/web.sh", "purge.sh", "hello.sh"] {
        assert!(operation(&all, name).is_some(), "{name}");
        assert!(operation(&general, name).is_none(), "{name}");
    }
    // Hidden, broken, and hidden behind the runner of that name.
    service.site.write_script("script", "#!/bin/sh\n");
    for name in ["hidden.sh", "broken.sh", "script", "none.sh"] {
        assert!(operation(&document(&service, "admin"), name).is_none(), "{name}");
    }
    let operations = ["deploy/db.sh", "purge.sh", "hello.sh"].map(|name| operation(&all, name).unwrap());
    insta::assert_json_snapshot!(operations);
    let of_deployer = document(&service, "deployer");
    assert!(operation(&of_deployer, "deploy/db.sh").is_some());
    assert!(operation(&of_deployer, "purge.sh").is_none());
    assert!(!of_deployer.to_string().contains("purge"));
    // Whoever may not list scripts learns of none here; a token that is none is refused.
    for token in ["runner", "canceller", "node"] {
        assert_eq!(document(&service, token), general, "{token}");
    }
    for token in ["expired", "unknown"] {
        assert_eq!(service.call(token, "GET", "/openapi.json", None).status, 401, "{token}");
    }
}

#[test]
fn the_description_with_scripts_is_as_well_formed_as_without() {
    let service = described().start();
    service.site.write_script("probe.sh", &format!("#!/bin/sh\n{}\n", probe::HEADER));
    let all = eventually("the last one", || {
        Some(document(&service, "admin")).filter(|all| operation(all, "probe.sh").is_some())
    });
    let paths = all["paths"].as_object().unwrap();
    let mut ids = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            ids.push(operation["operationId"].as_str().unwrap());
            let declared = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = declared.iter().filter(|one| one["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{method} {path}");
            assert!(
                operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()),
                "{path}"
            );
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let text = all.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(all.pointer(reference).is_some(), "{reference}");
    }
    // Another dialect would be a document of its own.
    assert_eq!(text.matches("$schema").count(), 0);
    // What it says of a script is what the script's own route says.
    let body = &operation(&all, "probe.sh").unwrap()["requestBody"]["content"]["application/json"]["schema"];
    let mut parameters = service.get("/api/v1/scripts/probe.sh").json()["parameters"].clone();
    parameters.as_object_mut().unwrap().shift_remove("$schema");
    assert_eq!(body["allOf"][1]["properties"]["params"], parameters);
}

#[test]
fn a_request_by_the_description_runs_the_script() {
    let service = described().start();
    let run = |name: &str, body: &Value| {
        service.call("all", "POST", &format!("/api/v1/scripts/{}/run", name.replace('/', "%2F")), Some(body))
    };
    assert_eq!(run("deploy/db.sh", &json!({ "params": { "tag": "v1" } })).status, 202);
    assert_eq!(run("deploy/db.sh", &json!({ "params": {} })).status, 422);
    assert_eq!(run("purge.sh", &json!({})).status, 422);
    assert_eq!(run("purge.sh", &json!({ "confirm": "purge.sh" })).status, 202);
    assert_eq!(run("hello.sh", &json!({ "args": ["x"] })).status, 202);
}

#[test]
fn a_description_that_is_known_is_not_sent_again_until_something_changes() {
    let service = Service::usual();
    let ask = |etag: &str| {
        let (token, tag) = (Site::token("admin"), format!("If-None-Match: \"x\", W/{etag}\r\n"));
        let text = request_text("GET", "/openapi.json", Some(&token), None);
        exchange(service.at, text.replacen("\r\n", &format!("\r\n{tag}"), 1).as_bytes())
    };
    let first = service.get("/openapi.json");
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("vary"), Some("authorization"));
    assert!(first.header("cache-control").unwrap().starts_with("private"));
    let again = ask(&etag);
    assert_eq!((again.status, again.header("etag"), again.body.len()), (304, Some(etag.as_str()), 0));
    assert_ne!(public(&service, "/openapi.json").header("etag"), Some(etag.as_str()));
    service.site.write_script("new.sh", "#!/bin/sh\n");
    let changed = eventually("another description", || Some(ask(&etag)).filter(|reply| reply.status == 200));
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    assert!(operation(&changed.json(), "new.sh").is_some());
}

#[test]
fn of_very_many_scripts_the_first_are_described_and_the_document_says_so() {
    let site = Site::new("");
    for number in 0..1_100 {
        site.write_script(&format!("many/s{number:04}.sh"), "#!/bin/sh\n#TASK effect=\"read\"\n");
    }
    let service = site.start();
    let all = document(&service, "admin");
    let count = all["paths"].as_object().unwrap().keys().filter(|path| path.ends_with("/run")).count();
    // And that for scripts in general.
    assert_eq!(count, 1_001);
    let about = all["info"]["description"].as_str().unwrap();
    assert!(about.contains("the first 1000 by name"), "{about}");
    assert_eq!(service.get("/api/v1/scripts?limit=1000&cursor=many/s0999.sh").json()["next"], Value::Null);
    // The twin: whoever sees few is told of all.
    let about = document(&service, "deployer")["info"]["description"].clone();
    assert!(!about.as_str().unwrap().contains("by name"), "{about}");
}

#[test]
fn sixty_bad_inputs_are_told_in_the_words_of_the_library_and_start_nothing() {
    let site = Site::new("");
    site.write_script("probe.sh", &format!("#!/bin/sh\n{}\necho ran\n", probe::HEADER));
    let service = site.start();
    let description = probe::description();
    let (mut told, mut shown) = (0, String::new());
    for (params, args) in probe::bad_inputs() {
        // What is no text cannot be said in JSON.
        let Some(words) = args.iter().map(|arg| arg.to_str()).collect::<Option<Vec<_>>>() else { continue };
        let expected = json!(probe::bind(&description, &params, &args).unwrap_err());
        let spec = json!({ "params": params, "args": words });
        let by_path = service.post("/api/v1/scripts/probe.sh/run", &spec);
        let spec = json!({ "name": "probe.sh", "params": params, "args": words });
        for reply in [by_path, service.post("/api/v1/tasks", &spec)] {
            assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"), "{params:?} {words:?}");
            assert_eq!(reply.json()["errors"], expected, "{params:?} {words:?}");
            shown = reply.text();
        }
        told += 1;
    }
    assert!(told >= 60, "{told}");
    assert_eq!(service.count(), 0);
    insta::assert_snapshot!(shown);
    // The twin: what is right is accepted.
    let right = json!({ "params": { "service": "web", "tag": "a-1" } });
    assert_eq!(service.post("/api/v1/scripts/probe.sh/run", &right).status, 202);
}

#[test]
fn a_hangup_has_everything_read_again_says_what_changed_and_ends_nothing() {
    let service = Service::usual();
    let gate = service.submit("gate.sh", &[service.site.path("open").to_str().unwrap()]);
    service.site.write_script("new.sh", "#!/bin/sh\n");
    for _ in 0..3 {
        service.signal(Signal::SIGHUP);
    }
    eventually("the log to say so", || service.said().contains("the scripts were read again").then_some(()));
    assert_eq!(service.get("/api/v1/scripts/new.sh").status, 200);
    fs::write(service.site.path("open"), "").unwrap();
    assert_eq!(service.ended(&gate)["status"], "succeeded");
}

#[test]
fn where_the_kernel_lets_nobody_watch_it_is_said_and_lists_look_when_they_are_asked() {
    let site = described();
    let mut command = Command::new("unshare");
    let start = "echo 0 >/proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let service_command = site.command();
    command.args(["--user", "--map-current-user", "--keep-caps", "sh", "-ec", start]);
    command.arg(service_command.get_program()).args(service_command.get_args());
    command.current_dir(site.folder()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let service = site.start_by(command);
    let status =
        |service: &Service| service.get("/api/v1/scripts").json()["verification"]["unwatched"].clone();
    let why = eventually("the reason", || Some(status(&service)).filter(|why| !why.is_null()));
    assert!(why.as_str().unwrap().contains("fs.inotify.max_user_watches"), "{why}");
    assert!(service.said().contains("fs.inotify.max_user_watches"), "{}", service.said());
    assert_eq!(public(&service, "/readyz").json()["watched"], false);
    assert!(service.get("/metrics").text().contains("\ndevops_agent_scripts_watched 0"));
    // At once, since the list itself looks.
    for number in 0..20 {
        let name = format!("new{number:02}.sh");
        service.site.write_script(&name, "#!/bin/sh\n");
        let list = service.get("/api/v1/scripts").json();
        assert!(names(&list).contains(&name.as_str()), "{name}");
    }
    // The twin, which is let.
    let service = Service::usual();
    assert_eq!(
        (status(&service), &public(&service, "/readyz").json()["watched"]),
        (Value::Null, &json!(true))
    );
    assert!(service.get("/metrics").text().contains("\ndevops_agent_scripts_watched 1"));
}

#[test]
fn answers_in_json_end_their_line() {
    let service = Service::usual();
    for path in [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/api/v1/scripts",
        "/api/v1/tasks",
        "/api/v1/runners",
        "/none",
    ] {
        let text = service.get(path).text();
        assert!(text.ends_with("}\n") && !text.ends_with("\n\n"), "{path}");
    }
}

#[test]
fn a_manifest_is_in_use_within_a_second_and_steps_towards_it_are_not_complained_of() {
    let site = Site::new("[script_executor]\nis_verify_script_integrity = true\n");
    let vouch = |folder: &std::path::Path| {
        let options = executor_integrity::CreateOptions::default();
        executor_integrity::create_manifest(folder, &options).unwrap();
    };
    vouch(&site.path("scripts"));
    let service = site.start();
    for round in 0..5 {
        service.site.write_script("hello.sh", &format!("#!/bin/sh\necho {round}\n"));
        // Somebody who is slower than the agent: it sees what does not fit.
        eventually("the problem", || {
            (public(&service, "/readyz").json()["problems"] != json!(0)).then_some(())
        });
        vouch(&service.site.path("scripts"));
        let begun = Instant::now();
        eventually("the manifest", || {
            (public(&service, "/readyz").json()["problems"] == json!(0)).then_some(())
        });
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    }
    assert!(!service.said().contains("does not verify"), "{}", service.said());
    // The twin: what stays wrong is complained of, once.
    service.site.write_script("hello.sh", "#!/bin/sh\necho injected\n");
    eventually("the complaint", || service.said().contains("does not verify").then_some(()));
}
