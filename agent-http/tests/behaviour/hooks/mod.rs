//! Hooks: what programs start by signed requests, over HTTP, as their senders send them.

mod bounds;
mod changes;
mod documentation;
mod events;
mod proofs;
mod repeated;
mod silence;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use ct_codecs::{Base64, Encoder};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Reply, Service, Site, exchange};

/// The secrets of the usual hooks: of each scheme one, and another hook of the first.
pub(crate) const GITHUB: &str = "github-secret-0123456789";
const OTHER: &str = "another-secret-0123456789";
const GITLAB: &str = "gitlab-secret-0123456789";
/// 24 bytes, `standard-secret-01234567`.
const STANDARD: &str = "whsec_c3RhbmRhcmQtc2VjcmV0LTAxMjM0NTY3";
const STANDARD_KEY: &str = "standard-secret-01234567";

/// The usual hooks. All run the same script.
const HOOKS: &str = r#"
[[hook]]
name = "github"
script = "hooked.sh"
scheme = "github"
secret_file = "github.secret"
labels = { team = "web" }
params = { service = "web", ref = { pointer = "/ref" }, event = { header = "X-GitHub-Event" } }
when = [{ pointer = "/ref", starts_with = "refs/" }]
[[hook]]
name = "other"
script = "hooked.sh"
scheme = "github"
secret_file = "other.secret"
params = { service = "web", ref = { pointer = "/ref" } }
[[hook]]
name = "gitlab"
script = "hooked.sh"
scheme = "gitlab"
secret_file = "gitlab.secret"
params = { service = { pointer = "/project/name" }, ref = { pointer = "/ref" } }
[[hook]]
name = "standard"
script = "hooked.sh"
scheme = "standard"
secret_file = "standard.secret"
params = { service = { pointer = "/data/services/0" }, count = { pointer = "/data/count" } }
"#;

const SCRIPT: &str = r##"#!/bin/sh
#TASK description="What hooks run" effect="write" type.count="int" min.count=1
#USAGE arg  "<service>" help="Service" { choices "web" "api" }
#USAGE flag "--ref <ref>" help="What was pushed"
#USAGE flag "--event <event>" help="What happened"
#USAGE flag "--count <n>" help="How many"
echo "$usage_service ${usage_ref-} ${usage_event-} ${usage_count-} by $TASK_CREATED_BY"
"##;

/// A site with the usual hooks, and further settings in front of them.
pub(crate) fn site(settings: &str) -> Site {
    let site = Site::new(&format!("{settings}\n{HOOKS}"));
    for (name, secret) in [
        ("github.secret", GITHUB),
        ("other.secret", OTHER),
        ("gitlab.secret", GITLAB),
        ("standard.secret", STANDARD),
    ] {
        site.write_secret(name, secret);
    }
    site.write_script("hooked.sh", SCRIPT);
    site
}

/// A request to a hook.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    hook: &'static str,
    headers: Vec<(String, String)>,
    body: String,
}

impl Delivery {
    /// An unsigned one, with JSON.
    fn new(hook: &'static str, body: &Value) -> Self {
        Self { hook, headers: Vec::new(), body: body.to_string() }.with("Content-Type", "application/json")
    }

    /// As GitHub signs it.
    pub(crate) fn github(hook: &'static str, secret: &str, body: &Value) -> Self {
        let delivery = Self::new(hook, body);
        let signature = github_signature(secret, &delivery.body);
        delivery.with("X-Hub-Signature-256", &signature).with("X-GitHub-Event", "push")
    }

    /// As GitLab sends it.
    fn gitlab(secret: &str, body: &Value) -> Self {
        Self::new("gitlab", body).with("X-Gitlab-Token", secret).with("X-Gitlab-Event", "Push Hook")
    }

    /// As Standard Webhooks has it, so many seconds from now.
    fn standard(key: &str, id: &str, seconds: i64, body: &Value) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let time = (i64::try_from(now).unwrap() + seconds).to_string();
        let delivery = Self::new("standard", body);
        let signature = standard_signature(key, id, &time, &delivery.body);
        delivery.with("webhook-id", id).with("webhook-timestamp", &time).with("webhook-signature", &signature)
    }

    /// With a header more.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without those headers.
    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }

    /// With another value of a header.
    fn but(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(found, _)| found == name).unwrap().1
    }

    fn text(&self) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "POST /hooks/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{}",
            self.hook,
            self.body.len(),
            self.body
        )
    }

    pub(crate) fn send(&self, service: &Service) -> Reply {
        exchange(service.at, self.text().as_bytes())
    }
}

fn hmac(key: &str, parts: &[&str]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    parts.iter().for_each(|part| context.update(part.as_bytes()));
    context.sign()
}

fn github_signature(secret: &str, body: &str) -> String {
    let hex: String = hmac(secret, &[body]).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn standard_signature(key: &str, id: &str, time: &str, body: &str) -> String {
    format!("v1,{}", Base64::encode_to_string(hmac(key, &[id, ".", time, ".", body])).unwrap())
}

/// What is pushed in most tests.
pub(crate) fn push() -> Value {
    json!({ "ref": "refs/heads/main", "project": { "name": "web" }, "data": { "services": ["api"], "count": 3 } })
}

/// A delivery of each scheme, rightly signed.
fn one_of_each() -> [Delivery; 3] {
    [
        Delivery::github("github", GITHUB, &push()).with("X-GitHub-Delivery", "d-github"),
        Delivery::gitlab(GITLAB, &push()).with("X-Gitlab-Event-UUID", "d-gitlab"),
        Delivery::standard(STANDARD_KEY, "d-standard", 0, &push()),
    ]
}

/// It was refused for want of a right signature: one answer for all such requests, and nothing was started.
fn assert_unsigned(service: &Service, reply: &Reply, what: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (401, "signature_invalid"), "{what}: {}", reply.text());
    assert!(reply.header("www-authenticate").is_some(), "{what}");
    let unknown = Delivery::new("nobody-has-this-name", &push()).send(service);
    assert_eq!(told(reply), told(&unknown), "{what}");
    assert_eq!(service.count(), 0, "{what}");
}

/// All that an answer tells, but when it was given and under which number.
fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    (reply.status, headers, reply.text())
}

/// The line of the audit log about a request.
fn line_of(service: &Service, reply: &Reply) -> Value {
    let id = reply.header("x-request-id").unwrap();
    let lines = service.audit();
    lines
        .into_iter()
        .find(|line| line["request"] == id)
        .unwrap_or_else(|| panic!("no line: {}", reply.text()))
}

/// Gives a file another mode.
fn allow(site: &Site, name: &str, mode: u32) {
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
}
