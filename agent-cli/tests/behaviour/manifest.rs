//! `manifest create`, `verify`, `sign`, `keygen`: what they make is what `sha256sum` and `minisign` take, and the
//! other way round.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use insta::assert_snapshot;

use crate::support::{Ended, Site, program, write};

fn site() -> Site {
    let site = Site::new();
    site.script("deploy/web.sh", "#!/bin/sh\necho \"$TASK_SCRIPT_DIR\"\n");
    write(&site.path("scripts/lib/common.sh"), "say() { echo \"$1\"; }\n", 0o644);
    site
}

/// A site with keys that need no password, and its public key.
fn signed_site() -> (Site, String) {
    let site = site();
    let made = site.ended(["manifest", "keygen", "--no-password"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    let signed = site.ended(["manifest", "sign", "--key", "minisign.key"]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    (site, made.text().trim().to_owned())
}

/// Runs Debian's minisign in the site's folder.
fn minisign(site: &Site, args: &[&str]) -> Ended {
    program(Command::new("minisign").args(args).current_dir(site.path("")), "minisign")
}

#[test]
fn sha256sum_checks_what_create_wrote() {
    let site = site();
    let ended = site.ended(["manifest", "create"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.text().trim(), site.path("scripts/MANIFEST.sha256").to_str().unwrap());
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", "MANIFEST.sha256"]).current_dir(site.path("scripts"));
        program(&mut command, "coreutils")
    };
    let checked = check();
    assert_eq!(
        (checked.code, checked.text().as_str()),
        (Some(0), "deploy/web.sh: OK\nlib/common.sh: OK\n"),
        "{}",
        checked.stderr
    );
    site.script("deploy/web.sh", "#!/bin/sh\necho changed\n");
    assert_eq!(check().code, Some(1));
}

#[test]
fn the_command_that_a_refused_older_manifest_is_told_mends_it() {
    let site = site();
    site.script("hello.sh", "#!/bin/sh\necho hello\n");
    assert_eq!(site.ended(["manifest", "create", "--at-least", "7"]).code, Some(0));
    assert_eq!(site.ended(["run", "hello.sh"]).code, Some(0));
    fs::remove_file(site.path("scripts/MANIFEST.sha256")).unwrap();
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    let refused = site.ended(["run", "hello.sh"]);
    assert_eq!(refused.code, Some(126));
    assert!(refused.stderr.contains("agent-cli manifest create --at-least 8 "), "{}", refused.stderr);
    assert_eq!(site.ended(["manifest", "create", "--at-least", "8"]).code, Some(0));
    let ended = site.ended(["run", "hello.sh"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn create_says_what_it_made_and_its_version_only_grows() {
    let site = site();
    for version in 1..=3 {
        let ended = site.ended(["manifest", "create"]);
        assert!(ended.stderr.contains(&format!("2 files, version {version}, ")), "{}", ended.stderr);
    }
    let ended = site.ended(["manifest", "create", "--expires", "2000-01-01T00:00:00Z"]);
    assert_ne!(ended.code, Some(0), "what has expired already helps nobody: {}", ended.stderr);
    let ended = site.ended(["manifest", "create", "--expires", "next week"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("2027-01-01T00:00:00Z"), "{}", ended.stderr);
}

#[test]
fn verify_says_what_is_verified_and_names_everything_that_is_not() {
    let site = site();
    site.ended(["manifest", "create"]);
    let ended = site.ended(["manifest", "verify"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_snapshot!(site.plain(&ended.text()), @"[site]/scripts: verified, 2 files, version 1, not checked for a signature, digest [sha256]");
    site.script("deploy/web.sh", "#!/bin/sh\necho changed\n");
    site.script("extra.sh", "#!/bin/sh\n");
    fs::remove_file(site.path("scripts/lib/common.sh")).unwrap();
    let ended = site.ended(["manifest", "verify", "scripts"]);
    assert_eq!(ended.code, Some(1));
    assert_snapshot!("verify_names_everything", site.plain(&ended.stderr));
}

#[test]
fn what_the_agent_signs_minisign_verifies() {
    let (site, key) = signed_site();
    let verify = || minisign(&site, &["-V", "-P", &key, "-m", "scripts/MANIFEST.sha256"]);
    let verified = verify();
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(verified.text().contains("Signature and comment signature verified"), "{}", verified.text());
    let by_file = minisign(&site, &["-V", "-p", "minisign.pub", "-m", "scripts/MANIFEST.sha256"]);
    assert_eq!(by_file.code, Some(0), "{}", by_file.stderr);
    site.ended(["manifest", "create"]);
    assert_eq!(verify().code, Some(1), "the new manifest has another signature");
}

#[test]
fn what_minisign_signs_the_agent_verifies() {
    let (site, other_key) = signed_site();
    let made = minisign(&site, &["-G", "-W", "-p", "debian.pub", "-s", "debian.key"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let signed = minisign(&site, &["-S", "-s", "debian.key", "-m", "scripts/MANIFEST.sha256"]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    let key = fs::read_to_string(site.path("debian.pub")).unwrap().lines().nth(1).unwrap().to_owned();
    let ended = site.ended(["manifest", "verify", "--public-key", &key]);
    assert!(ended.code == Some(0) && ended.text().contains("signed by "), "{ended:?}");
    let ended = site.ended(["manifest", "verify", "--public-key", &other_key]);
    assert!(ended.code == Some(1) && ended.stderr.contains("wrong_key"), "{ended:?}");
    // A key of theirs signs by our command too.
    let ended = site.ended(["manifest", "sign", "--key", "debian.key"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(site.ended(["manifest", "verify", "--public-key", &key]).code, Some(0));
}

#[test]
fn a_key_with_a_password_signs_only_with_it() {
    let site = site();
    site.ended(["manifest", "create"]);
    fs::write(site.path("password"), "correct horse\n").unwrap();
    fs::write(site.path("wrong"), "battery staple\n").unwrap();
    fs::write(site.path("empty"), "").unwrap();
    let made = site.ended(["manifest", "keygen", "--password-file", "password"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let sign = |args: &[&str]| site.ended([&["manifest", "sign", "--key", "minisign.key"], args].concat());
    let refused = sign(&[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--password-file"), "{}", refused.stderr);
    for bad in ["wrong", "empty", "no-such-file"] {
        assert_eq!(sign(&["--password-file", bad]).code, Some(1), "{bad}");
    }
    assert!(!site.path("scripts/MANIFEST.sha256.minisig").exists());
    let signed = sign(&["--password-file", "password"]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    let key = made.text().trim().to_owned();
    assert_eq!(minisign(&site, &["-V", "-P", &key, "-m", "scripts/MANIFEST.sha256"]).code, Some(0));
    // It does not ask on a terminal that is not there, nor take the password from an argument.
    assert_eq!(site.ended(["manifest", "keygen", "--secret", "other.key"]).code, Some(2));
}

#[test]
fn a_password_may_come_from_standard_input() {
    let site = site();
    let mut command = site.agent(["manifest", "keygen", "--password-file", "-"]);
    fs::write(site.path("password"), "correct horse\n").unwrap();
    let made = Ended::of(command.stdin(fs::File::open(site.path("password")).unwrap()));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    site.ended(["manifest", "create"]);
    let signed = site.ended(["manifest", "sign", "--key", "minisign.key", "--password-file", "password"]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
}

#[test]
fn a_secret_key_is_readable_by_its_owner_only_and_never_overwritten() {
    let site = site();
    site.ended(["manifest", "keygen", "--no-password"]);
    let secret = site.path("minisign.key");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&secret).unwrap();
    let ended = site.ended(["manifest", "keygen", "--no-password"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("minisign.key"), "{}", ended.stderr);
    assert_eq!(fs::read(&secret).unwrap(), before);
}

#[test]
fn what_runs_is_the_verified_copy_and_the_result_names_its_manifest() {
    let site = site();
    assert_eq!(site.task(&["deploy/web.sh"])["result"]["manifest"], serde_json::Value::Null);
    site.ended(["manifest", "create"]);
    let result = &site.task(&["deploy/web.sh"])["result"];
    let digest = result["manifest"].as_str().unwrap();
    assert!(site.ended(["manifest", "verify"]).text().trim().ends_with(&format!("digest {digest}")));
    let copy = site.ended(["run", "deploy/web.sh"]).text();
    assert_eq!(copy.trim(), site.path("state/store").canonicalize().unwrap().join(digest).to_str().unwrap());
}

#[test]
fn a_site_with_keys_runs_only_what_they_signed() {
    let (site, key) = signed_site();
    let settings = format!("[script_executor]\nmanifest_public_keys = [\"{key}\"]\n");
    fs::write(site.path("application.toml"), settings).unwrap();
    assert_eq!(site.ended(["run", "deploy/web.sh"]).code, Some(0));
    assert!(site.ended(["manifest", "verify"]).text().contains("signed by "));
    site.ended(["manifest", "create"]);
    let ended = site.ended(["run", "deploy/web.sh"]);
    assert_eq!(ended.code, Some(126), "the signature is of the manifest before: {}", ended.stderr);
    assert!(ended.stderr.contains("[bad_signature]"), "{}", ended.stderr);
    site.ended(["manifest", "sign", "--key", "minisign.key"]);
    assert_eq!(site.ended(["run", "deploy/web.sh"]).code, Some(0));
}

#[test]
fn a_folder_that_was_verified_once_is_not_run_without_its_manifest() {
    let site = site();
    site.ended(["manifest", "create"]);
    assert_eq!(site.ended(["run", "deploy/web.sh"]).code, Some(0));
    fs::remove_file(site.path("scripts/MANIFEST.sha256")).unwrap();
    let ended = site.ended(["run", "deploy/web.sh"]);
    assert!(ended.code == Some(126) && ended.stderr.contains("[no_manifest]"), "{}", ended.stderr);
}
