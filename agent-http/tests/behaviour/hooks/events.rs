//! What a signed request asks for: events that are ignored, parameters, what cannot be run.

use serde_json::{Value, json};

use super::{Delivery, GITHUB, GITLAB, STANDARD_KEY, github_signature, line_of, one_of_each, push, site};
use crate::support::{Service, eventually};

fn ignored(service: &Service, delivery: &Delivery) -> String {
    let reply = delivery.send(service);
    let answer = reply.json();
    assert_eq!(reply.status, 200, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    let line = line_of(service, &reply);
    assert_eq!(
        (&line["decision"], &line["code"], &line["task"]),
        (&json!("allowed"), &json!("ignored"), &json!(null))
    );
    answer["ignored"].as_str().unwrap().to_owned()
}

#[test]
fn an_event_that_the_rules_do_not_want_is_told_apart_from_a_task_and_is_no_error() {
    let service = site("").start();
    for body in [
        json!({ "ref": "main" }),
        json!({ "ref": 1 }),
        json!({ "ref": null }),
        json!({}),
        json!([]),
        json!(1),
    ] {
        let why = ignored(&service, &Delivery::github("github", GITHUB, &body));
        assert!(why.contains("rule 1") && why.contains("/ref"), "{why}");
    }
    // What was found there is not repeated.
    let why = ignored(&service, &Delivery::github("github", GITHUB, &json!({ "ref": "c4n4ry" })));
    assert!(!why.contains("c4n4ry"), "{why}");
    let ping = Delivery::github("other", super::OTHER, &push()).but("X-GitHub-Event", "ping");
    assert!(ignored(&service, &ping).contains("ping"));
    assert_eq!(service.count(), 0);
    // The twin.
    assert_eq!(ping.but("X-GitHub-Event", "push").send(&service).status, 202);
}

#[test]
fn parameters_are_checked_as_those_of_any_task_and_every_mistake_is_named() {
    let service = site("").start();
    let mut body = push();
    body["data"] = json!({ "services": ["nothing"], "count": 0 });
    let reply = Delivery::standard(STANDARD_KEY, "d-1", 0, &body).send(&service);
    assert_eq!((reply.status, reply.code().as_str()), (422, "invalid"), "{}", reply.text());
    let errors = reply.json()["errors"].clone();
    let mut fields: Vec<&str> =
        errors.as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["params.count", "params.service"], "{errors}");
    // What is not there is left out, and missing where the script needs it.
    let reply = Delivery::standard(STANDARD_KEY, "d-2", 0, &json!({})).send(&service);
    let errors = reply.json()["errors"].clone();
    assert_eq!((reply.status, &errors[0]["field"]), (422, &json!("params.service")), "{errors}");
    // A whole object is no text.
    let mut body = push();
    body["project"]["name"] = json!({ "a": 1 });
    assert_eq!(Delivery::gitlab(GITLAB, &body).send(&service).status, 422);
    assert_eq!(service.count(), 0);
    let reply = Delivery::standard(STANDARD_KEY, "d-3", 0, &json!({ "data": { "services": ["web"] } }))
        .send(&service);
    let task = service.ended(&reply.id());
    assert_eq!(task["spec"]["params"], json!({ "service": "web" }), "{task}");
}

#[test]
fn a_value_that_looks_like_shell_or_a_flag_stays_a_value() {
    let service = site("").start();
    for text in ["refs/$(touch pwned)", "refs/`id`; rm -rf .", "refs/ --event=x", "refs/\n--event x"] {
        let body = json!({ "ref": text });
        let reply = Delivery::github("github", GITHUB, &body).send(&service);
        assert_eq!(reply.status, 202, "{text:?}: {}", reply.text());
        let task = service.ended(&reply.id());
        assert_eq!((&task["status"], &task["spec"]["params"]["ref"]), (&json!("succeeded"), &json!(text)));
        let log = service.get(&format!("/api/v1/tasks/{}/log?banner=false", reply.id())).text();
        assert_eq!(log, format!("web {text} push  by hook:github\n"));
    }
}

#[test]
fn the_form_in_which_github_may_send_is_read_and_that_of_others_is_not() {
    let service = site("").start();
    let json = push().to_string();
    let encoded: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
    let form = |body: String| {
        let mut delivery = Delivery::github("github", GITHUB, &json!({}));
        delivery.headers[0].1 = "application/x-www-form-urlencoded".to_owned();
        let signature = github_signature(GITHUB, &body);
        delivery.body = body;
        delivery.but("X-Hub-Signature-256", &signature)
    };
    let reply = form(format!("payload={encoded}")).send(&service);
    assert_eq!(reply.status, 202, "{}", reply.text());
    for (body, code) in [
        (String::new(), "not_json"),
        ("other=1".to_owned(), "not_json"),
        (format!("payload={encoded}&payload={encoded}"), "not_json"),
        ("payload=%7B".to_owned(), "not_json"),
    ] {
        let reply = form(body.clone()).send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{body}: {}", reply.text());
    }
    let gitlab = Delivery::gitlab(GITLAB, &push()).but("Content-Type", "application/x-www-form-urlencoded");
    let reply = gitlab.send(&service);
    assert_eq!((reply.status, reply.code().as_str()), (415, "media_type"), "{}", reply.text());
    // Who cannot sign is not told which scheme a hook has.
    assert_eq!(gitlab.without("X-Gitlab-Token").send(&service).code(), "signature_invalid");
    assert_eq!(service.count(), 1);
}

#[test]
fn what_only_the_agents_operator_can_mend_is_told_to_the_log_alone() {
    let hook = |name: &str, script: &str, rest: &str| {
        format!(
            "[[hook]]\nname = \"{name}\"\nscript = \"{script}\"\nscheme = \"github\"\nsecret_file = \"github.secret\"\n{rest}\n"
        )
    };
    let hooks = [
        hook("absent", "gone/away.sh", ""),
        hook("broken", "broken.sh", ""),
        hook("runner", "task_debug", ""),
        hook("node", "hello.sh", "target = { node = \"nowhere\" }"),
        hook("destroys", "destroy.sh", ""),
        hook("may-destroy", "destroy.sh", "confirm = \"destroy.sh\""),
        hook("extra", "hello.sh", "params = { who = \"x\" }"),
    ];
    let site = site(&hooks.concat());
    site.write_script("broken.sh", "#!/bin/sh\n#TASK nonsense=\"c4n4ry\"\n");
    site.write_script(
        "destroy.sh",
        "#!/bin/sh\n#TASK description=\"Destroys\" effect=\"destructive\"\necho gone\n",
    );
    let service = site.start();
    for name in ["absent", "broken", "runner", "node"] {
        let reply = Delivery::github(name, GITHUB, &push()).send(&service);
        assert_eq!((reply.status, reply.code().as_str()), (503, "hook_unusable"), "{name}: {}", reply.text());
        assert!(reply.header("retry-after").is_some(), "{name}");
        for inside in ["away.sh", "broken.sh", "task_debug", "nowhere", "c4n4ry", "nonsense"] {
            assert!(!reply.text().contains(inside), "{name}: {}", reply.text());
        }
        let id = reply.header("x-request-id").unwrap().to_owned();
        eventually("the reason", || {
            let is_told = |line: &&str| line.contains(&id) && line.contains("cannot run its script");
            service.said().lines().find(is_told).map(drop)
        });
    }
    let reply = Delivery::github("destroys", GITHUB, &push()).send(&service);
    assert_eq!(
        (reply.status, &reply.json()["errors"][0]["field"]),
        (422, &json!("confirm")),
        "{}",
        reply.text()
    );
    assert_eq!(Delivery::github("extra", GITHUB, &push()).send(&service).status, 422);
    assert_eq!(service.count(), 0);
    let reply = Delivery::github("may-destroy", GITHUB, &push()).send(&service);
    assert_eq!(service.ended(&reply.id())["status"], "succeeded");
    // All of it could be read in the log when the service started.
    for hook in ["absent", "broken", "runner", "destroys", "extra"] {
        let is_told = |line: &&str| line.contains("WARN") && line.contains(&format!("hook=\"{hook}\""));
        assert!(service.said().lines().any(|line| is_told(&line)), "{hook}: {}", service.said());
    }
}

#[test]
fn what_becomes_of_requests_is_counted_by_hook_and_names_that_are_made_up_are_not() {
    let service = site("").start();
    let [github, ..] = one_of_each();
    github.send(&service);
    github.send(&service);
    Delivery::github("github", GITHUB, &json!({})).send(&service);
    github.clone().without("X-Hub-Signature-256").send(&service);
    for name in ["made-up", "made-up-too"] {
        Delivery::new(name, &push()).send(&service);
    }
    let text = service.get("/metrics").text();
    for (hook, outcome, number) in [
        ("github", "accepted", 1),
        ("github", "repeated", 1),
        ("github", "ignored", 1),
        ("github", "signature_invalid", 1),
        ("none", "signature_invalid", 2),
    ] {
        let line =
            format!("devops_agent_hook_requests_total{{hook=\"{hook}\",outcome=\"{outcome}\"}} {number}");
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("made-up"), "{text}");
    let refused: Value = json!("devops_agent_refusals_total{code=\"signature_invalid\"} 3");
    assert!(text.contains(refused.as_str().unwrap()), "{text}");
}
