//! Callers that present a certificate in the place of a token.

use serde_json::Value;

use super::{curl, text};
use crate::support::{Authority, Service, Site, tls_site};

/// A service that knows the certificate `ci` as the caller `pipeline`, who may read and cancel.
fn served() -> (Authority, Service) {
    let authority = Authority::new();
    for name in ["service", "ci", "stranger"] {
        authority.issue(name, 365);
    }
    authority.issue_at("expired", 30, Some("2020-01-01 00:00:00"));
    let section = |name: &str, certificate: &str| {
        let digest = authority.fingerprint(certificate);
        format!(
            "[[auth.token]]\nname = \"{name}\"\ncertificate_sha256 = \"{digest}\"\nscopes = [\"read\", \"cancel\"]\n\
             scripts = [\"**\"]\n"
        )
    };
    let sections = section("pipeline", "ci") + &section("late", "expired");
    let service = tls_site(&authority, "service", &sections).start();
    (authority, service)
}

/// Calls with a certificate of an authority, and gives the status and the code of a refusal.
fn call(
    service: &Service,
    trusted: &Authority,
    presented: (&Authority, &str),
    path: &str,
    more: &[&str],
) -> (String, Value) {
    let (authority, name) = presented;
    let (cert, key) = (authority.path(&format!("{name}.pem")), authority.path(&format!("{name}.key")));
    let ca = trusted.ca();
    let certificates = ["--cacert", &ca, "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let output = curl(service, path, &[&certificates[..], &["--write-out", "\n%{http_code}"], more].concat());
    let text = text(&output);
    let (body, status) = text.rsplit_once('\n').unwrap();
    let code = serde_json::from_str::<Value>(body).unwrap_or_default()["code"].clone();
    (status.to_owned(), code)
}

#[test]
fn a_certificate_shows_the_scripts_of_its_caller_in_the_description_and_an_unknown_one_no_less_than_none() {
    let (authority, service) = served();
    let described = |name: &str| {
        let (cert, key) = (authority.path(&format!("{name}.pem")), authority.path(&format!("{name}.key")));
        let certificates = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        let ca = authority.ca();
        let more = [&["--cacert", ca.as_str()], &certificates[..]].concat();
        let document: Value = serde_json::from_str(&text(&curl(&service, "/openapi.json", &more))).unwrap();
        let paths = document["paths"].as_object().unwrap();
        (paths.contains_key("/api/v1/tasks"), paths.contains_key("/api/v1/scripts/hello.sh/run"))
    };
    assert_eq!((described("ci"), described("stranger")), ((true, true), (true, false)));
}

const RUNNERS: &str = "/api/v1/runners";

#[test]
fn a_certificate_that_a_token_names_is_that_caller_and_the_audit_log_says_so() {
    let (authority, service) = served();
    let ci = (&authority, "ci");
    assert_eq!(call(&service, &authority, ci, RUNNERS, &[]), ("200".to_owned(), Value::Null));
    // It may do what the token may, and no more.
    let submitted = call(&service, &authority, ci, "/api/v1/tasks", &["--json", r#"{"name":"hello.sh"}"#]);
    assert_eq!(submitted, ("403".to_owned(), "scope_missing".into()));
    let lines = service.audit();
    assert_eq!((&lines[0]["token"], &lines[0]["status"]), (&"pipeline".into(), &200.into()), "{lines:?}");
    assert_eq!((&lines[1]["token"], &lines[1]["status"]), (&"pipeline".into(), &403.into()), "{lines:?}");
}

#[test]
fn certificates_that_nobody_knows_are_refused_and_those_of_others_are_not_even_connected() {
    let (authority, service) = served();
    let stranger = call(&service, &authority, (&authority, "stranger"), RUNNERS, &[]);
    assert_eq!(stranger, ("401".to_owned(), "certificate_unknown".into()));
    // It may see what everybody may.
    assert_eq!(call(&service, &authority, (&authority, "stranger"), "/healthz", &[]).0, "200");
    let none = curl(&service, RUNNERS, &["--cacert", &authority.ca()]);
    assert!(text(&none).contains("token_missing"), "{none:?}");
    // 000 is no answer at all.
    assert_eq!(call(&service, &authority, (&authority, "expired"), RUNNERS, &[]).0, "000");
    let others = Authority::new();
    others.issue("ci", 365);
    assert_eq!(call(&service, &authority, (&others, "ci"), RUNNERS, &[]).0, "000");
}

#[test]
fn a_token_that_is_sent_beside_a_certificate_must_be_right_and_decides() {
    let (authority, service) = served();
    let sent = |certificate, token: &str| {
        let header = format!("Authorization: Bearer {token}");
        call(&service, &authority, (&authority, certificate), RUNNERS, &["--header", &header])
    };
    assert_eq!(sent("ci", "dag_wrong"), ("401".to_owned(), "token_invalid".into()));
    assert_eq!(sent("ci", &Site::token("runner")), ("403".to_owned(), "scope_missing".into()));
    assert_eq!(sent("stranger", &Site::token("reader")).0, "200");
}

#[test]
fn a_page_of_another_origin_cannot_use_the_certificate_that_a_browser_presents_by_itself() {
    let (authority, service) = served();
    let cancel = "/api/v1/tasks/none/cancel";
    let from = |origin: &str| {
        call(&service, &authority, (&authority, "ci"), cancel, &["--request", "POST", "--header", origin])
    };
    assert_eq!(from("Origin: https://evil.example.com"), ("403".to_owned(), "origin_forbidden".into()));
    assert_eq!(from("Origin: null"), ("403".to_owned(), "origin_forbidden".into()));
    // The twin: the service's own page gets as far as the task that there is not.
    assert_eq!(from(&format!("Origin: https://{}", service.at)).0, "404");
}
