//! Each scheme with a right signature, a wrong one, none, that of another body, of another hook, of another time.

use serde_json::json;

use super::{
    Delivery, GITHUB, GITLAB, OTHER, STANDARD, STANDARD_KEY, assert_unsigned, github_signature, line_of,
    one_of_each, push, site, standard_signature, told,
};
use crate::support::{Site, exchange};

#[test]
fn a_request_that_is_signed_as_its_scheme_has_it_starts_the_script() {
    let service = site("").start();
    for (delivery, printed) in one_of_each().into_iter().zip([
        "web refs/heads/main push  by hook:github\n",
        "web refs/heads/main   by hook:gitlab\n",
        "api   3 by hook:standard\n",
    ]) {
        let reply = delivery.send(&service);
        assert_eq!(reply.status, 202, "{}: {}", delivery.hook, reply.text());
        // Its sender learns which task it is and where it is in its life, and nothing else.
        let answer = reply.json();
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["id", "status"]);
        let id = reply.id();
        assert!(id.starts_with("hook-") && id.len() == 37, "{id}");
        assert_eq!(reply.header("location"), Some(format!("/api/v1/tasks/{id}").as_str()));
        let line = line_of(&service, &reply);
        assert_eq!(
            (&line["token"], &line["decision"], &line["task"], &line["name"]),
            (&json!(format!("hook:{}", delivery.hook)), &json!("allowed"), &json!(id), &json!("hooked.sh"))
        );
        let task = service.ended(&id);
        assert_eq!((&task["status"], &task["created_by"]), (&json!("succeeded"), &line["token"]), "{task}");
        assert_eq!(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text(), printed);
        let found = service.get(&format!("/api/v1/tasks?label=delivery=d-{}", delivery.hook)).json();
        assert_eq!(found["tasks"][0]["id"], json!(id), "{found}");
    }
    let labelled = service.get("/api/v1/tasks?label=team=web").json();
    assert_eq!(labelled["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn whatever_is_not_signed_rightly_is_one_answer_and_starts_nothing() {
    let service = site("").start();
    let [github, gitlab, standard] = one_of_each();
    let signature = github.header("X-Hub-Signature-256").to_owned();
    let cut = &signature[..signature.len() - 2];
    let wrong = github_signature("wrong", &github.body);
    let time = standard.header("webhook-timestamp").to_owned();
    let by = |key: &str, id: &str, time: &str, body: &str| {
        standard.clone().but("webhook-signature", &standard_signature(key, id, time, body))
    };
    let mut other_body = one_of_each();
    other_body.iter_mut().for_each(|delivery| delivery.body.push(' '));
    let [other_github, _, other_standard] = other_body;
    let mut elsewhere = github.clone();
    elsewhere.hook = "other";
    let mut foreign_scheme = github.clone();
    foreign_scheme.hook = "standard";
    for (what, delivery) in [
        ("no signature", github.clone().without("X-Hub-Signature-256")),
        ("a wrong one", github.clone().but("X-Hub-Signature-256", &wrong)),
        ("the beginning of the right one", github.clone().but("X-Hub-Signature-256", cut)),
        ("an empty one", github.clone().but("X-Hub-Signature-256", "")),
        ("without its kind", github.clone().but("X-Hub-Signature-256", &signature[7..])),
        ("of another kind", github.clone().but("X-Hub-Signature-256", &signature.replace("256=", "1="))),
        ("twice", github.clone().with("X-Hub-Signature-256", &signature)),
        ("of another body", other_github),
        ("of another hook", elsewhere),
        ("another hook's secret", Delivery::github("github", OTHER, &push())),
        ("another scheme", foreign_scheme),
        ("the secret itself", github.clone().but("X-Hub-Signature-256", GITHUB)),
        ("no token", gitlab.clone().without("X-Gitlab-Token")),
        ("an empty token", gitlab.clone().but("X-Gitlab-Token", "")),
        ("a longer token", gitlab.clone().but("X-Gitlab-Token", &format!("{GITLAB}x"))),
        ("a shorter token", gitlab.clone().but("X-Gitlab-Token", &GITLAB[1..])),
        ("two tokens", gitlab.clone().with("X-Gitlab-Token", GITLAB)),
        ("a token of another hook", gitlab.clone().but("X-Gitlab-Token", GITHUB)),
        ("no signature", standard.clone().without("webhook-signature")),
        ("no id", standard.clone().without("webhook-id")),
        ("no time", standard.clone().without("webhook-timestamp")),
        ("another id", standard.clone().but("webhook-id", "d-other")),
        ("another time", standard.clone().but("webhook-timestamp", &format!("{time}0"))),
        ("of another body", other_standard),
        ("a wrong secret", by("wrong", "d-standard", &time, &standard.body)),
        ("the secret as it is written", by(STANDARD, "d-standard", &time, &standard.body)),
        ("the body alone", by(STANDARD_KEY, "", "", &standard.body)),
        ("of another version", {
            let signature = standard.header("webhook-signature").replace("v1,", "v2,");
            standard.clone().but("webhook-signature", &signature)
        }),
    ] {
        let reply = delivery.send(&service);
        assert_unsigned(&service, &reply, &format!("{}: {what}", delivery.hook));
        let line = line_of(&service, &reply);
        assert_eq!((&line["token"], &line["code"]), (&json!(null), &json!("signature_invalid")), "{what}");
    }
    // The twins: each as it was.
    for delivery in [github, gitlab, standard] {
        assert_eq!(delivery.send(&service).status, 202, "{}", delivery.hook);
    }
}

#[test]
fn one_right_signature_among_others_is_enough() {
    let service = site("").start();
    let [.., standard] = one_of_each();
    let right = standard.header("webhook-signature").to_owned();
    let wrong = standard_signature("wrong", "d-standard", "0", "");
    for (signatures, status) in [
        (format!("{wrong} v1a,abc= {wrong} v9,x"), 401),
        (format!("v1a,abc= {wrong}  {right}"), 202),
        (format!("{right} {wrong}"), 200),
    ] {
        let reply = standard.clone().but("webhook-signature", &signatures).send(&service);
        assert_eq!(reply.status, status, "{signatures}: {}", reply.text());
    }
}

#[test]
fn a_recorded_request_is_worth_nothing_after_five_minutes() {
    let service = site("").start();
    for seconds in [-301, 310, -1_000_000] {
        let reply = Delivery::standard(STANDARD_KEY, "d-old", seconds, &push()).send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (401, "delivery_stale"), "{seconds}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("five minutes"), "{}", reply.text());
        // It was signed rightly, so that the log can say for whom.
        assert_eq!(line_of(&service, &reply)["token"], "hook:standard");
    }
    assert_eq!(service.count(), 0);
    // Who cannot sign learns nothing by another time.
    let reply = Delivery::standard("wrong", "d-old", -1000, &push()).send(&service);
    assert_unsigned(&service, &reply, "an old one that is not signed");
    for seconds in [-290, 290] {
        let delivery = Delivery::standard(STANDARD_KEY, &format!("d{seconds}"), seconds, &push());
        assert_eq!(delivery.send(&service).status, 202, "{seconds}");
        // Within that time it is the task that exists.
        assert_eq!(delivery.send(&service).status, 200, "{seconds}");
    }
    assert_eq!(service.count(), 2);
}

#[test]
fn no_token_opens_a_hook_and_no_hook_opens_anything_else() {
    let service = site("").start();
    let unsigned = Delivery::new("github", &push());
    for token in ["admin", "all", "expired", "nobody"] {
        let bearer = format!("Bearer {}", Site::token(token));
        let reply = unsigned.clone().with("Authorization", &bearer).send(&service);
        assert_unsigned(&service, &reply, token);
    }
    // A proxy's own header on the way does no harm.
    let [github, ..] = one_of_each();
    assert_eq!(github.clone().with("Authorization", "Basic eDp5").send(&service).status, 202);
    let text = github.text();
    for (path, method) in [
        ("/api/v1/tasks", "POST"),
        ("/hooks/", "POST"),
        ("/hooks", "POST"),
        ("/hooks/github/", "POST"),
        ("/hooks/github/more", "POST"),
        ("/hooks/github", "GET"),
        ("/hooks/github", "PUT"),
    ] {
        let elsewhere = text.replacen("POST /hooks/github", &format!("{method} {path}"), 1);
        let reply = exchange(service.at, elsewhere.as_bytes());
        assert_eq!((reply.status, reply.code().as_str()), (401, "token_missing"), "{method} {path}");
    }
    let got = service.get("/hooks/github");
    assert_eq!(
        (got.status, got.code().as_str(), got.header("allow")),
        (405, "method_not_allowed", Some("POST"))
    );
}

#[test]
fn names_that_are_none_are_answered_as_names_that_are_not_there() {
    let service = site("").start();
    let unknown = Delivery::new("unknown", &push());
    let expected = told(&unknown.send(&service));
    for name in ["a%20b", "%ff", "%00", "GITHUB", "github%2F", "..", "github%0a", &"x".repeat(2000)] {
        let text = unknown.text().replacen("/hooks/unknown", &format!("/hooks/{name}"), 1);
        assert_eq!(told(&exchange(service.at, text.as_bytes())), expected, "{name}");
    }
}

#[test]
fn a_name_that_the_service_does_not_have_and_a_web_page_come_no_further_than_elsewhere() {
    let service = site("").start();
    let [github, ..] = one_of_each();
    let text = github.text();
    let foreign = text.replacen("Host: localhost", "Host: evil.example", 1);
    assert_eq!(exchange(service.at, foreign.as_bytes()).code(), "host_unknown");
    let page = github.clone().with("Origin", "https://evil.example");
    assert_eq!(page.send(&service).code(), "origin_forbidden");
    assert_eq!(service.count(), 0);
    assert_eq!(github.send(&service).status, 202);
}
