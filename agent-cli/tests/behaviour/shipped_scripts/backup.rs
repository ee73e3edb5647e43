//! `backup_dir.sh`, on archives that are unpacked and checked again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Place, SEARCH_PATH, run};

/// The files of the folder `kept` that do not hide, sorted.
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
    place.write("kept/.data.99999.partial", "left by a run that was killed");
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
