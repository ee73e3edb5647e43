//! An older manifest than one that was accepted does not come back, through restarts and damage.

use std::fs;
use std::path::Path;

use executor_integrity::{
    CreateOptions, SecretKey, SnapshotStore, TakeError, VerificationMode, create_manifest, sign_manifest,
};

use crate::support::{Area, named, other_process, policy, refusal, store_entries};

/// Tells this binary that it is the process that cannot write, and where it works.
const UNABLE: &str = "EXECUTOR_INTEGRITY_CANNOT_WRITE";

/// Saves the manifest as it is now; the answer puts it back.
fn saved(area: &Area) -> impl Fn() + use<> {
    let bytes = fs::read(area.manifest()).unwrap();
    let path = area.manifest();
    move || fs::write(&path, &bytes).unwrap()
}

#[test]
fn an_older_version_is_refused_after_a_newer_one_was_accepted() {
    let area = Area::with_manifest();
    let old = saved(&area);
    area.store().take(&area.scripts, &policy()).unwrap();
    area.create_manifest();
    area.store().take(&area.scripts, &policy()).unwrap();
    old();
    // Each store stands for a new process.
    let error = refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
    assert_eq!(named(error.problems()), ["older_version MANIFEST.sha256"]);
    assert!(error.to_string().contains("version 2 or newer"), "{error}");
    assert!(error.mend_command().contains("create --at-least 3 "), "{error}");
    // What the command does mends it, whether the old manifest is there or none is.
    for prepare in [|_: &Area| {}, |area: &Area| fs::remove_file(area.manifest()).unwrap()] {
        prepare(&area);
        let error = refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
        let at_least_version = error.at_least_version().unwrap();
        create_manifest(&area.scripts, &CreateOptions { at_least_version, ..Default::default() }).unwrap();
        area.store().take(&area.scripts, &policy()).unwrap();
        old();
    }

    // The twin: without the memory the same folder is accepted.
    fs::remove_file(area.path("store/ratchet")).unwrap();
    area.store().take(&area.scripts, &policy()).unwrap();
}

#[test]
fn another_manifest_of_the_same_version_is_accepted() {
    let area = Area::with_manifest();
    let first = area.store().take(&area.scripts, &policy()).unwrap();
    area.edit_manifest(|bytes| [bytes, b"# edited by hand\n".to_vec()].concat());
    let second = area.store().take(&area.scripts, &policy()).unwrap();
    assert_ne!(first.digest(), second.digest());
}

#[test]
fn a_refused_folder_does_not_raise_the_lowest_version() {
    let area = Area::with_manifest();
    let old = saved(&area);
    create_manifest(&area.scripts, &CreateOptions { at_least_version: 99, ..Default::default() }).unwrap();
    fs::write(area.script("check.py"), "tampered").unwrap();
    refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
    old();
    fs::write(area.script("check.py"), crate::support::FILES[0].1).unwrap();
    area.store().take(&area.scripts, &policy()).unwrap();
}

#[test]
fn a_version_counts_for_the_configured_keys_so_that_an_unsigned_one_locks_nobody_out() {
    let area = Area::without_manifest();
    let keys = ["first", "second"].map(|name| area.keys(name));
    let [first, second] = keys.map(|(secret, public)| (SecretKey::load(&secret, None).unwrap(), public));
    let version = |version, key: Option<&SecretKey>| {
        // The previous manifest does not count here.
        let _ = fs::remove_file(area.manifest());
        let options = CreateOptions { at_least_version: version, ..Default::default() };
        create_manifest(&area.scripts, &options).unwrap();
        if let Some(key) = key {
            sign_manifest(&area.scripts, key).unwrap();
        }
    };
    let take = |keys: &[&executor_integrity::PublicKey]| {
        let policy = policy().public_keys(keys.iter().copied().cloned());
        area.store()
            .take(&area.scripts, &policy)
            .map(drop)
            .map_err(|error| named(refusal(error).problems()).join(", "))
    };
    version(1_000_000, None);
    take(&[]).unwrap();
    version(5, Some(&first.0));
    take(&[&first.1]).unwrap();
    // While both keys are configured, the newest version of either counts.
    version(9, Some(&second.0));
    take(&[&first.1, &second.1]).unwrap();
    version(6, Some(&first.0));
    assert_eq!(take(&[&first.1, &second.1]).unwrap_err(), "older_version MANIFEST.sha256");
    take(&[&first.1]).unwrap();
}

#[test]
fn a_damaged_memory_is_set_aside_and_made_anew_from_the_snapshots() {
    let area = Area::with_manifest();
    let old = saved(&area);
    area.create_manifest();
    area.store().take(&area.scripts, &policy()).unwrap();
    let file = area.path("store/ratchet");
    let whole = fs::read(&file).unwrap();
    let damages = [
        vec![],
        vec![0; whole.len()],
        b"\xff".repeat(20),
        whole[..whole.len() - 1].to_vec(),
        whole[..9].to_vec(),
    ];
    for damaged in damages {
        fs::write(&file, &damaged).unwrap();
        old();
        let error = refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
        assert_eq!(named(error.problems()), ["older_version MANIFEST.sha256"], "{damaged:?}");
        assert_eq!(fs::read(area.path("store/ratchet.damaged")).unwrap(), damaged);
    }
    assert!(store_entries(&area.path("store"), ".ratchet").is_empty());
}

#[test]
fn a_damaged_memory_that_cannot_be_made_anew_lets_no_older_version_in() {
    if let Some(area) = std::env::var_os(UNABLE) {
        return take_without_writing(Path::new(&area));
    }
    let area = Area::with_manifest();
    let old = saved(&area);
    area.create_manifest();
    area.store().take(&area.scripts, &policy()).unwrap();
    old();
    fs::write(area.path("store/ratchet"), "damaged").unwrap();
    // No file of this process gets any longer, as on a full disk.
    let test = "ratchet::a_damaged_memory_that_cannot_be_made_anew_lets_no_older_version_in";
    let helper = other_process(test, (UNABLE, &area.path("")));
    let mut unable = std::process::Command::new("sh");
    unable.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]);
    unable.arg(helper.get_program()).args(helper.get_args()).env(UNABLE, area.path(""));
    let said = unable.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).contains("could not write"));

    fs::remove_file(area.manifest()).unwrap();
    assert!(VerificationMode::Auto.decide(&area.scripts, &area.store(), &policy()).unwrap());
    old();
    let error = refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
    assert_eq!(named(error.problems()), ["older_version MANIFEST.sha256"]);
}

/// The other process: finds the memory damaged, and can write nothing.
fn take_without_writing(area: &Path) {
    let store = SnapshotStore::at(&area.join("store")).unwrap();
    let error = store.take(&area.join("scripts"), &policy()).unwrap_err();
    assert!(matches!(error, TakeError::Store(_)), "{error:?}");
    println!("could not write");
}

#[test]
fn a_memory_that_was_set_aside_and_never_made_anew_counts_as_damaged() {
    let area = Area::with_manifest();
    let old = saved(&area);
    area.create_manifest();
    area.store().take(&area.scripts, &policy()).unwrap();
    fs::rename(area.path("store/ratchet"), area.path("store/ratchet.damaged")).unwrap();
    fs::remove_file(area.manifest()).unwrap();
    assert!(VerificationMode::Auto.decide(&area.scripts, &area.store(), &policy()).unwrap());
    old();
    let error = refusal(area.store().take(&area.scripts, &policy()).unwrap_err());
    assert_eq!(named(error.problems()), ["older_version MANIFEST.sha256"]);
}
