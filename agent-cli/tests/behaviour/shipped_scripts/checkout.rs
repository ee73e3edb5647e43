//! `git_checkout.sh`, on repositories that the tests make, over `file://`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Place, SEARCH_PATH, run, write_program};

/// Runs git in a folder without any configuration of this host, and gives what it prints.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=Test", "-c", "user.email=test@example.com"]);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.args(arguments).output().expect("git must be installed for this test");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository `origin.git` of two commits outside the workspace, tag `v1` on the first; its URL.
pub(super) fn origin(place: &Place) -> String {
    let folder = place.scratch.path().join("origin.git");
    fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(place, "one");
    git(&folder, &["tag", "v1"]);
    commit(place, "two");
    format!("file://{}", folder.display())
}

/// Adds a commit with `text` in the file `content`, and gives its name.
fn commit(place: &Place, text: &str) -> String {
    let folder = place.scratch.path().join("origin.git");
    fs::write(folder.join("content"), text).unwrap();
    git(&folder, &["add", "content"]);
    git(&folder, &["commit", "--quiet", "-m", text]);
    git(&folder, &["rev-parse", "HEAD"])
}

fn content(place: &Place, checkout: &str) -> String {
    fs::read_to_string(place.path(checkout).join("content")).unwrap()
}

#[test]
fn a_repository_is_cloned_and_updated_at_branch_tag_and_commit() {
    let place = Place::new();
    let url = origin(&place);
    let checkout = |arguments: &[&str]| run("git_checkout.sh", arguments, &place, SEARCH_PATH);

    let ran = checkout(&[&url]);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(content(&place, "origin"), "two");
    let folder = place.path("origin").canonicalize().unwrap();
    assert_eq!(ran.params["PATH_"], folder.display().to_string());
    assert_eq!(ran.params["COMMIT"], git(&folder, &["rev-parse", "HEAD"]));
    assert_eq!(ran.params["REF"], "HEAD");

    let third = commit(&place, "three");
    place.write("origin/content", "changed by somebody");
    place.write("origin/untracked", "");
    let ran = checkout(&["--ref", "main", &url]);
    assert_eq!((ran.code, ran.params["COMMIT"].as_str()), (Some(0), third.as_str()), "{}", ran.text);
    assert_eq!(content(&place, "origin"), "three");
    assert!(place.path("origin/untracked").exists());

    let ran = checkout(&["--ref=v1", "--clean", &url]);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(content(&place, "origin"), "one");
    assert!(!place.path("origin/untracked").exists());

    let ran = checkout(&["--ref", &third, "--dest", "apps/web", &url]);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(content(&place, "apps/web"), "three");
}

#[test]
fn depth_cuts_the_history_and_without_it_all_of_it_comes() {
    let place = Place::new();
    let url = origin(&place);
    let commits = || git(&place.path("origin"), &["rev-list", "--count", "HEAD"]);
    let ran = run("git_checkout.sh", &["--depth", "1", &url], &place, SEARCH_PATH);
    assert_eq!((ran.code, commits().as_str()), (Some(0), "1"), "{}", ran.text);
    let ran = run("git_checkout.sh", &[&url], &place, SEARCH_PATH);
    assert_eq!((ran.code, commits().as_str()), (Some(0), "2"), "{}", ran.text);
}

#[test]
fn what_cannot_be_fetched_fails_and_leaves_nothing_behind() {
    let place = Place::new();
    let url = origin(&place);
    for arguments in [vec!["file:///nonexistent/repository"], vec!["--ref", "no-such-branch", &url]] {
        let ran = run("git_checkout.sh", &arguments, &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(1), "{}", ran.text);
        assert!(ran.text.contains("git_checkout.sh: git could not fetch"), "{}", ran.text);
        assert_eq!(fs::read_dir(place.workspace()).unwrap().count(), 0);
        assert!(ran.params.is_empty());
    }
}

/// URLs, then refs, that git would take for options or for commands to run.
const HOSTILE_URLS: [&str; 9] = [
    "--upload-pack=touch planted;",
    "-utouch planted;",
    "ext::sh -c 'touch planted'",
    "ssh://-oProxyCommand=touch planted/x",
    "ssh://-oProxyCommand=touch${IFS}planted/x",
    "host.invalid:path",
    "http://127.0.0.1:9/x",
    "file://relative/path",
    "fd::0",
];
const HOSTILE_REFS: [&str; 9] = [
    "--upload-pack=touch planted;",
    "-utouch planted;",
    "main:refs/heads/other",
    "+main",
    "a..b",
    "^main",
    "refs/*",
    "a b",
    "",
];

#[test]
fn options_and_commands_in_url_and_ref_are_refused() {
    let place = Place::new();
    let url = origin(&place);
    let hostile_urls = HOSTILE_URLS.map(|url| ["--dest=x".to_owned(), "--".to_owned(), url.to_owned()]);
    let hostile_refs = HOSTILE_REFS.map(|name| [format!("--ref={name}"), "--dest=x".to_owned(), url.clone()]);
    for arguments in hostile_urls.into_iter().chain(hostile_refs) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = run("git_checkout.sh", &arguments, &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.text);
        assert!(ran.text.contains("; use ") && ran.text.contains("not a "), "{arguments:?}: {}", ran.text);
        assert_eq!(fs::read_dir(place.workspace()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn an_unchecked_ref_before_the_end_of_options_runs_a_command() {
    let place = Place::with_weakened(
        "git_checkout.sh",
        &[("check_ref\ncheck_dest", "check_dest"), ("-- \"$url\" \"$ref\"", "\"$url\" \"$ref\"")],
    );
    let url = origin(&place);
    let planted = place.path("planted");
    let hostile = format!("--ref=--upload-pack=touch {};", planted.display());
    run("git_checkout.sh", &[&hostile, &url], &place, SEARCH_PATH);
    assert!(planted.exists());
}

#[test]
fn an_unchecked_url_runs_a_command() {
    let place = Place::with_weakened(
        "git_checkout.sh",
        &[("check_url\ncheck_ref", "check_ref"), ("GIT_ALLOW_PROTOCOL=", "GIT_ALLOW_PROTOCOL=ext:")],
    );
    let planted = place.path("planted");
    let hostile = format!("ext::touch {}", planted.display());
    run("git_checkout.sh", &["--dest=x", &hostile], &place, SEARCH_PATH);
    assert!(planted.exists());
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    for url in [
        "https://user:hunter2@127.0.0.1:9/x",
        "https://hunter2@127.0.0.1:9/x",
        "ssh://user:hunter2@127.0.0.1:9/x",
    ] {
        let ran = run("git_checkout.sh", &[url], &Place::new(), SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{}", ran.text);
        assert!(ran.text.contains("credential helper") && !ran.text.contains("hunter2"), "{}", ran.text);
    }
}

/// Plants a hook and a configuration that run a command into the checkout `origin`.
fn plant(place: &Place) {
    let program = place.scratch.path().join("program");
    write_program(&program, &format!("#!/bin/sh\ntouch '{}'\n", place.path("planted").display()));
    let repository = place.path("origin/.git");
    fs::create_dir_all(repository.join("hooks")).unwrap();
    fs::copy(&program, repository.join("hooks/post-checkout")).unwrap();
    let config = fs::read_to_string(repository.join("config")).unwrap();
    let filter =
        format!("[filter \"planted\"]\n\tsmudge = {0}\n[core]\n\tfsmonitor = {0}\n", program.display());
    fs::write(repository.join("config"), config + &filter).unwrap();
    fs::create_dir_all(repository.join("info")).unwrap();
    fs::write(repository.join("info/attributes"), "* filter=planted\n").unwrap();
}

#[test]
fn hooks_and_configuration_that_lie_in_the_checkout_are_not_executed() {
    let place = Place::new();
    let url = origin(&place);
    let ran = run("git_checkout.sh", &["--ref=v1", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    plant(&place);
    let ran = run("git_checkout.sh", &[&url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(content(&place, "origin"), "two");
    assert!(!place.path("planted").exists());
}

#[test]
fn a_checkout_whose_configuration_is_kept_executes_what_was_planted() {
    for guards in [
        &[("rm -rf -- \"$dest/.git/config\"", "true"), ("-c core.fsmonitor=false ", "")][..],
        &[("rm -rf -- \"$dest/.git/config\"", "true"), ("-c core.hooksPath=/dev/null", "")],
    ] {
        let place = Place::with_weakened("git_checkout.sh", guards);
        let url = origin(&place);
        let ran = run("git_checkout.sh", &["--ref=v1", &url], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        plant(&place);
        run("git_checkout.sh", &[&url], &place, SEARCH_PATH);
        assert!(place.path("planted").exists(), "{guards:?}");
    }
}

#[test]
fn only_a_plain_folder_below_the_workspace_is_written() {
    let place = Place::new();
    let url = origin(&place);
    let decoy = place.scratch.path().join("decoy");
    fs::create_dir(&decoy).unwrap();
    symlink(&decoy, place.path("link")).unwrap();
    for dest in ["/tmp/x", "../x", "a/../../x", "link", "link/x", ".git", "-x", "a//b", "a\nb", ""] {
        let ran = run("git_checkout.sh", &["--dest", dest, &url], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{dest:?}: {}", ran.text);
    }
    assert_eq!(fs::read_dir(&decoy).unwrap().count(), 0);

    let mut weak = Place::with_weakened("git_checkout.sh", &[("[[ ! -L $way ]]", "[[ -n $way ]]")]);
    weak.site = place.site;
    let ran = run("git_checkout.sh", &["--dest", "link/x", &url], &weak, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(decoy.join("x/content").exists(), "the weakened script follows the link");
}

#[test]
fn a_folder_that_holds_something_else_is_left_as_it_is() {
    let place = Place::new();
    let url = origin(&place);
    place.write("full/file", "mine");
    let ran = run("git_checkout.sh", &["--dest", "full", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert_eq!(fs::read_dir(place.path("full")).unwrap().count(), 1);

    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "--quiet"]);
    git(&other, &["remote", "add", "origin", "https://example.com/other.git"]);
    let ran = run("git_checkout.sh", &["--dest", "other", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("is a checkout of https://example.com/other.git"), "{}", ran.text);

    fs::create_dir(place.path("empty")).unwrap();
    let ran = run("git_checkout.sh", &["--dest", "empty", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
}

#[test]
fn credentials_of_the_checkout_that_is_there_are_not_repeated() {
    for known in [
        "https://user:hunter2@example.com/other.git",
        "https://hunter2@example.com/o",
        "u:hunter2@example.com:o",
    ] {
        let place = Place::new();
        let url = origin(&place);
        let other = place.path("other");
        fs::create_dir(&other).unwrap();
        git(&other, &["init", "--quiet"]);
        git(&other, &["remote", "add", "origin", known]);
        let ran = run("git_checkout.sh", &["--dest", "other", &url], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{}", ran.text);
        assert!(ran.text.contains("example.com") && !ran.text.contains("hunter2"), "{}", ran.text);
    }
}

/// What a git that was killed leaves.
fn leave_locks(place: &Place) {
    for lock in ["index.lock", "HEAD.lock", "config.lock", "shallow.lock"] {
        place.write(&format!("origin/.git/{lock}"), "");
    }
}

#[test]
fn locks_that_a_killed_run_left_do_not_stop_the_next_one() {
    let place = Place::new();
    let url = origin(&place);
    assert_eq!(run("git_checkout.sh", &["--ref=v1", &url], &place, SEARCH_PATH).code, Some(0));
    leave_locks(&place);
    let ran = run("git_checkout.sh", &["--depth=1", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(content(&place, "origin"), "two");
}

#[test]
fn with_its_locks_left_alone_a_killed_run_stops_every_later_one() {
    let place = Place::with_weakened("git_checkout.sh", &[("rm -f -- \"$dest/.git\"/*.lock", "true")]);
    let url = origin(&place);
    assert_eq!(run("git_checkout.sh", &["--ref=v1", &url], &place, SEARCH_PATH).code, Some(0));
    leave_locks(&place);
    let ran = run("git_checkout.sh", &["--depth=1", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
}

#[test]
fn two_checkouts_into_one_folder_do_not_run_at_once() {
    let place = Place::new();
    let url = origin(&place);
    assert_eq!(run("git_checkout.sh", &["--ref=v1", &url], &place, SEARCH_PATH).code, Some(0));
    let lock = fs::File::open(place.path("origin")).unwrap();
    lock.lock().unwrap();
    place.write("origin/.git/index.lock", "of the one that is at work");
    let ran = run("git_checkout.sh", &[&url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("another checkout into"), "{}", ran.text);
    assert!(place.path("origin/.git/index.lock").exists());
    assert_eq!(content(&place, "origin"), "one");
    drop(lock);
    assert_eq!(run("git_checkout.sh", &[&url], &place, SEARCH_PATH).code, Some(0));
}
