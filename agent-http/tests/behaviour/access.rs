//! Who may do what: every route with every kind of token.

mod matrix;
pub(crate) mod operations;

use std::collections::BTreeMap;

use agent_http::{Agent, Host};
use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{Service, Site, exchange, request_text};
use operations::{Needs, Operation, has_passed, operations};

/// Scopes of the usual tokens, by name.
const TOKENS: &[(&str, &[&str])] = &[
    ("admin", &["run", "read", "cancel", "node", "admin"]),
    ("all", &["run", "read", "cancel"]),
    ("runner", &["run"]),
    ("reader", &["read"]),
    ("canceller", &["cancel"]),
    ("node", &["node"]),
];

#[test]
fn what_needs_nothing_is_no_part_of_the_api() {
    let service = Service::usual();
    for Operation { path, needs, .. } in described(&service) {
        let is_open = matches!(needs, Needs::Nothing | Needs::NothingOr(_));
        let asks_something = ["/api/", "/metrics", "/hooks/"].iter().any(|prefix| path.starts_with(prefix));
        assert_eq!(is_open, !asks_something, "{path}");
    }
}

/// What the description lists is what the routes are, which a test beside them shows. Nothing is served in front of them.
#[test]
fn there_is_no_route_in_front_of_those_that_are_described() {
    let site = Site::new("");
    let opened = async { Agent::open(&site.settings(), Host::default()).await.unwrap().app() };
    let app = Runtime::new().unwrap().block_on(opened);
    let has_none =
        |app: &Router| format!("{app:?}").starts_with("Router { path_router: PathRouter { routes: {}, ");
    assert!(has_none(&app), "{app:?}");
    assert!(!has_none(&app.route("/besides", get(|| async {}))));
}

#[test]
fn without_a_token_that_is_known_and_valid_every_route_but_the_public_ones_is_401() {
    let service = Service::usual();
    let id = ended_task(&service);
    let wrong = "dag_00000000000000000000000000000000";
    let expired = Site::token("expired");
    let reader = Site::token("reader");
    let headers: BTreeMap<&str, (String, &str)> = [
        ("none", (String::new(), "token_missing")),
        ("empty", ("Authorization: Bearer \r\n".to_owned(), "token_invalid")),
        ("bare", (format!("Authorization: {reader}\r\n"), "token_invalid")),
        ("basic", ("Authorization: Basic YWRtaW46YWRtaW4=\r\n".to_owned(), "token_invalid")),
        ("wrong", (format!("Authorization: Bearer {wrong}\r\n"), "token_invalid")),
        ("expired", (format!("Authorization: Bearer {expired}\r\n"), "token_expired")),
        ("cut short", (format!("Authorization: Bearer {}\r\n", &reader[..35]), "token_invalid")),
        (
            "twice",
            (
                format!("Authorization: Bearer {reader}\r\nAuthorization: Bearer {reader}\r\n"),
                "token_invalid",
            ),
        ),
        ("cookie", (format!("Cookie: token={reader}\r\n"), "token_missing")),
    ]
    .into();
    for operation in described(&service) {
        let (method, needs) = (&operation.method, &operation.needs);
        for (kind, (header, code)) in &headers {
            let path = operation.target(&id);
            let path = path.split('?').next().unwrap();
            let text = format!(
                "{method} {path}?access_token={reader} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n"
            );
            let reply = exchange(service.at, text.as_bytes());
            match needs {
                Needs::NothingOr(_) if !header.starts_with("Authorization") => {
                    assert_eq!(reply.status, 200, "{kind}: {method} {path}");
                }
                Needs::Nothing => assert!(reply.status < 400, "{kind}: {method} {path}: {reply:?}"),
                Needs::Signature => assert_eq!(reply.code(), "signature_invalid", "{kind}: {method} {path}"),
                Needs::Scope(_) | Needs::NothingOr(_) => {
                    assert_eq!(reply.status, 401, "{kind}: {method} {path}");
                    assert_eq!(reply.code(), *code, "{kind}: {method} {path}");
                    let challenge = reply.header("www-authenticate").unwrap();
                    assert!(challenge.starts_with("Bearer "), "{challenge}");
                }
            }
        }
    }
    assert_eq!(service.count(), 1);
}

#[test]
fn a_path_that_no_route_knows_is_401_without_a_token_and_404_with_one() {
    let service = Service::usual();
    for path in ["/api", "/api/v1/nothing", "//healthz", "/docs/../api/v1/tasks", "/api/v1/tasks/", "/x"] {
        let without = exchange(service.at, request_text("GET", path, None, None).as_bytes());
        if !path.starts_with("/docs/") {
            assert_eq!((without.status, without.code().as_str()), (401, "token_missing"), "{path}");
        }
        let with = service.get(path);
        assert_eq!((with.status, with.code().as_str()), (404, "no_route"), "{path}");
    }
}

#[test]
fn each_scope_opens_its_routes_and_no_others() {
    let service = Service::usual();
    for operation in described(&service) {
        let method = &operation.method;
        for (token, scopes) in TOKENS {
            let path = operation.target(&ended_task(&service));
            let reply = service.call(token, method, &path, operation.body().as_ref());
            match &operation.needs {
                Needs::Signature => assert_eq!(reply.code(), "signature_invalid", "{token}: {method} {path}"),
                Needs::Scope(scope) if !scopes.contains(&scope.as_str()) => {
                    assert_eq!(reply.status, 403, "{token}: {method} {path}: {}", reply.text());
                    assert_eq!(reply.code(), "scope_missing");
                }
                _ => {
                    assert!(
                        has_passed(&reply),
                        "{token}: {method} {path}: {} {}",
                        reply.status,
                        reply.text()
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_gets_404_for_tasks_and_scripts_outside_its_patterns_on_every_route() {
    let service = Service::usual();
    let foreign = ended_task(&service);
    for operation in described(&service) {
        let Operation { method, path, needs, .. } = &operation;
        // Nodes are an admin's, whatever a token sees.
        let is_of_nodes = *needs == Needs::Scope("admin".to_owned());
        let is_open = matches!(needs, Needs::Nothing | Needs::Signature);
        if is_open || is_of_nodes || !path.contains('{') {
            continue;
        }
        let reply = service.call("deployer", method, &operation.target(&foreign), None);
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{method} {path}");
        // The same for what is not there at all: the two cannot be told apart but by the name.
        let nothing =
            service.call("deployer", method, &operation.target("nothing").replace("hello", "none"), None);
        assert_eq!(
            nothing.text().replace("nothing", "X").replace("none.sh", "X"),
            reply.text().replace(&foreign, "X").replace("hello.sh", "X"),
            "{method} {path}"
        );
    }
    for spec in
        [json!({ "name": "hello.sh" }), json!({ "name": "script", "params": { "script": "hello.sh" } })]
    {
        let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"), "{spec}");
    }
    assert_eq!(service.count(), 1);
    assert_eq!(service.call("deployer", "GET", "/api/v1/tasks", None).json()["tasks"], json!([]));
    let scripts = service.call("deployer", "GET", "/api/v1/scripts", None).json();
    let names: Vec<&str> = scripts["scripts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|script| script["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["deploy/web.sh"]);
}

#[test]
fn a_token_sees_and_runs_what_its_patterns_name_under_its_own_name() {
    let service = Service::usual();
    let spec = json!({ "name": "deploy/web.sh", "env": { "DEPLOY_ENV": "prod" }, "work_dir": "web" });
    let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let task = service.ended(&reply.id());
    assert_eq!((&task["created_by"], &task["status"]), (&json!("deployer"), &json!("succeeded")));
    let path = format!("/api/v1/tasks/{}/log?banner=false", reply.id());
    assert_eq!(service.call("deployer", "GET", &path, None).text(), "web prod\n");
}

#[test]
fn a_workspace_or_variable_that_a_token_does_not_list_is_403_and_all_are_named() {
    let service = Service::usual();
    let spec =
        json!({ "name": "deploy/web.sh", "work_dir": "db", "env": { "DEPLOY_ENV": "x", "REGION": "eu" } });
    let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
    assert_eq!((reply.status, reply.code().as_str()), (403, "forbidden"));
    let errors = reply.json()["errors"].clone();
    let fields: Vec<&str> =
        errors.as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["work_dir", "env.REGION"]);
    assert_eq!(service.count(), 0);
    // An admin may name both.
    assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
}

#[test]
fn a_variable_that_the_script_itself_lets_callers_set_needs_no_listing_in_the_token() {
    let site = Site::new("");
    let header = "#!/bin/sh\n#TASK env=\"REGION\" effect=\"destructive\"\necho $REGION\n";
    site.write_script("deploy/open.sh", header);
    let service = site.start();
    let mut spec =
        json!({ "name": "deploy/open.sh", "env": { "REGION": "eu" }, "confirm": "deploy/open.sh" });
    assert_eq!(service.call("deployer", "POST", "/api/v1/tasks", Some(&spec)).status, 202);
    spec["env"]["OTHER"] = json!("x");
    let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
    assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (403, &json!("env.OTHER")));
    spec["env"] = json!({});
    spec["confirm"] = json!("yes");
    let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
    assert_eq!((reply.status, &reply.json()["errors"][0]["rule"]), (422, &json!("confirm")));
}

#[test]
fn a_caller_cannot_set_whose_task_it_is() {
    let service = Service::usual();
    for field in ["created_by", "node", "status"] {
        let reply = service.call(
            "all",
            "POST",
            "/api/v1/tasks",
            Some(&json!({ "name": "hello.sh", field: "admin" })),
        );
        assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"), "{field}");
    }
    assert_eq!(service.count(), 0);
}

#[test]
fn whether_a_caller_may_is_settled_before_what_it_asks_is_read() {
    let service = Service::usual();
    let id = ended_task(&service);
    let bad_field = json!({ "bogus": 1 });
    for operation in described(&service) {
        let Operation { method, path, needs, .. } = &operation;
        let Needs::Scope(scope) = needs else { continue };
        let bad_query = format!("{}?bogus=1&wait=x", operation.target(&id));
        let bad_name = path.replace("{id}", "%FF").replace("{name}", "%FF");
        let body = (method == "POST").then_some(&bad_field);
        for (token, scopes) in TOKENS {
            for path in [&bad_query, &bad_name] {
                let reply = service.call(token, method, path, body);
                if !scopes.contains(&scope.as_str()) {
                    assert_eq!(reply.code(), "scope_missing", "{token}: {method} {path}");
                } else if *token == "admin"
                    && path.contains("/api/")
                    && path != "/api/v1/runners"
                    && !path.starts_with("/api/v1/nodes/")
                {
                    // The twin: whoever may learns what is wrong. Where the path has no name it is right as it is.
                    let is_right = *path == bad_name && !path.contains("%FF") && body.is_none();
                    assert_eq!(
                        reply.status,
                        if is_right { 200 } else { 422 },
                        "{method} {path}: {}",
                        reply.text()
                    );
                }
            }
        }
        if path.contains('{') && *scope != "admin" {
            let reply = service.call("deployer", method, &bad_query, body);
            assert_eq!(reply.code(), "not_found", "{method} {path}");
        }
    }
    // What a token may not set is refused before the script's name is read.
    let forbidden = json!({ "work_dir": "db", "name": "x" });
    for name in ["%FF", "a%20b", "hello.sh"] {
        let path = format!("/api/v1/scripts/{name}/run");
        let reply = service.call("deployer", "POST", &path, Some(&forbidden));
        assert_eq!((reply.status, reply.code().as_str()), (403, "forbidden"), "{path}");
    }
    assert_eq!(service.count(), 1);
}

#[test]
fn an_id_tells_nothing_of_a_task_that_the_token_does_not_see() {
    let service = Service::usual();
    let taken = json!({ "name": "hello.sh", "id": "taken" });
    assert_eq!(service.post("/api/v1/tasks", &taken).status, 202);
    service.ended("taken");
    let submit = |token: &str, name: &str, id: &str| {
        let spec = json!({ "name": name, "id": id, "args": ["x"] });
        service.call(token, "POST", "/api/v1/tasks", Some(&spec))
    };
    // What would start nothing is answered as it is under an id that nobody has.
    service.site.write_script("deploy/broken.sh", "no shebang\n");
    for name in ["hello.sh", "deploy/none.sh", "deploy/broken.sh", "deploy/a b.sh"] {
        let (free, taken) = (submit("deployer", name, "free"), submit("deployer", name, "taken"));
        assert!([404, 422].contains(&free.status), "{}", free.text());
        assert_eq!((taken.status, taken.text()), (free.status, free.text()), "{name}");
    }
    let hidden = submit("deployer", "deploy/web.sh", "taken");
    assert_eq!((hidden.status, hidden.code().as_str()), (404, "not_found"), "{}", hidden.text());
    // The twin: who sees the task is told that there is one.
    let seen = submit("all", "deploy/web.sh", "taken");
    assert_eq!((seen.status, seen.code().as_str()), (409, "id_conflict"));
    assert_eq!(submit("all", "deploy/none.sh", "taken").status, 404);
    assert_eq!(service.count(), 1);
}

#[test]
fn a_name_that_is_none_is_not_matched_with_patterns() {
    let site = Site::new("");
    let path = site.path("application.toml");
    // As many ways to match as a pattern may have.
    let settings = std::fs::read_to_string(&path).unwrap().replace("deploy/*", "**/a/**/a/**/a/**/b");
    std::fs::write(&path, settings).unwrap();
    let service = site.start();
    let name = "a/".repeat(100_000);
    for spec in [json!({ "name": name }), json!({ "name": "script", "params": { "script": name } })] {
        // Matched with that pattern, it would take longer than any test waits.
        let reply = service.call("deployer", "POST", "/api/v1/tasks", Some(&spec));
        assert_eq!(reply.status, 422);
    }
    let matched = service.call("deployer", "GET", "/api/v1/scripts/x%2Fa%2Fa%2Fa%2Fx%2Fb", None);
    assert_eq!(matched.status, 404);
}

/// A task that has ended, and has everything that routes ask for.
fn ended_task(service: &Service) -> String {
    let reply = service.post("/api/v1/tasks", &json!({ "name": "hello.sh", "debug_script": true }));
    let id = reply.id();
    service.ended(&id);
    id
}

fn described(service: &Service) -> Vec<Operation> {
    operations(&exchange(service.at, request_text("GET", "/openapi.json", None, None).as_bytes()).json())
}
