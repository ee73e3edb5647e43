//! Secrets of hooks are in their files, and nowhere else that anybody could look.

use std::fs;
use std::path::Path;

use super::{Delivery, STANDARD_KEY, push, site};
use crate::support::{Service, eventually};

const CANARY: &str = "c4n4ry-secret-0123456789";

/// The files below a folder that hold the text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    found.sort();
    found
}

fn loud(settings: &str) -> Service {
    let site = site(settings);
    for name in ["github.secret", "gitlab.secret"] {
        site.write_secret(name, CANARY);
    }
    let mut command = site.command();
    command.env("RUST_LOG", "trace");
    site.start_by(command)
}

#[test]
fn no_secret_is_in_logs_answers_audit_or_records_however_it_was_sent() {
    let service = loud("");
    let mut replies = Vec::new();
    let github = Delivery::github("github", CANARY, &push()).with("X-GitHub-Delivery", "one");
    let gitlab = Delivery::gitlab(CANARY, &push());
    let standard = Delivery::standard(STANDARD_KEY, "two", 0, &push());
    let mut signatures = vec![github.header("X-Hub-Signature-256").to_owned()];
    signatures.push(standard.header("webhook-signature").to_owned());
    for delivery in [
        github.clone(),
        github.clone(),
        gitlab.clone(),
        standard,
        // Where it does not belong.
        github.but("X-Hub-Signature-256", CANARY),
        gitlab.with("X-Gitlab-Token", CANARY),
        Delivery::new("github", &push())
            .with("X-Gitlab-Token", CANARY)
            .with("Authorization", &format!("Bearer {CANARY}")),
    ] {
        replies.push(delivery.send(&service));
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 202).count(), 3);
    for reply in replies.iter().filter(|reply| reply.status == 202) {
        let task = service.ended(&reply.id());
        let log = service.get(&format!("/api/v1/tasks/{}/log", reply.id()));
        replies.iter().for_each(|reply| assert!(!reply.text().contains(CANARY), "{}", reply.text()));
        assert!(!task.to_string().contains(CANARY) && !log.text().contains(CANARY), "{task}");
    }
    let last = service.get("/metrics");
    let id = last.header("x-request-id").unwrap().to_owned();
    eventually("the last line", || service.said().contains(&id).then_some(()));
    let said = service.said();
    // The twins: what is no secret is said, and the search finds what there is.
    assert!(said.contains("hook:github") && said.contains("signature_invalid"), "{said}");
    assert_eq!(files_with(service.site.folder(), CANARY), ["github.secret", "gitlab.secret"]);
    for secret in [CANARY, STANDARD_KEY].into_iter().chain(signatures.iter().map(String::as_str)) {
        assert!(!said.contains(secret) && !last.text().contains(secret), "{secret}");
        assert!(files_with(&service.site.path("state"), secret).is_empty(), "{secret}");
    }
}
