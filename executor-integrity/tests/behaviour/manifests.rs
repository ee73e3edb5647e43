//! Creating and reading manifests, and `sha256sum -c` as the other reader.

use std::fs;
use std::process::Command;

use executor_integrity::{CreateError, CreateOptions, Manifest, create_manifest, verify};

use crate::support::{Area, FILES, mode_of, named, policy, run, write};

fn sha256sum(area: &Area) -> std::process::Output {
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--strict", "MANIFEST.sha256"]).current_dir(&area.scripts);
    run(&mut command, "coreutils")
}

#[test]
fn sha256sum_checks_a_manifest_as_it_is_and_finds_a_change() {
    let area = Area::with_manifest();
    let output = sha256sum(&area);
    assert!(output.status.success(), "{output:?}");
    let listed = FILES.map(|(name, ..)| format!("{name}: OK\n")).concat();
    assert_eq!(String::from_utf8_lossy(&output.stdout), listed);
    assert!(output.stderr.is_empty(), "{output:?}");

    write(&area.script("check.py"), "changed", 0o755);
    assert!(!sha256sum(&area).status.success());
}

#[test]
fn a_manifest_that_sha256sum_wrote_is_accepted() {
    let area = Area::without_manifest();
    let mut command = Command::new("sha256sum");
    command.args(FILES.map(|(name, ..)| name)).current_dir(&area.scripts);
    let output = run(&mut command, "coreutils");
    write(&area.manifest(), output.stdout, 0o644);
    let verified = verify(&area.scripts, &policy()).unwrap();
    assert_eq!(verified.manifest.header().version, 0);
    assert_eq!(verified.signed_by, None);
}

#[test]
fn each_new_manifest_has_the_next_version_and_replaces_the_old_one() {
    let area = Area::without_manifest();
    for version in 1..=3 {
        let manifest = create_manifest(&area.scripts, &CreateOptions::default()).unwrap();
        assert_eq!(manifest.header().version, version);
        let verified = verify(&area.scripts, &policy()).unwrap();
        assert_eq!(verified.manifest, manifest);
        let text = fs::read_to_string(area.manifest()).unwrap();
        assert!(text.starts_with(&format!("# version: {version}\n# created: 2")), "{text}");
        assert_eq!(mode_of(&area.manifest()), 0o644);
    }
    let options = CreateOptions { at_least_version: 40, ..Default::default() };
    assert_eq!(create_manifest(&area.scripts, &options).unwrap().header().version, 40);
    assert_eq!(fs::read_dir(&area.scripts).unwrap().count(), 4, "no temporary file is left");
}

#[test]
fn what_an_interrupted_create_or_sign_left_is_named_and_removed_by_the_next_create() {
    let area = Area::with_manifest();
    // The number of a process that has ended, and of one that lives.
    let mut ended = Command::new("true").spawn().unwrap();
    let (gone, alive) = (ended.id(), std::process::id());
    ended.wait().unwrap();
    let left = [format!(".MANIFEST.sha256.{gone}.0"), format!(".MANIFEST.sha256.minisig.{gone}.12")];
    left.iter().for_each(|name| write(&area.script(name), "# vers", 0o600));
    let error = verify(&area.scripts, &policy()).unwrap_err();
    assert_eq!(named(error.problems()), left.clone().map(|name| format!("half_written {name}")));
    assert!(error.to_string().contains("create the manifest anew"), "{error}");

    area.create_manifest();
    verify(&area.scripts, &policy()).unwrap();
    // Somebody may still be writing this one; and other hidden files are none of the manifest's.
    let others = [format!(".MANIFEST.sha256.{alive}.99999"), ".MANIFEST.sha256.old.0".to_owned()];
    for (name, code) in others.iter().zip(["half_written", "bad_name"]) {
        write(&area.script(name), "", 0o600);
        let Err(CreateError::Refused { problems, .. }) =
            create_manifest(&area.scripts, &CreateOptions::default())
        else {
            panic!("{name} was removed or ignored")
        };
        assert_eq!(named(&problems), [format!("{code} {name}")]);
        fs::remove_file(area.script(name)).unwrap();
    }
}

#[test]
fn a_damaged_manifest_is_mended_by_creating_it_anew_and_its_version_goes_on() {
    let area = Area::with_manifest();
    fs::write(area.manifest(), "\u{feff}# version: 6\r\nrubbish\r\n").unwrap();
    verify(&area.scripts, &policy()).unwrap_err();
    // The byte order mark is no part of the line behind it.
    let manifest = create_manifest(&area.scripts, &CreateOptions::default()).unwrap();
    assert_eq!(manifest.header().version, 7);
    verify(&area.scripts, &policy()).unwrap();
}

#[test]
fn every_mistake_in_a_manifest_is_told_with_its_line() {
    let digest = "0".repeat(64);
    let text = format!(
        "# version: 3\n# any comment\n#version: 4\n# version: +4\n# Expires: 2026-01-01T00:00:00Z\n\
         # expires: tomorrow\n\n{digest} a\n{digest} *b\n{digest}  c\n{digest}  c\n{digest}  ../d\n\
         {digest}  MANIFEST.sha256\n{digest}   e\n\\{digest}  f\n{digest}  g",
    );
    let error = Manifest::parse(text.as_bytes()).unwrap_err();
    let expected = [
        "bad_header MANIFEST.sha256:3",
        "bad_header MANIFEST.sha256:4",
        "bad_header MANIFEST.sha256:5",
        "bad_header MANIFEST.sha256:6",
        "bad_line MANIFEST.sha256:15",
        "bad_line MANIFEST.sha256:7",
        "bad_line MANIFEST.sha256:8",
        "bad_line MANIFEST.sha256:9",
        "bad_line_name MANIFEST.sha256:12",
        "bad_line_name MANIFEST.sha256:13",
        "bad_line_name MANIFEST.sha256:14",
        "duplicate_line MANIFEST.sha256:11",
        "unterminated_line MANIFEST.sha256:16",
    ];
    assert_eq!(named(error.problems()), expected);
}
