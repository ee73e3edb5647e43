//! `token create`: a token for its owner, and a section that the configuration accepts as it is.

use std::fs;

use agent_config::{Scope, Settings, Sources, TokenDigest};

use crate::support::Site;

#[test]
fn the_section_is_accepted_and_holds_the_digest_of_the_token() {
    let site = Site::new();
    let ended = site.ended([
        "token",
        "create",
        "--name",
        "ci",
        "--scope",
        "run",
        "--scope",
        "read",
        "--script",
        "deploy/*",
        "--script",
        "**",
        "--work-dir",
        "web",
        "--env",
        "DEPLOY_*",
        "--expires",
        "2099-01-01T00:00:00Z",
    ]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let token = ended.text().trim().to_owned();
    let section = &ended.stderr[ended.stderr.find("[[auth.token]]").unwrap()..];
    assert!(!ended.stderr.contains(&token), "it is shown once, on standard output");

    let file = site.path("service.toml");
    fs::write(&file, section).unwrap();
    let mut sources = Sources::new(site.path(""), 0);
    sources.config_file = Some(file);
    let settings = Settings::load(sources).expect("the section is a configuration").settings;
    let [made] = settings.auth.tokens.try_into().unwrap();
    assert_eq!(made.name, "ci");
    assert_eq!(made.sha256.unwrap().as_bytes(), TokenDigest::of_token(&token).as_bytes());
    assert_eq!(made.scopes, [Scope::Run, Scope::Read].into());
    assert_eq!((made.scripts, made.work_dirs), (vec!["deploy/*".into(), "**".into()], vec!["web".into()]));
    assert_eq!(made.env, ["DEPLOY_*"]);
    assert_eq!(made.expires.unwrap().to_string(), "2099-01-01T00:00:00Z");
}

#[test]
fn the_digest_is_the_one_that_sha256sum_prints() {
    let site = Site::new();
    let json = site.ended(["token", "create", "--name", "a", "--scope", "admin", "--json"]).json();
    let token = json["token"].as_str().unwrap();
    fs::write(site.path("token"), token).unwrap();
    let mut sum = std::process::Command::new("sha256sum");
    let printed = crate::support::Ended::of(sum.arg(site.path("token"))).text();
    assert_eq!(printed.split(' ').next(), json["sha256"].as_str());
    assert!(json["section"].as_str().unwrap().contains(json["sha256"].as_str().unwrap()));
}

#[test]
fn no_two_tokens_are_alike() {
    let site = Site::new();
    let make = || site.ended(["token", "create", "--name", "a", "--scope", "read"]).text();
    let (first, second) = (make(), make());
    assert_ne!(first, second);
    assert!(first.trim().len() >= 32 && first.trim().chars().all(|c| c.is_ascii_graphic()), "{first}");
}

#[test]
fn what_the_configuration_would_not_accept_is_refused_before_a_token_is_shown() {
    let site = Site::new();
    for (args, said) in [
        (&["--name", "ci", "--scope", "root"][..], "one of run, read, cancel, admin, node"),
        (&["--name", "a b", "--scope", "run"], "name"),
        (&["--name", "", "--scope", "run"], "name"),
        (&["--name", "ci", "--scope", "run", "--script", "../x"], "scripts"),
        (&["--name", "ci", "--scope", "run", "--env", "A B"], "env"),
        (&["--name", "ci", "--scope", "run", "--work-dir", "../up"], "work_dirs"),
        (&["--name", "ci", "--scope", "run", "--expires", "soon"], "expires"),
    ] {
        let ended = site.ended([&["token", "create"], args].concat());
        assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
}
