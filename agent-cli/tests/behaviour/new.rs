//! `new`: a script to begin with, which runs and passes `lint`; nothing that is there is touched, and nothing is written
//! outside the scripts folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::{Site, make_folder, program};

#[test]
fn a_new_script_passes_lint_and_runs_at_once() {
    for (args, name) in [
        (&["new", "deploy/hosts/web.sh"][..], "deploy/hosts/web.sh"),
        (&["new", "plain"], "plain"),
        (&["new", "hello.py"], "hello.py"),
        (&["new", "--interpreter", "sh", "small.sh"], "small.sh"),
        (&["new", "--interpreter", "python", "snake"], "snake"),
    ] {
        let site = Site::new();
        let made = site.ended(args);
        assert_eq!(
            (made.code, made.text()),
            (Some(0), format!("{}/{name}\n", site.path("scripts").display())),
            "{}",
            made.stderr
        );
        assert!(made.stderr.contains(&format!("agent-cli lint {name}\n")), "{}", made.stderr);
        let mode = fs::metadata(site.path("scripts").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
        let linted = site.ended(["lint", "--strict"]);
        assert_eq!((linted.code, linted.text().as_str()), (Some(0), ""), "{name}");
        let ran = site.ended(["run", name, "--loud", "you"]);
        assert_eq!((ran.code, ran.text().as_str()), (Some(0), "HELLO YOU\n"), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("GREETED=you"), "{}", ran.stderr);
    }
}

#[test]
fn shellcheck_finds_nothing_in_the_templates() {
    let site = Site::new();
    site.ended(["new", "a.sh"]);
    site.ended(["new", "--interpreter", "sh", "b.sh"]);
    let mut command = Command::new("shellcheck");
    let checked =
        program(command.args(["scripts/a.sh", "scripts/b.sh"]).current_dir(site.path("")), "shellcheck");
    assert_eq!((checked.code, checked.text().as_str()), (Some(0), ""));
}

#[test]
fn what_is_there_stays_and_links_lead_nowhere() {
    let site = Site::new();
    site.script("there.sh", "#!/bin/sh\n");
    make_folder(&site.path("outside"));
    symlink(site.path("outside"), site.path("scripts/link")).unwrap();
    symlink(site.path("outside/made.sh"), site.path("scripts/dangling.sh")).unwrap();
    for (name, told) in [
        ("there.sh", "is there already"),
        ("there.sh/below.sh", "a link or a file"),
        ("link/x.sh", "a link or a file"),
        ("dangling.sh", "is there already"),
        ("../outside/x.sh", "can be no script's name"),
        ("/outside/x.sh", "can be no script's name"),
        ("", "can be no script's name"),
        (".hidden", "can be no script's name"),
    ] {
        let ended = site.ended(["new", name]);
        assert_eq!(ended.code, Some(1), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains(told), "{name}: {}", ended.stderr);
    }
    assert_eq!(fs::read_to_string(site.path("scripts/there.sh")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::read_dir(site.path("outside")).unwrap().count(), 0);
}

#[test]
fn what_follows_links_writes_outside() {
    let site = Site::new();
    make_folder(&site.path("outside"));
    symlink(site.path("outside"), site.path("scripts/link")).unwrap();
    fs::write(site.path("scripts/link/x.sh"), "").unwrap();
    assert_eq!(fs::read_dir(site.path("outside")).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_vouched_for_is_to_be_vouched_for_again() {
    let site = Site::new();
    site.script("a.sh", "#!/bin/sh\n");
    assert!(!site.ended(["new", "b.sh"]).stderr.contains("manifest create"));
    site.ended(["manifest", "create"]);
    assert!(site.ended(["new", "c.sh"]).stderr.contains("agent-cli manifest create"));
}
