//! What a node believes: assignments of its API server, for itself, in their time, as they were signed; and how both ends
//! know each other.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use agent_fleet::assignment::{Disbelief, Order, SignedAssignment, sign, verify};
use agent_fleet::greeting::{Stranger, challenge, check_challenge, check_hello, sign_hello};
use agent_fleet::keys::{KeyError, NodeKeys, Nonce, SigningKey};
use agent_fleet::message::Hello;
use jiff::{SignedDuration, Timestamp};
use task_runners::ExposeSecret;
use task_service::TaskSpec;
use tempfile::TempDir;

struct Keys {
    _folder: TempDir,
    server: SigningKey,
    node: NodeKeys,
}

fn keys() -> Keys {
    let folder = tempfile::tempdir().unwrap();
    let server = SigningKey::open(&folder.path().join("server.key")).unwrap();
    let node = NodeKeys::open(&folder.path().join("node.key")).unwrap();
    Keys { _folder: folder, server, node }
}

fn two_keys() -> (Keys, Keys) {
    (keys(), keys())
}

fn spec() -> TaskSpec {
    let mut spec = TaskSpec::new("deploy/web.sh");
    spec.params.insert("env".to_owned(), "prod".into());
    spec.secrets.set("token", "c4n4ry".to_owned().into());
    spec
}

fn signed(keys: &Keys, spec: &TaskSpec, now: Timestamp) -> SignedAssignment {
    let task = "t-1".parse().unwrap();
    let order = Order {
        node: "db-1",
        node_key: keys.node.public(),
        sealing: keys.node.sealing_key(),
        task: &task,
        nonce: Nonce::random().unwrap(),
        script_sha256: None,
        spec,
        created_by: "ci",
        accepted: now,
    };
    sign(&keys.server, &order, now).unwrap()
}

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn a_node_believes_its_api_server_and_opens_what_was_sealed_to_it() {
    let keys = keys();
    let signed = signed(&keys, &spec(), now());
    let believed = verify(&signed, &[keys.server.public()], "db-1", &keys.node, now()).unwrap();
    assert_eq!(believed.spec, spec());
    assert_eq!(believed.spec.secrets.get("token").unwrap().expose_secret(), "c4n4ry");
    assert_eq!((believed.created_by.as_str(), believed.task.as_str()), ("ci", "t-1"));
}

#[test]
fn a_secret_is_on_the_link_in_no_form() {
    let keys = keys();
    let signed = signed(&keys, &spec(), now());
    let text = format!("{signed:?} {}", serde_json::to_string(&signed).unwrap());
    for form in ["c4n4ry", "YzRuNHJ5", "63346e347279"] {
        assert!(!text.contains(form), "{text}");
    }
    // The same search finds what is no secret.
    assert!(text.contains("prod"));
}

#[test]
fn each_changed_byte_of_what_was_signed_is_noticed() {
    let keys = keys();
    let trusted = [keys.server.public()];
    let signed = signed(&keys, &spec(), now());
    for at in 0..signed.payload.len() {
        let mut bytes = signed.payload.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(payload) = String::from_utf8(bytes) else { continue };
        let changed = SignedAssignment { payload, ..signed.clone() };
        assert_eq!(verify(&changed, &trusted, "db-1", &keys.node, now()), Err(Disbelief::Signature), "{at}");
    }
}

#[test]
fn nothing_is_believed_of_another_api_server_or_for_another_node() {
    let (keys, other) = two_keys();
    let trusted = [keys.server.public()];
    let believed = |signed: &SignedAssignment, name: &str, node: &NodeKeys| {
        verify(signed, &trusted, name, node, now()).map(drop).map_err(|why| why.code())
    };
    let stranger = Keys { server: other.server, ..keys };
    assert_eq!(
        believed(&signed(&stranger, &spec(), now()), "db-1", &stranger.node),
        Err("assignment_signature")
    );
    let keys =
        Keys { server: SigningKey::open(&stranger._folder.path().join("server.key")).unwrap(), ..stranger };
    let signed = signed(&keys, &spec(), now());
    assert_eq!(believed(&signed, "db-1", &keys.node), Ok(()));
    assert_eq!(believed(&signed, "db-2", &keys.node), Err("assignment_other_node"));
    assert_eq!(believed(&signed, "db-1", &other.node), Err("assignment_other_node"));
    assert_eq!(verify(&signed, &[], "db-1", &keys.node, now()), Err(Disbelief::Signature));
}

#[test]
fn an_assignment_is_believed_in_its_time_only() {
    let keys = keys();
    let trusted = [keys.server.public()];
    let signed = signed(&keys, &spec(), now());
    for (minutes, expected) in [(-6, false), (-4, true), (0, true), (9, true), (10, false), (24 * 60, false)]
    {
        let at = now() + SignedDuration::from_mins(minutes);
        let believed = verify(&signed, &trusted, "db-1", &keys.node, at);
        assert_eq!(believed.is_ok(), expected, "{minutes} minutes");
        assert!(expected || matches!(believed, Err(Disbelief::Time { .. })));
    }
}

fn hello(keys: &Keys, nonce: Nonce) -> Hello {
    Hello {
        version: 1,
        nonce,
        name: "db-1".to_owned(),
        agent: "0.1.0".to_owned(),
        key: keys.node.public(),
        sealing: keys.node.sealing_key(),
        labels: [("role".to_owned(), "db".to_owned())].into(),
        runners: vec!["script".to_owned()],
        capacity: 4,
        catalogue: String::new(),
        unsettled: Vec::new(),
        opens: None,
    }
}

#[test]
fn both_ends_know_each_other_by_their_keys() {
    let (keys, other) = two_keys();
    let asked = challenge(&keys.server).unwrap();
    assert_eq!(check_challenge(&asked, &[]), Ok(()));
    assert_eq!(check_challenge(&asked, &[keys.server.public()]), Ok(()));
    let changed = check_challenge(&asked, &[other.server.public()]).unwrap_err();
    assert_eq!(changed.code(), "server_key_changed");
    let borrowed = agent_fleet::message::Challenge { key: other.server.public(), ..asked.clone() };
    assert_eq!(check_challenge(&borrowed, &[other.server.public()]), Err(Stranger::Unproven));

    let answer = sign_hello(&keys.node, &hello(&keys, asked.nonce)).unwrap();
    assert_eq!(check_hello(&answer, &asked, "db-1").unwrap(), hello(&keys, asked.nonce));
    assert_eq!(check_hello(&answer, &asked, "web-1").unwrap_err().code(), "node_name");
    // An answer that was recorded answers no other challenge, and nobody else can sign it.
    let later = challenge(&keys.server).unwrap();
    assert_eq!(check_hello(&answer, &later, "db-1"), Err(Stranger::Unproven));
    let forged = sign_hello(&other.node, &hello(&keys, asked.nonce)).unwrap();
    assert_eq!(check_hello(&forged, &asked, "db-1"), Err(Stranger::Unproven));
    let newer = sign_hello(&keys.node, &Hello { version: 2, ..hello(&keys, asked.nonce) }).unwrap();
    assert_eq!(check_hello(&newer, &asked, "db-1"), Err(Stranger::Version { found: 2 }));
}

#[test]
fn keys_stay_what_they_are_and_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node").join("node.key");
    let made = NodeKeys::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = NodeKeys::open(&path).unwrap();
    assert_eq!((made.public(), made.sealing_key()), (again.public(), again.sealing_key()));
    let text = fs::read_to_string(&path).unwrap();
    let shown = format!("{made:?}");
    let secrets: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in ["ed25519", "x25519"] {
        assert!(!shown.contains(secrets[name].as_str().unwrap()), "{shown}");
    }

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(NodeKeys::open(&path), Err(KeyError::Open { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "{}").unwrap();
    assert!(matches!(NodeKeys::open(&path), Err(KeyError::Damaged { .. })));
    let link = folder.path().join("link.key");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(NodeKeys::open(&link), Err(KeyError::Io { .. })));
}
