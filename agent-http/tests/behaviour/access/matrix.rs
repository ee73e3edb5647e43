//! Every operation, with every kind of proof of who calls, by every way to give one: a token, a certificate, the user at
//! the other end of the Unix socket. Each decision must be the right one, and stand in the audit log.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::operations::{Needs, Operation, has_passed, operations};
use crate::support::{
    Authority, Reply, Service, Site, connect_local, exchange, exchange_over, request_text, tls_connect,
    tls_site,
};

/// The kinds of proof. Those of another scope have all scopes but the one that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Empty,
    Wrong,
    Expired,
    OtherScope,
    OtherScript,
    Right,
}

/// The code for a proof that nobody has where it is sent, and not shown by the connection.
const SENT: &str = "token_invalid";

const ALL: [Kind; 7] =
    [Kind::None, Kind::Empty, Kind::Wrong, Kind::Expired, Kind::OtherScope, Kind::OtherScript, Kind::Right];

/// Callers of the matrix: name, and what each may. Their proofs are added by the way.
const CALLERS: [(&str, &str); 8] = [
    ("right", "scopes = [\"run\", \"read\", \"cancel\"]\nscripts = [\"**\"]"),
    ("late", "scopes = [\"admin\"]\nexpires = \"2020-01-01T00:00:00Z\""),
    ("elsewhere", "scopes = [\"run\", \"read\", \"cancel\"]\nscripts = [\"deploy/*\"]"),
    ("not-run", "scopes = [\"read\", \"cancel\"]\nscripts = [\"**\"]"),
    ("not-read", "scopes = [\"run\", \"cancel\"]\nscripts = [\"**\"]"),
    ("not-cancel", "scopes = [\"run\", \"read\"]\nscripts = [\"**\"]"),
    ("right-admin", "scopes = [\"admin\"]"),
    ("right-node", "scopes = [\"node\"]"),
];

/// Scopes that have nothing to do with scripts; whoever has all others has none of these.
fn is_apart(scope: &str) -> bool {
    matches!(scope, "admin" | "node")
}

/// A decision that must be made: whom the audit log names, the status, and the code of a refusal.
#[derive(Debug, PartialEq)]
enum Expected {
    Passed(Option<String>),
    Refused(Option<String>, u16, String),
}

/// What was asked of a service, and what came back.
struct Asked {
    operation: Operation,
    target: String,
    kind: Kind,
    expected: Expected,
    reply: Reply,
}

impl Kind {
    /// The caller that proves itself so, where there is one.
    fn caller(self, operation: &Operation) -> Option<String> {
        match (self, &operation.needs) {
            (Self::None | Self::Empty | Self::Wrong, _) => None,
            (Self::Expired, _) => Some("late".to_owned()),
            (Self::OtherScript, _) => Some("elsewhere".to_owned()),
            (Self::Right, Needs::Scope(scope)) if is_apart(scope) => Some(format!("right-{scope}")),
            (Self::OtherScope, Needs::Scope(scope)) if is_apart(scope) => Some("right".to_owned()),
            (Self::OtherScope, Needs::Scope(scope) | Needs::NothingOr(scope)) => Some(format!("not-{scope}")),
            (Self::OtherScope | Self::Right, _) => Some("right".to_owned()),
        }
    }

    /// What must be decided; `unknown` is the code for a proof that nobody has.
    fn expected(self, operation: &Operation, unknown: &str) -> Expected {
        let caller = self.caller(operation);
        let is_wrong = matches!(self, Self::Empty | Self::Wrong | Self::Expired);
        let is_sent = self == Self::Empty || unknown == SENT;
        match operation.needs {
            Needs::Nothing => return Expected::Passed(None),
            // A wrong token that is sent is refused; what a connection shows of somebody who is unknown is not.
            Needs::NothingOr(_) if !(is_wrong && is_sent) => return Expected::Passed(caller),
            Needs::NothingOr(_) | Needs::Scope(_) => {}
        }
        let refused = |status, code: &str| Expected::Refused(caller.clone(), status, code.to_owned());
        match self {
            Self::None => refused(401, "token_missing"),
            Self::Empty => refused(401, "token_invalid"),
            Self::Wrong => refused(401, unknown),
            Self::Expired => refused(401, "token_expired"),
            Self::OtherScope => refused(403, "scope_missing"),
            Self::OtherScript if matches!(&operation.needs, Needs::Scope(scope) if is_apart(scope)) => {
                refused(403, "scope_missing")
            }
            Self::OtherScript if operation.names_something() => refused(404, "not_found"),
            Self::OtherScript | Self::Right => Expected::Passed(caller),
        }
    }
}

/// Asks an admin's service for something over its socket, whatever else it speaks.
fn over_socket(service: &Service, text: &str) -> Reply {
    exchange_over(connect_local(&service.site.path("agent.sock")), text.as_bytes())
}

fn described(service: &Service) -> Vec<Operation> {
    operations(&over_socket(service, &request_text("GET", "/openapi.json", None, None)).json())
}

/// A task of somebody else that has ended.
fn ended_task(service: &Service) -> String {
    let spec = json!({ "name": "hello.sh" });
    let text = request_text("POST", "/api/v1/tasks", Some(&Site::token("admin")), Some(&spec));
    let task = over_socket(service, &with_header(&text, "Prefer: wait=60"));
    assert_eq!((task.status, &task.json()["status"]), (200, &json!("succeeded")));
    task.id()
}

/// Asks a service for every operation by these kinds, and looks at each answer. `ask` adds the proof of a caller, or one
/// that is nobody's, and sends the request; what it leaves out is for another service. `unknown` is the code for a proof
/// that is nobody's.
fn try_all(
    service: &Service,
    (kinds, unknown): (&[Kind], &str),
    ask: impl Fn(Kind, Option<&str>, String) -> Option<Reply>,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    for operation in described(service) {
        let id = ended_task(service);
        for &kind in kinds {
            let target = operation.target(&id);
            let text = request_text(&operation.method, &target, None, operation.body().as_ref());
            let caller = kind.caller(&operation);
            let Some(reply) = ask(kind, caller.as_deref(), text) else { continue };
            let what = format!("{kind:?}: {} {target}: {} {}", operation.method, reply.status, reply.text());
            let expected = kind.expected(&operation, unknown);
            match &expected {
                Expected::Passed(_) => assert!(has_passed(&reply), "{what}"),
                Expected::Refused(_, status, code) => {
                    assert_eq!((reply.status, &reply.code()), (*status, code), "{what}");
                }
            }
            assert!(
                kind != Kind::OtherScript || operation.path.contains('{') || !reply.text().contains(&id),
                "{what}"
            );
            asked.push(Asked { operation: operation.clone(), target, kind, expected, reply });
        }
    }
    asked
}

/// Each decision has its one line, and nothing was started that should not have been. `from` is how the lines say from
/// where the requests came.
fn assert_told(service: &Service, asked: &[Asked], from: &str) {
    let lines = service.audit();
    for Asked { operation, target, kind, expected, reply } in asked {
        let what = format!("{kind:?}: {} {target}", operation.method);
        let id = reply.header("x-request-id").unwrap();
        // Each task that is cancelled among many has a line beside: one may not have ended yet.
        let is_beside = |line: &Value| target.contains(":cancel") && line["task"].is_string();
        let is_its = |line: &&Value| line["request"] == id && !is_beside(line);
        let found: Vec<&Value> = lines.iter().filter(is_its).collect();
        let showed_no_more =
            matches!(operation.needs, Needs::NothingOr(_)) && *expected == Expected::Passed(None);
        if operation.needs == Needs::Nothing || showed_no_more {
            assert!(found.is_empty(), "what everybody may have is no decision: {what}");
            continue;
        }
        let [line] = found.as_slice() else { panic!("{} lines: {what}", found.len()) };
        let (name, code) = match expected {
            Expected::Passed(name) => (name, (reply.status >= 400).then(|| reply.code())),
            Expected::Refused(name, _, code) => (name, Some(code.clone())),
        };
        let decision = if reply.status < 400 { "allowed" } else { "refused" };
        let path = target.split('?').next().unwrap();
        for (field, value) in [
            ("token", json!(name)),
            ("method", json!(operation.method)),
            ("path", json!(path)),
            ("decision", json!(decision)),
            ("status", json!(reply.status)),
        ] {
            assert_eq!(line[field], value, "{field}: {what}: {line}");
        }
        assert_eq!(line["code"], code.map_or(Value::Null, Value::from), "{what}: {line}");
        assert!(line["from"].as_str().unwrap().starts_with(from), "{what}: {line}");
    }
    let is_new = |asked: &&Asked| asked.reply.status == 202 && asked.reply.json()["created_by"] == "right";
    let admin = request_text("GET", "/api/v1/tasks?limit=1000", Some(&Site::token("admin")), None);
    let tasks = over_socket(service, &admin).json()["tasks"].as_array().unwrap().clone();
    let of = |name: &str| tasks.iter().filter(|task| task["created_by"] == name).count();
    assert_eq!((of("right"), of("admin")), (asked.iter().filter(is_new).count(), described(service).len()));
    let strangers: Vec<&Value> = tasks
        .iter()
        .filter(|task| !["right", "admin"].contains(&task["created_by"].as_str().unwrap()))
        .collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}

/// The settings of a service with these callers, each with a proof.
fn settings(proof: impl Fn(&str) -> String) -> String {
    let section = |(name, permits): &(&str, &str)| {
        format!("[[auth.token]]\nname = \"{name}\"\n{}\n{permits}\n", proof(name))
    };
    "[http]\nsocket = \"agent.sock\"\n".to_owned() + &CALLERS.iter().map(section).collect::<String>()
}

/// The request with a header more.
fn with_header(text: &str, header: &str) -> String {
    text.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

fn bearer(text: &str, token: &str) -> String {
    with_header(text, &format!("Authorization: Bearer {token}"))
}

#[test]
fn every_operation_by_every_kind_of_token() {
    let service = Site::new(&settings(|name| format!("sha256 = \"{}\"", Site::digest(name)))).start();
    let asked = try_all(&service, (&ALL, SENT), |kind, caller, text| {
        let text = match kind {
            Kind::None => text,
            Kind::Empty => bearer(&text, ""),
            _ => bearer(&text, &Site::token(caller.unwrap_or("nobody"))),
        };
        Some(exchange(service.at, text.as_bytes()))
    });
    assert_told(&service, &asked, "127.0.0.1:");
}

#[test]
fn every_operation_by_every_kind_of_certificate() {
    let authority = Authority::new();
    ["service", "nobody"].iter().for_each(|name| authority.issue(name, 365));
    let proof = |name: &str| {
        authority.issue(name, 365);
        format!("certificate_sha256 = \"{}\"", authority.fingerprint(name))
    };
    let service = tls_site(&authority, "service", &settings(proof)).start();
    let asked = try_all(&service, (&ALL, "certificate_unknown"), |kind, caller, text| {
        let (certificate, text) = match kind {
            Kind::None => (None, text),
            // What is sent decides, however good the certificate is.
            Kind::Empty => (Some("right"), bearer(&text, "")),
            _ => (Some(caller.unwrap_or("nobody")), text),
        };
        Some(exchange_over(tls_connect(service.at, &authority, certificate), text.as_bytes()))
    });
    assert_told(&service, &asked, "127.0.0.1:");
}

#[test]
fn every_operation_by_every_kind_of_user() {
    let own = geteuid().as_raw();
    // This test has one user, who is another caller of each service.
    for (user, kinds) in [
        ("nobody", &[Kind::None, Kind::Wrong][..]),
        ("late", &[Kind::Expired]),
        ("elsewhere", &[Kind::OtherScript]),
        ("not-run", &[Kind::OtherScope]),
        ("not-read", &[Kind::OtherScope]),
        ("not-cancel", &[Kind::OtherScope]),
        ("right", &[Kind::Empty, Kind::OtherScope, Kind::Right]),
        ("right-admin", &[Kind::Right]),
        ("right-node", &[Kind::Right]),
    ] {
        let proof = |name: &str| {
            let place = CALLERS.iter().zip(1..).find(|((caller, _), _)| *caller == name).unwrap().1;
            format!("peer_uids = [{}]", if name == user { own } else { own + place })
        };
        let service = Site::new(&settings(proof)).start();
        let asked = try_all(&service, (kinds, "token_missing"), |kind, caller, text| {
            let text = if kind == Kind::Empty { bearer(&text, "") } else { text };
            caller.is_none_or(|caller| caller == user).then(|| over_socket(&service, &text))
        });
        assert!(!asked.is_empty(), "{user}: {} requests", asked.len());
        assert_told(&service, &asked, &format!("unix:uid={own},pid={}", std::process::id()));
    }
}

#[test]
fn the_twins_whose_callers_may_more_than_they_should_are_noticed() {
    let right = settings(|name| format!("sha256 = \"{}\"", Site::digest(name)));
    for (kind, from, to) in [
        (Kind::OtherScript, "scripts = [\"deploy/*\"]", "scripts = [\"**\"]"),
        (Kind::OtherScope, "scopes = [\"run\", \"cancel\"]", "scopes = [\"run\", \"read\"]"),
        (Kind::Expired, "expires = \"2020-01-01T00:00:00Z\"", "scripts = [\"**\"]"),
    ] {
        for (settings, is_right) in [(right.clone(), true), (right.replacen(from, to, 1), false)] {
            let service = Site::new(&settings).start();
            let tried = AssertUnwindSafe(|| {
                try_all(&service, (&[kind], SENT), |_, caller, text| {
                    let text = bearer(&text, &Site::token(caller.unwrap()));
                    Some(exchange(service.at, text.as_bytes()))
                })
            });
            assert_eq!(catch_unwind(tried).is_ok(), is_right, "{kind:?}");
        }
    }
}
