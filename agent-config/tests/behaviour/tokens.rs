//! `[[auth.token]]`: what is read, and that digests never show.

use std::time::{Duration, Instant};

use agent_config::Scope;

use crate::Place;

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

#[test]
fn a_token_is_read_with_all_that_it_permits() {
    let text = format!(
        "[[auth.token]]\nname = \"ci\"\nsha256 = \"{DIGEST}\"\nscopes = [\"run\", \"read\"]\n\
         scripts = [\"deploy/*\"]\nwork_dirs = [\"web\"]\nenv = [\"DEPLOY_*\"]\nexpires = 2027-01-01T00:00:00+01:00\n\
         [[auth.token]]\nname = \"ops\"\nsha256 = \"{}\"\nscopes = [\"admin\"]\n",
        "ab".repeat(32)
    );
    let loaded = Place::new().load(&text).unwrap();
    let [ci, ops] = loaded.settings.auth.tokens.as_slice() else {
        panic!("two tokens are expected");
    };
    assert_eq!(ci.name, "ci");
    assert_eq!(ci.sha256.unwrap().as_bytes()[..3], [0x00, 0x11, 0x22]);
    assert_eq!(ci.scopes.iter().copied().collect::<Vec<_>>(), [Scope::Run, Scope::Read]);
    assert_eq!(ci.scripts, ["deploy/*"]);
    assert_eq!(ci.work_dirs, ["web"]);
    assert_eq!(ci.env, ["DEPLOY_*"]);
    assert_eq!(ci.expires.unwrap().to_string(), "2026-12-31T23:00:00Z");
    assert_eq!(ops.sha256.unwrap().as_bytes(), &[0xab; 32]);
    assert!(ops.scripts.is_empty() && ops.work_dirs.is_empty() && ops.env.is_empty());
    assert_eq!(ops.expires, None);
    assert!(loaded.origins.contains_key("auth.token.ops"));
}

#[test]
fn users_of_this_host_prove_who_calls_where_there_is_a_socket_and_nobody_is_two_callers() {
    let place = Place::new();
    let section =
        |name: &str, lines: &str| format!("[[auth.token]]\nname = \"{name}\"\nscopes = [\"run\"]\n{lines}\n");
    let socket = "[http]\nsocket = \"agent.sock\"\nsocket_mode = \"0660\"\nsocket_group = \"ops\"\n";
    let peers = section("one", "peer_users = [\"deploy\", \"ops\"]\nconcurrent = 4")
        + &section("two", "peer_uids = [0, 1000]\nconcurrent = 0");
    let settings = place.load(&format!("{socket}{peers}")).unwrap().settings;
    let [one, two] = settings.auth.tokens.as_slice() else { panic!("two tokens are expected") };
    assert_eq!(
        (one.peer_users.as_slice(), one.concurrent),
        (["deploy", "ops"].map(str::to_owned).as_slice(), Some(4))
    );
    assert_eq!((two.peer_uids.as_slice(), two.concurrent), ([0, 1000].as_slice(), None));
    assert!(one.has_peers() && two.has_peers() && one.sha256.is_none());
    assert_eq!(settings.http.socket, Some(place.path().join("agent.sock")));
    assert_eq!((settings.http.socket_mode, settings.http.socket_group.as_deref()), (0o660, Some("ops")));
    for (text, words) in [
        (peers.clone(), "peer_users or peer_uids is given and http.socket is not"),
        ("[http]\nsocket_group = \"ops\"\n".to_owned(), "http.socket_group is given and http.socket is not"),
        (format!("[http]\nsocket = \"/{}\"\n", "x".repeat(107)), "a path of at most 107 bytes"),
        ("[http]\nsocket_mode = \"0777\"\n".to_owned(), "who may read and write the socket"),
        (socket.to_owned() + &section("x", "peer_uids = [65534]"), "the number of a user"),
        (socket.to_owned() + &section("x", "peer_uids = [4294967295]"), "the number of a user"),
        (socket.to_owned() + &section("x", "peer_uids = [-1]"), "the number of a user"),
        (socket.to_owned() + &section("x", "peer_uids = []"), "at least one user"),
        (socket.to_owned() + &section("x", "peer_users = [\"a b\"]"), "the name of a user"),
        (socket.to_owned() + &section("x", "concurrent = -1"), "a whole number from 0 to 1000000"),
        (
            socket.to_owned() + &peers + &section("x", "peer_uids = [1000]"),
            "the same uid as the token \"two\"",
        ),
        (
            socket.to_owned() + &peers + &section("x", "peer_users = [\"ops\"]"),
            "the same user as the token \"one\"",
        ),
    ] {
        let complaint = place.complaint(&text);
        assert!(complaint.contains(words), "{words}: {complaint}");
    }
}

#[test]
fn each_mistake_of_a_token_is_told() {
    let good = format!("sha256 = \"{DIGEST}\"\nscopes = [\"run\"]\n");
    let other = format!("sha256 = \"{}\"\nscopes = [\"run\"]\n", "cd".repeat(32));
    let text = format!(
        "[[auth.token]]\nname = \"ci\"\n{good}\
         [[auth.token]]\nname = \"ci\"\n{other}\
         [[auth.token]]\nname = \"cd\"\n{good}\
         [[auth.token]]\nscope = [\"run\"]\n\
         [[auth.token]]\nname = \"../x\"\nsha256 = \"short\"\nscopes = []\n\
         scripts = [\"deploy/*\", \"/etc/*\", 5]\nwork_dirs = [\"a/b\"]\nenv = [\"A*B\"]\nexpires = 2027-01-01\n\
         [[auth.token]]\nname = \"x\"\nsha256 = 7\nscopes = [\"everything\"]\nexpires = \"tomorrow\"\n"
    );
    insta::assert_snapshot!(Place::new().complaint(&text));
}

/// Each is compared with all others: one by one that would be two thousand million comparisons, and minutes.
#[test]
fn tokens_of_tens_of_thousands_of_nodes_are_read_in_seconds_and_one_that_is_there_twice_is_found() {
    let token = |name: u32, digest: u32| {
        format!("[[auth.token]]\nname = \"n{name}\"\nsha256 = \"{digest:064x}\"\nscopes = [\"node\"]\n")
    };
    let mut text: String = (0..60_000).map(|number| token(number, number)).collect();
    let (place, began) = (Place::new(), Instant::now());
    assert_eq!(place.load(&text).unwrap().settings.auth.tokens.len(), 60_000);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    text += &token(60_000, 59_999);
    assert!(place.complaint(&text).contains("auth.token.sha256: the same digest as the token \"n59999\""));
}

#[test]
fn connect_is_no_nodes_name() {
    let place = Place::new();
    let token = |name: &str, scopes: &str| {
        place
            .load(&format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{DIGEST}\"\nscopes = [{scopes}]\n"))
    };
    for scopes in ["\"node\"", "\"read\", \"node\"", "\"admin\""] {
        let complaint = token("connect", scopes).unwrap_err().to_string();
        assert!(complaint.contains(":1:1: auth.token.connect: "), "{complaint}");
        assert!(complaint.contains("`connect` is no node's name; expected another name"), "{complaint}");
        assert!(token("connect-1", scopes).is_ok());
    }
    // Who cannot be a node may be called so.
    assert!(token("connect", "\"run\", \"read\", \"cancel\"").is_ok());
    let node = |name: &str| {
        format!("[node]\napi_server = \"ws://127.0.0.1:1\"\nname = \"{name}\"\ntoken_file = \"t\"\n")
    };
    assert!(place.load(&node("connected")).is_ok());
    let complaint = place.complaint(&node("connect"));
    assert!(complaint.contains(":3:8: node.name: found \"connect\"; expected a name of"), "{complaint}");
    assert!(complaint.contains("`connect` is no node's name"), "{complaint}");
}

#[test]
fn a_single_bracket_is_told_from_a_double_one() {
    let complaint = Place::new().complaint("[auth.token]\nname = \"ci\"\n");
    assert!(complaint.contains("in double brackets"), "{complaint}");
}

#[test]
fn digests_and_variables_show_in_no_debug_form() {
    let place = Place::new();
    let text = format!(
        "[[auth.token]]\nname = \"ci\"\nsha256 = \"{DIGEST}\"\nscopes = [\"run\"]\n\
         [script_executor.env]\nAPI_KEY = \"canary-value\"\n"
    );
    let loaded = place.load(&text).unwrap();
    for shown in [format!("{loaded:?}"), format!("{loaded:#?}")] {
        assert!(shown.contains("ci") && shown.contains("API_KEY"));
        assert!(!shown.to_lowercase().contains("00112233"), "{shown}");
        assert!(!shown.contains("17, 34"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

/// Somebody who writes the token where its digest belongs must not find it in a log.
#[test]
fn a_token_in_the_place_of_its_digest_is_not_repeated() {
    let text = "[[auth.token]]\nname = \"ci\"\nsha256 = \"canary-token\"\nscopes = [\"run\"]\n\
                [script_executor.env]\nA = [\"canary-list\"]\nB = \"canary\\u0000nul\"\n\
                [http]\nport = \"shown\"\n";
    let place = Place::new();
    let error = place.load(text).unwrap_err();
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("12 characters"), "{shown}");
        assert!(shown.contains("shown"), "{shown}");
    }
}
