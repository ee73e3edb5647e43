//! A tampered scripts folder is refused by `run`: everything that is wrong is named, and nothing is executed.

pub(crate) mod cases;

use std::fs;

use crate::support::Site;
use cases::{CASES, Vouched};

/// A site whose folder is signed by the key that it trusts.
fn site() -> (Site, Vouched) {
    let site = Site::new();
    let vouched = Vouched::new(&site.path(""));
    let settings = format!("[script_executor]\nmanifest_public_keys = [\"{}\"]\n", vouched.public_key);
    fs::write(site.path("application.toml"), settings).unwrap();
    (site, vouched)
}

#[test]
fn each_way_of_tampering_is_refused_with_126_and_nothing_is_executed() {
    for (what, tamper, codes) in CASES {
        let (site, vouched) = site();
        let mark = vouched.mark();
        // The folder verifies before: what is refused afterwards is the tampering alone.
        let ended = site.ended(["run", "marks.sh"]);
        assert!(ended.code == Some(0) && mark.exists(), "before {what}: {}", ended.stderr);
        fs::remove_file(&mark).unwrap();

        tamper(&vouched);

        let ended = site.ended(["run", "marks.sh"]);
        assert_eq!(ended.code, Some(126), "{what}: {}", ended.stderr);
        for code in codes {
            assert!(ended.stderr.contains(code), "{what}, {code}: {}", ended.stderr);
        }
        assert!(
            ended.stderr.contains("hint: when all of it is as you want it: "),
            "{what}: {}",
            ended.stderr
        );
        assert!(!mark.exists(), "{what}: it was executed");
        assert_eq!(site.records().len(), 1, "{what}: a refused run leaves no record");
    }
}

#[test]
fn without_verification_the_tampered_script_would_run() {
    let (site, vouched) = site();
    vouched.write("marks.sh", &format!("#!/bin/sh\necho tampered >'{}'\n", vouched.mark().display()));
    assert_eq!(site.ended(["run", "marks.sh"]).code, Some(126));
    assert!(!site.path("mark").exists());
    fs::write(site.path("application.toml"), "[script_executor]\nis_verify_script_integrity = false\n")
        .unwrap();
    assert_eq!(site.ended(["run", "marks.sh"]).code, Some(0));
    assert_eq!(fs::read_to_string(site.path("mark")).unwrap(), "tampered\n");
}

#[test]
fn the_commands_that_the_hint_names_mend_the_folder() {
    let (site, vouched) = site();
    vouched.tamper_severally();
    vouched.mode(0o755);
    let ended = site.ended(["run", "marks.sh"]);
    assert_eq!(ended.code, Some(126));
    let hint =
        ended.stderr.lines().find_map(|line| line.split_once("as you want it: ")).unwrap().1.to_owned();
    assert!(hint.contains("manifest create") && hint.contains("manifest sign"), "{hint}");
    vouched.vouch();
    let ended = site.ended(["run", "marks.sh"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
