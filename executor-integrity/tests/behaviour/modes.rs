//! Whether scripts are verified is decided by the setting, the folder, and what was seen before.

use std::fs;

use executor_integrity::VerificationMode;

use crate::support::{Area, policy};

#[test]
fn the_setting_is_true_false_or_left_out() {
    assert_eq!(VerificationMode::from(Some(true)), VerificationMode::Always);
    assert_eq!(VerificationMode::from(Some(false)), VerificationMode::Never);
    assert_eq!(VerificationMode::from(None), VerificationMode::Auto);
}

#[test]
fn left_out_it_is_on_where_a_manifest_is_or_was() {
    let area = Area::without_manifest();
    let decide = |mode: VerificationMode| mode.decide(&area.scripts, &area.store(), &policy()).unwrap();
    assert!(!decide(VerificationMode::Auto));
    assert!(decide(VerificationMode::Always));
    area.create_manifest();
    assert!(!decide(VerificationMode::Never));
    // Removing a manifest that nobody has seen yet cannot be noticed.
    fs::remove_file(area.manifest()).unwrap();
    assert!(!decide(VerificationMode::Auto));

    area.create_manifest();
    assert!(decide(VerificationMode::Auto));
    fs::remove_file(area.manifest()).unwrap();
    assert!(decide(VerificationMode::Auto), "it had one");
}

#[test]
fn left_out_it_is_on_after_a_snapshot_was_taken_and_the_manifest_removed() {
    let area = Area::with_manifest();
    area.store().take(&area.scripts, &policy()).unwrap();
    fs::remove_dir_all(&area.scripts).unwrap();
    assert!(VerificationMode::Auto.decide(&area.scripts, &area.store(), &policy()).unwrap());
}

#[test]
fn left_out_it_is_on_where_keys_are_configured_or_the_manifest_is_rubbish() {
    let area = Area::without_manifest();
    let (_, public) = area.keys("any");
    let keys = policy().public_keys([public]);
    assert!(VerificationMode::Auto.decide(&area.scripts, &area.store(), &keys).unwrap());
    assert!(!VerificationMode::Auto.decide(&area.scripts, &area.store(), &policy()).unwrap());
    std::os::unix::fs::symlink("/nowhere", area.manifest()).unwrap();
    assert!(VerificationMode::Auto.decide(&area.scripts, &area.store(), &policy()).unwrap());
}

#[test]
fn a_folder_that_cannot_be_looked_into_is_an_error_and_not_unverified() {
    let area = Area::without_manifest();
    let file = area.script("check.py");
    VerificationMode::Auto.decide(&file, &area.store(), &policy()).unwrap_err();
}
