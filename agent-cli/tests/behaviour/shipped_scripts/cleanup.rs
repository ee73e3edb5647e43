//! `log_cleanup.sh`, on files of known age.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Place, SEARCH_PATH, run};

/// Makes a file of the workspace that was last written `days` days ago.
fn aged(place: &Place, name: &str, days: u64) {
    let path = place.write(name, "a line\n");
    set_age(&path, days);
}

fn set_age(path: &Path, days: u64) {
    let when = SystemTime::now() - Duration::from_secs(days * 86_400 + 3_600);
    File::options().append(true).open(path).unwrap().set_modified(when).unwrap();
}

/// A workspace with logs old and new in `logs`, and a decoy beside it that a link leads to.
fn logs() -> Place {
    let place = Place::new();
    fill(&place);
    place
}

fn fill(place: &Place) {
    aged(place, "logs/old.log", 31);
    aged(place, "logs/deep/er/two words\nand a line.log.1", 40);
    aged(place, "logs/-rf.log", 31);
    aged(place, "logs/app.log-20200101.gz", 90);
    aged(place, "logs/young.log", 29);
    aged(place, "logs/old.txt", 90);
    aged(place, "decoy/outside.log", 90);
    symlink(place.path("decoy"), place.path("logs/link")).unwrap();
    symlink(place.path("decoy/outside.log"), place.path("logs/link.log")).unwrap();
}

fn exists(place: &Place, names: &[&str]) -> Vec<bool> {
    names.iter().map(|name| place.path(name).symlink_metadata().is_ok()).collect()
}

const OLD: [&str; 4] =
    ["logs/old.log", "logs/deep/er/two words\nand a line.log.1", "logs/-rf.log", "logs/app.log-20200101.gz"];
const KEPT: [&str; 5] = ["logs/young.log", "logs/old.txt", "logs/link", "logs/link.log", "decoy/outside.log"];

#[test]
fn without_apply_the_old_files_are_listed_and_all_are_kept() {
    let place = logs();
    let ran = run("log_cleanup.sh", &["logs"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(exists(&place, &OLD), [true; 4]);
    assert_eq!(exists(&place, &KEPT), [true; 5]);
    assert!(ran.text.contains("would: delete './old.log' (7 bytes)"), "{}", ran.text);
    assert!(ran.text.contains("$'./deep/er/two words\\nand a line.log.1'"), "{}", ran.text);
    assert!(ran.text.contains("nothing was changed: --apply does it"), "{}", ran.text);
    assert_eq!((ran.params["FILES"].as_str(), ran.params["BYTES"].as_str()), ("4", "28"));
    assert_eq!(ran.params["APPLIED"], "false");
}

#[test]
fn with_apply_only_old_logs_go_and_no_link_is_followed() {
    let place = logs();
    let ran = run("log_cleanup.sh", &["--apply", "logs"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(exists(&place, &OLD), [false; 4]);
    assert_eq!(exists(&place, &KEPT), [true; 5]);
    assert_eq!((ran.params["FILES"].as_str(), ran.params["APPLIED"].as_str()), ("4", "true"));
}

#[test]
fn a_cleanup_that_followed_links_would_delete_the_decoy() {
    let place = Place::with_weakened("log_cleanup.sh", &[("find -P . ", "find -L . ")]);
    fill(&place);
    run("log_cleanup.sh", &["--apply", "logs"], &place, SEARCH_PATH);
    assert!(!place.path("decoy/outside.log").exists());
}

#[test]
fn days_and_pattern_choose_the_files() {
    let place = logs();
    let arguments = ["--apply", "--days=1", "--pattern", "*.txt", "logs"];
    let ran = run("log_cleanup.sh", &arguments, &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(exists(&place, &OLD), [true; 4]);
    assert_eq!(exists(&place, &["logs/old.txt", "logs/young.log"]), [false, true]);
    let ran = run("log_cleanup.sh", &["--apply", "--days", "29", "logs"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(!place.path("logs/young.log").exists(), "29 days and an hour is older than 29 days");
}

#[test]
fn compression_keeps_the_content_and_leaves_what_is_compressed_or_has_two_names() {
    let place = logs();
    aged(&place, "logs/twice.log", 90);
    fs::hard_link(place.path("logs/twice.log"), place.path("second-name")).unwrap();
    let ran = run("log_cleanup.sh", &["--action=compress", "--apply", "logs"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(ran.params["FILES"], "3");
    assert_eq!(exists(&place, &OLD), [false, false, false, true]);
    assert_eq!(exists(&place, &KEPT), [true; 5]);
    assert!(place.path("logs/twice.log").exists());
    for name in ["logs/old.log.gz", "logs/-rf.log.gz", "logs/deep/er/two words\nand a line.log.1.gz"] {
        let text = Command::new("gzip").args(["-dc", "--"]).arg(place.path(name)).output().unwrap();
        assert_eq!(text.stdout, b"a line\n", "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_compressed_is_named_and_the_script_fails() {
    let place = logs();
    place.write("logs/old.log.gz", "in the way");
    let ran = run("log_cleanup.sh", &["--action=compress", "--apply", "logs"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("could not compress './old.log'"), "{}", ran.text);
    assert_eq!(fs::read_to_string(place.path("logs/old.log.gz")).unwrap(), "in the way");
    assert_eq!(ran.params["FILES"], "2");
}

#[test]
fn system_folders_and_links_are_refused() {
    // Never with --apply: where the guard fails, this test must not be what empties a host.
    let place = logs();
    let hop = format!("{}/../../../../../../../../etc", place.path("logs").display());
    let system = [
        "/",
        "//",
        "/etc",
        "/usr",
        "/usr/share",
        "/etc/..",
        "/var",
        "/var/lib",
        "/tmp",
        "/proc/self",
        "/dev",
        &hop,
    ];
    for folder in system {
        let ran = run("log_cleanup.sh", &[folder], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{folder}: {}", ran.text);
        assert!(
            ran.text.contains("refused: ") || ran.text.contains("there is a link in"),
            "{folder}: {}",
            ran.text
        );
    }
    symlink("/etc", place.path("logs/etc")).unwrap();
    for folder in ["logs/link", "logs/link/", "logs/etc", "logs/link/../logs"] {
        let ran = run("log_cleanup.sh", &["--apply", "--pattern=outside.log", folder], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{folder}: {}", ran.text);
    }
    assert!(place.path("decoy/outside.log").exists());
}

#[test]
fn without_its_guards_system_folders_and_links_are_entered() {
    let place =
        Place::with_weakened("log_cleanup.sh", &[("[[ $real/ != \"$system\"/* ]]", "[[ -n $real ]]")]);
    let ran = run("log_cleanup.sh", &["--pattern=no such name", "/etc"], &place, SEARCH_PATH);
    // Not 0 for everybody: parts of the folder are only for root to read.
    assert_ne!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("in all 0 files"), "{}", ran.text);

    let place = Place::with_weakened("log_cleanup.sh", &[("--no-symlinks --canon", "--canon")]);
    fill(&place);
    let ran = run("log_cleanup.sh", &["--apply", "logs/link"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(!place.path("decoy/outside.log").exists());
}
