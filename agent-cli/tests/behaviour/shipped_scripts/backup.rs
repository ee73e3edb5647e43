//! `backup_dir.sh`, on archives that are unpacked and checked again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Place, SEARCH_PATH, run};

/// What is in the folder `kept`, sorted.
fn kept(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("kept")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn source(place: &Place) {
    place.write("data/file", "content\n");
    place.write("data/deep/two words\nand a line", "more\n");
    place.write("data/-rf", "");
    symlink("/etc/passwd", place.path("data/link")).unwrap();
}

/// Unpacks an archive and gives the folder.
fn unpack(place: &Place, archive: &Path) -> PathBuf {
    let folder = tempfile::tempdir_in(place.workspace()).unwrap().keep();
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&folder).status().unwrap();
    assert!(status.success());
    folder
}

#[test]
fn a_folder_is_packed_checked_and_described() {
    for (format, flag) in [("gz", "--format=gz"), ("zst", "--format=zst")] {
        let place = Place::new();
        source(&place);
        let ran = run("backup_dir.sh", &[flag, "data", "kept"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        let archive = PathBuf::from(&ran.params["ARCHIVE"]);
        let file = archive.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(file.starts_with("data-20") && file.ends_with(&format!("Z.tar.{format}")), "{file}");
        assert_eq!(kept(&place), [file.clone(), format!("{file}.sha256")]);
        assert_eq!(fs::metadata(&archive).unwrap().len().to_string(), ran.params["BYTES"]);
        assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
        let check = Command::new("sha256sum")
            .args(["-c", &format!("{file}.sha256")])
            .current_dir(place.path("kept"))
            .output();
        assert!(check.unwrap().status.success());
        let line = fs::read_to_string(place.path(&format!("kept/{file}.sha256"))).unwrap();
        assert_eq!(line, format!("{}  {file}\n", ran.params["SHA256"]));

        let back = unpack(&place, &archive);
        assert_eq!(fs::read_to_string(back.join("data/file")).unwrap(), "content\n");
        assert_eq!(fs::read_to_string(back.join("data/deep/two words\nand a line")).unwrap(), "more\n");
        assert_eq!(fs::read_link(back.join("data/link")).unwrap(), Path::new("/etc/passwd"));
        assert!(back.join("data/-rf").exists());
    }
}

#[test]
fn only_the_last_archives_of_the_same_name_are_kept() {
    let place = Place::new();
    source(&place);
    place.write("kept/data-notes.txt", "mine");
    place.write("kept/data-other-20200101T000000.000000Z.tar.gz", "another name");
    let oldest = "kept/data-20200101T000000.000000Z.tar.zst";
    place.write(oldest, "");
    place.write(&format!("{oldest}.sha256"), "");
    place.write("kept/.data.0123456789.partial/archive", "left by a run that was killed");
    for removed in ["0", "1", "1"] {
        let ran = run("backup_dir.sh", &["--keep", "2", "data", "kept"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        assert_eq!(ran.params["REMOVED"], removed);
        assert!(kept(&place).contains(&ran.params["ARCHIVE"].rsplit('/').next().unwrap().to_owned()));
    }
    assert!(!place.path(oldest).exists());
    let left = kept(&place);
    assert_eq!(left.len(), 2 * 2 + 2, "{left:?}");
    assert!(left.contains(&"data-notes.txt".to_owned()), "{left:?}");
    assert!(left.contains(&"data-other-20200101T000000.000000Z.tar.gz".to_owned()), "{left:?}");
}

/// A gzip that loses the end of what it packs and says that all is well.
const LOSING_GZIP: &str = "#!/bin/bash
PATH=/usr/local/bin:/usr/bin:/bin
if [[ ${1:-} == -d ]]; then exec gzip -d; fi
gzip | head -c 60
cat >/dev/null
";

#[test]
fn a_damaged_archive_does_not_count_and_the_older_ones_stay() {
    let place = Place::new();
    source(&place);
    let path = place.stand_in("gzip", LOSING_GZIP);
    let old = "kept/data-20200101T000000.000000Z.tar.gz";
    place.write(old, "");
    let ran = run("backup_dir.sh", &["--keep=1", "data", "kept"], &place, &path);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("it does not count"), "{}", ran.text);
    assert_eq!(kept(&place), ["data-20200101T000000.000000Z.tar.gz"]);
    assert!(ran.params.is_empty());
}

#[test]
fn a_backup_that_is_not_read_back_would_count_a_damaged_archive() {
    let reading = "die 'the archive could not be read back: it does not count' 1";
    let place = Place::with_weakened(
        "backup_dir.sh",
        &[(reading, "true"), ("((listed == entries))", "((listed <= entries))")],
    );
    source(&place);
    let path = place.stand_in("gzip", LOSING_GZIP);
    place.write("kept/data-20200101T000000.000000Z.tar.gz", "");
    let ran = run("backup_dir.sh", &["--keep=1", "data", "kept"], &place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert!(!place.path("kept/data-20200101T000000.000000Z.tar.gz").exists(), "the good one is gone");
}

#[test]
fn folders_that_cannot_be_packed_are_refused() {
    let place = Place::new();
    source(&place);
    symlink(place.path("data"), place.path("link")).unwrap();
    place.write("two words/file", "");
    place.write("file", "");
    for (arguments, said) in [
        (["absent", "kept"], "no folder 'absent'"),
        (["link", "kept"], "no link"),
        (["link/", "kept"], "no link"),
        (["/", "kept"], "SOURCE is /"),
        (["data", "data/kept"], "is in SOURCE"),
        (["data", "data"], "is in SOURCE"),
        (["data", "file"], "is not a folder"),
        (["two words", "kept"], "give --name"),
    ] {
        let ran = run("backup_dir.sh", &arguments, &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.text);
        assert!(ran.text.contains(said), "{arguments:?}: {}", ran.text);
    }
    for name in ["../x", "-x", ".x", "a/b", "a b", ""] {
        let ran = run("backup_dir.sh", &["--name", name, "data", "kept"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{name:?}: {}", ran.text);
    }
    assert!(!place.path("kept").exists() && !place.path("data/kept").exists());
    let ran = run("backup_dir.sh", &["--name=words", "two words", "kept"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
}

#[test]
fn two_backups_into_one_folder_do_not_run_at_once() {
    let place = Place::new();
    source(&place);
    fs::create_dir(place.path("kept")).unwrap();
    let lock = fs::File::open(place.path("kept")).unwrap();
    lock.lock().unwrap();
    let ran = run("backup_dir.sh", &["data", "kept"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains("another backup into"), "{}", ran.text);
    drop(lock);
    let ran = run("backup_dir.sh", &["data", "kept"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
}

/// Archives from a time that has not come yet, when a clock that was ahead has been set right.
const AHEAD: [&str; 2] =
    ["kept/data-29990101T000000.000000Z.tar.gz", "kept/data-29990102T000000.000000Z.tar.gz"];

#[test]
fn the_new_archive_is_kept_whatever_time_the_others_have() {
    let place = Place::new();
    source(&place);
    for path in AHEAD {
        place.write(path, "");
    }
    let ran = run("backup_dir.sh", &["--keep=2", "data", "kept"], &place, SEARCH_PATH);
    assert_eq!((ran.code, ran.params["REMOVED"].as_str()), (Some(0), "1"), "{}", ran.text);
    assert!(Path::new(&ran.params["ARCHIVE"]).exists());
    assert_eq!(AHEAD.map(|path| place.path(path).exists()), [false, true]);
}

#[test]
fn a_backup_that_goes_by_time_alone_would_remove_the_new_archive() {
    let place = Place::with_weakened(
        "backup_dir.sh",
        &[("$path != \"$archive\"", "-n $path"), ("removed > keep - 1", "removed > keep")],
    );
    source(&place);
    for path in AHEAD {
        place.write(path, "");
    }
    run("backup_dir.sh", &["--keep=2", "data", "kept"], &place, SEARCH_PATH);
    assert_eq!(kept(&place).len(), 2, "only those that are ahead are left");
}

fn allow(place: &Place, path: &str, mode: u32) {
    fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_target_that_others_may_write_is_refused_unless_only_owners_can_remove_what_is_in_it() {
    let place = Place::new();
    source(&place);
    fs::create_dir(place.path("kept")).unwrap();
    for mode in [0o777, 0o775, 0o757] {
        allow(&place, "kept", mode);
        let ran = run("backup_dir.sh", &["data", "kept"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{}", ran.text);
        assert!(ran.text.contains(&format!("may be written by others (mode {mode:o})")), "{}", ran.text);
        assert!(kept(&place).is_empty());
    }
    for mode in [0o1777, 0o755] {
        allow(&place, "kept", mode);
        let ran = run("backup_dir.sh", &["data", "kept"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
    }
}

/// Only root can give files away; anybody else has what belongs to root already, and a folder of root is taken.
#[test]
fn a_target_of_somebody_else_is_refused_and_archives_of_somebody_else_do_not_count() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "tier: no root, so that no file of another user can be made; modes are tested all the same"
        );
        return;
    }
    eprintln!("tier: root");
    let place = Place::new();
    source(&place);
    let theirs = place.write(AHEAD[0], "");
    chown(&theirs, Some(4711), None).unwrap();
    let ran = run("backup_dir.sh", &["--keep=1", "data", "kept"], &place, SEARCH_PATH);
    assert_eq!((ran.code, ran.params["REMOVED"].as_str()), (Some(0), "0"), "{}", ran.text);
    assert!(theirs.exists() && Path::new(&ran.params["ARCHIVE"]).exists());

    chown(place.path("kept"), Some(4711), None).unwrap();
    let ran = run("backup_dir.sh", &["data", "kept"], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("belongs to another user"), "{}", ran.text);
}

/// A gzip that tells where the archive is being made.
const TELLING_GZIP: &str = "#!/bin/bash
PATH=/usr/local/bin:/usr/bin:/bin
[[ ${1:-} == -d ]] || stat --format='%a %F %n' \"$TASK_WORK_DIR\"/kept/.data.* >>\"$TASK_WORK_DIR/told\"
exec gzip \"$@\"
";

#[test]
fn an_archive_is_made_in_a_folder_that_nobody_else_can_enter_or_foresee() {
    let place = Place::new();
    source(&place);
    let path = place.stand_in("gzip", TELLING_GZIP);
    for _ in 0..2 {
        let ran = run("backup_dir.sh", &["data", "kept"], &place, &path);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
    }
    let told = fs::read_to_string(place.path("told")).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines.iter().all(|line| line.starts_with("700 directory ")), "{told}");
    assert_ne!(lines[0], lines[1]);
    assert!(kept(&place).iter().all(|name| !name.starts_with('.')), "nothing of it is left");
}
