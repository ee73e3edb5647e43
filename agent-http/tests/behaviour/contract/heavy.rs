//! A minute of requests to a real service, and the twin that answers otherwise than it says.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::schemathesis;
use crate::support::Site;

/// Says much of itself: choices, numbers, a secret, a variable, output parameters.
const DEPLOY: &str = r##"#!/bin/sh
#TASK description="Deploy one service" group="release" tag="web" effect="write"
#TASK timeout="10s" concurrency=1 retries=1
#TASK type.replicas="int" min.replicas=1 max.replicas=20 secret="token" env="REGION"
#TASK output.IMAGE_TAG="Tag that was deployed"
#USAGE arg  "<service>" help="Service name" { choices "web" "api" }
#USAGE flag "-e --env <env>" help="Target" default="staging" { choices "staging" "prod" }
#USAGE flag "--replicas <n>" help="Pods" default="2"
#USAGE flag "--token <token>" help="Deploy token"
echo "IMAGE_TAG=$usage_service" >"$TASK_OUTPUT"
"##;
const PURGE: &str = r##"#!/bin/sh
#TASK description="Purge" group="care" effect="destructive" type.age="duration"
#USAGE arg "[what]..." help="What to purge"
#USAGE flag "--age <age>" help="Only what is older"
#USAGE flag "-v --verbose" count=#true
echo purged
"##;

#[test]
fn a_minute_of_made_up_requests_finds_nothing_that_is_not_described() {
    let site = Site::new("");
    site.write_script("deploy/db.sh", DEPLOY);
    site.write_script("purge.sh", PURGE);
    // What waits for a file that nobody makes would keep followers waiting.
    site.write_script("gate.sh", "#!/bin/sh\necho passed\n");
    let service = site.start();
    let output = schemathesis(service.at, &[]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", service.said());
    println!("{}", report.split("SUMMARY").last().unwrap_or_default());
    // It has come far: what it made up was accepted, and run.
    assert!(service.count() > 50, "{}\n{report}", service.count());
    service.stop();
}

/// Each operation of the twin breaks another promise.
#[test]
fn a_service_that_answers_otherwise_than_it_says_is_found_out() {
    let operation = |name: &str| {
        let schema =
            json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
        let ok = json!({ "description": "A name.", "content": { "application/json": { "schema": schema } } });
        json!({ "get": { "operationId": name, "responses": { "200": ok, "500": { "description": "Broken." } } } })
    };
    let names = ["broken", "status", "media_type", "schema"];
    let paths: serde_json::Map<_, _> =
        names.iter().map(|name| (format!("/{name}"), operation(name))).collect();
    let document = json!({ "openapi": "3.1.0", "info": { "title": "Twin", "version": "1" }, "paths": paths });
    let answer = |status: StatusCode, media_type: &'static str, body: &'static str| {
        get(move || async move { (status, [(CONTENT_TYPE, media_type)], body).into_response() })
    };
    let right = "{\"name\": \"x\"}";
    let router = Router::new()
        .route("/openapi.json", get(|| async move { axum::Json(document) }))
        .route("/broken", answer(StatusCode::INTERNAL_SERVER_ERROR, "application/json", right))
        .route("/status", answer(StatusCode::IM_A_TEAPOT, "application/json", right))
        .route("/media_type", answer(StatusCode::OK, "text/plain", right))
        .route("/schema", answer(StatusCode::OK, "application/json", "{\"name\": 1}"));
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let at = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    let output = schemathesis(at, &["--phases", "coverage", "--max-time", "10"]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{report}");
    for found in ["ST101 Server error", "ST103 Undocumented", "ST105 Undocumented", "ST108 Response violates"]
    {
        assert!(report.contains(found), "{found}: {report}");
    }
}
