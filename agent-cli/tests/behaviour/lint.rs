//! `lint`: everything that is wrong with scripts, a line each, and nothing is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Site, make_folder, write};

const GOOD: &str =
    "#!/bin/sh\n#TASK description=\"Does\" effect=\"read\"\n#USAGE arg \"<x>\" help=\"Which\"\ntouch ran\n";

/// A folder with everything that can be wrong with one.
fn site() -> Site {
    let site = Site::new();
    site.script("good.sh", GOOD);
    site.script(
        "deploy/web.sh",
        "#!/bin/sh\n#TASK effect=\"all\"\n#USAGE arg \"<x>\"\n#\n# x\n#USAGE flag \"--y\"\n#TASK timeout=\"never\"\n: >ran\n",
    );
    site.script("silent.sh", "#!/bin/sh\n#USAGE arg \"<x>\"\n# USAGE flag \"--apart\"\n");
    site.script("undescribed.sh", "#!/bin/sh\n: >ran\n");
    site.script("no-first-line.sh", "#TASK effect=\"read\" description=\"x\"\n: >ran\n");
    write(&site.path("scripts/writable.sh"), GOOD, 0o775);
    write(&site.path("scripts/bad name.sh"), GOOD, 0o755);
    write(&site.path("scripts/not-executable.sh"), GOOD, 0o644);
    write(&site.path("scripts/data.json"), "{}", 0o644);
    write(&site.path("scripts/open.json"), "{}", 0o666);
    write(&site.path("scripts/.git/hooks/x"), "", 0o755);
    make_folder(&site.path("scripts/-folder"));
    symlink("good.sh", site.path("scripts/link.sh")).unwrap();
    site.fifo("scripts/pipe");
    site
}

#[test]
fn all_that_is_wrong_in_a_folder_stands_on_a_line_each_and_nothing_is_run() {
    let site = site();
    let ended = site.ended(["lint"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    insta::assert_snapshot!("lint_of_a_folder", ended.text());
    assert_eq!(ended.stderr, "6 scripts: 4 errors, 12 warnings\n");
    assert!(!site.path("ran").exists() && !site.path("state").exists() && !site.path("workspace").exists());
}

#[test]
fn what_runs_all_the_same_fails_only_where_that_is_asked_for() {
    let site = site();
    assert_eq!(site.ended(["lint", "good.sh"]).code, Some(0));
    assert_eq!(site.ended(["lint", "--strict", "good.sh"]).code, Some(0));
    assert_eq!(site.ended(["lint", "silent.sh"]).code, Some(0));
    assert_eq!(site.ended(["lint", "--strict", "silent.sh"]).code, Some(1));
    assert_eq!(site.ended(["lint", "good.sh", "deploy/web.sh"]).code, Some(1));
}

#[test]
fn lint_and_run_agree_on_what_is_broken() {
    let site = site();
    let scripts =
        ["good.sh", "deploy/web.sh", "silent.sh", "undescribed.sh", "no-first-line.sh", "writable.sh"];
    for script in scripts.iter().chain(&["not-executable.sh", "link.sh"]) {
        let runs = site.ended(["run", "--dry-run", script, "x"]).code == Some(0);
        let lints = site.ended(["lint", script]).code == Some(0);
        assert_eq!(runs, lints, "{script}");
    }
}

#[test]
fn a_file_is_looked_at_before_it_lies_in_the_folder() {
    let site = site();
    write(&site.path("draft.sh"), "#!/bin/sh\n#TASK effect=\"all\"\n", 0o755);
    let ended = site.ended(["lint", "./draft.sh"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.text().starts_with("./draft.sh:2: error: `effect` is all; expected"), "{}", ended.text());
    let ended = site.ended(["lint", "draft.sh"]);
    assert_eq!(ended.code, Some(127));
    assert!(ended.stderr.contains("such as ./draft.sh"), "{}", ended.stderr);
    // The scripts folder comes first where both are meant.
    write(&site.path("deploy/web.sh"), GOOD, 0o755);
    assert_eq!(site.ended(["lint", "deploy/web.sh"]).code, Some(1));
    assert_eq!(site.ended(["lint", "./deploy/web.sh"]).code, Some(0));
}

#[test]
fn programs_get_json_and_a_folder_that_does_not_verify_is_told() {
    let site = Site::new();
    site.script("good.sh", GOOD);
    site.script("silent.sh", "#!/bin/sh\n#USAGE arg \"<x>\" help=\"x\"\n#TASK effect=\"read\"\n");
    let json = site.ended(["lint", "--json"]).json();
    assert_eq!((&json["scripts"], &json["errors"], &json["warnings"]), (&2.into(), &0.into(), &1.into()));
    assert_eq!(json["findings"][0]["file"], "silent.sh");
    assert_eq!(json["findings"][0]["level"], "warning");
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    assert!(!site.ended(["lint"]).stderr.contains("verify"));
    site.script("good.sh", format!("{GOOD}\n# changed\n"));
    let ended = site.ended(["lint"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("agent-cli manifest verify says why"), "{}", ended.stderr);
}

#[test]
fn the_shipped_scripts_leave_nothing_to_say() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let ended = Site::new().ended(["--scripts", shipped.to_str().unwrap(), "lint", "--strict"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), ""));
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let site = Site::new();
    fs::remove_dir(site.path("scripts")).unwrap();
    let ended = site.ended(["lint"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot read the scripts folder"), "{}", ended.stderr);
}
