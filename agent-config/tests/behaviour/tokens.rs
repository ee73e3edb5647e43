//! `[[auth.token]]`: what is read, and that digests never show.

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
