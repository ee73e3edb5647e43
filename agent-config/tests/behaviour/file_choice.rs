//! Which file is read, and that nobody else can put one there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use agent_config::{ConfigError, Loaded, Settings, Sources};

use crate::{Place, euid};

const PORT: &str = "http.port = 4711\n";

fn load(place: &Place) -> Loaded {
    Settings::load(place.sources()).unwrap()
}

/// The file of the current folder is not read, and a warning with these words says so.
#[track_caller]
fn assert_left_out(place: &Place, sources: Sources, words: &str) {
    let loaded = Settings::load(sources).unwrap();
    assert_eq!(loaded.settings.http.port, 8848);
    assert_eq!(loaded.file, None);
    let [warning] = loaded.warnings.as_slice() else {
        panic!("one warning is expected: {:?}", loaded.warnings);
    };
    assert_eq!(warning.path, place.path().join("etc/application.toml"));
    let text = warning.to_string();
    assert!(text.contains("is not read") && text.contains(words), "{text}");
    assert!(text.contains("--config"), "{text}");
    assert_eq!(text.matches("application.toml").count(), 1, "the file is named once: {text}");
}

/// Nothing is loaded, and an error with these words says so; somebody who names the file gets it with a warning.
#[track_caller]
fn assert_system_file_refused(place: &Place, sources: &Sources, words: &str) {
    let error = Settings::load(sources.clone()).expect_err("others may change the file");
    assert!(matches!(error, ConfigError::Distrusted { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(words) && text.contains("--config"), "{text}");
    assert_eq!(text.matches("system.toml").count(), 1, "the file is named once: {text}");
    let named = Sources { config_file: Some(place.path().join("sub/system.toml")), ..sources.clone() };
    assert_eq!(Settings::load(named).unwrap().settings.http.port, 4711);
}

#[test]
fn the_file_of_the_current_folder_is_read_when_it_is_safe() {
    let place = Place::trusted();
    let path = place.write("etc/application.toml", PORT);
    let loaded = load(&place);
    assert_eq!(loaded.settings.http.port, 4711);
    assert_eq!(loaded.file, Some(path));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_named_file_wins_over_the_current_folder_and_the_system() {
    let place = Place::trusted();
    place.write("etc/application.toml", PORT);
    place.write("system.toml", "http.port = 1\n");
    place.write("sub/named.toml", "http.port = 2\n");
    let named = Sources { config_file: Some(PathBuf::from("sub/named.toml")), ..place.sources() };
    let loaded = Settings::load(named).unwrap();
    assert_eq!(loaded.settings.http.port, 2);
    assert_eq!(loaded.file, Some(place.path().join("sub/named.toml")));
    assert_eq!(load(&place).settings.http.port, 4711);
    fs::remove_file(place.path().join("etc/application.toml")).unwrap();
    assert_eq!(load(&place).settings.http.port, 1);
    fs::remove_file(place.path().join("system.toml")).unwrap();
    assert_eq!(load(&place).settings.http.port, 8848);
}

#[test]
fn a_folder_that_others_may_write_is_not_trusted_even_when_it_is_sticky() {
    let place = Place::trusted();
    place.write("etc/application.toml", PORT);
    for mode in [0o1777, 0o777, 0o775, 0o757] {
        place.allow("etc", mode);
        assert_left_out(&place, place.sources(), &format!("mode {mode:04o}"));
    }
    place.allow("etc", 0o755);
    place.allow("", 0o1777);
    assert_left_out(&place, place.sources(), "mode 1777");
    place.allow("", 0o755);
    assert_eq!(load(&place).settings.http.port, 4711);
}

#[test]
fn a_file_below_the_folder_for_temporary_files_is_not_trusted() {
    let place = Place { folder: tempfile::tempdir_in("/tmp").unwrap() };
    place.allow("", 0o755);
    place.write("etc/application.toml", PORT);
    assert_left_out(&place, place.sources(), "/tmp may be written by others");
}

#[test]
fn a_file_that_others_may_write_is_not_trusted() {
    let place = Place::trusted();
    place.write("etc/application.toml", PORT);
    for mode in [0o666, 0o664, 0o646] {
        place.allow("etc/application.toml", mode);
        assert_left_out(&place, place.sources(), &format!("mode {mode:04o}"));
    }
}

/// As root the file is given to somebody else; as anybody else the caller is said to be somebody else.
#[test]
fn a_file_of_somebody_else_is_not_trusted() {
    let place = Place::trusted();
    let path = place.write("etc/application.toml", PORT);
    let mut sources = place.sources();
    if euid() == 0 {
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
    } else {
        sources.euid = euid() + 1;
    }
    assert_left_out(&place, sources, "neither root nor this user");
}

/// As root the file is given to the caller, who is said to be somebody else; anybody else is the caller already.
#[test]
fn the_caller_is_trusted_beside_root() {
    let place = Place::trusted();
    let path = place.write("etc/application.toml", PORT);
    let mut sources = place.sources();
    if euid() == 0 {
        eprintln!("tier: root, so the caller is another user");
        sources.euid = 4711;
        for path in [path.clone(), place.path().join("etc")] {
            std::os::unix::fs::chown(path, Some(4711), None).unwrap();
        }
    } else {
        eprintln!("tier: user {}, who is the caller", euid());
    }
    assert_eq!(Settings::load(sources).unwrap().file, Some(path));
}

#[test]
fn a_file_of_the_system_that_others_may_change_keeps_the_program_from_starting() {
    let place = Place::trusted();
    let system = place.write("sub/system.toml", PORT);
    let sources = Sources { system_file: system.clone(), ..place.sources() };
    assert_eq!(Settings::load(sources.clone()).unwrap().file, Some(system.clone()), "as it is, it is read");
    for mode in [0o666, 0o664, 0o646] {
        place.allow("sub/system.toml", mode);
        assert_system_file_refused(
            &place,
            &sources,
            &format!("it may be written by others (mode {mode:04o})"),
        );
    }
    place.allow("sub/system.toml", 0o644);
    for mode in [0o1777, 0o775] {
        place.allow("sub", mode);
        assert_system_file_refused(
            &place,
            &sources,
            &format!("sub may be written by others (mode {mode:04o})"),
        );
    }
    place.allow("sub", 0o755);
    let target = place.path().join("target.toml");
    fs::rename(&system, &target).unwrap();
    symlink(&target, &system).unwrap();
    assert_system_file_refused(&place, &sources, "it is a link");
}

/// As root the file is given to somebody else; as anybody else the caller is said to be somebody else.
#[test]
fn a_file_of_the_system_of_somebody_else_keeps_the_program_from_starting() {
    let place = Place::trusted();
    let system = place.write("sub/system.toml", PORT);
    let mut sources = Sources { system_file: system.clone(), ..place.sources() };
    if euid() == 0 {
        std::os::unix::fs::chown(&system, Some(4711), None).unwrap();
    } else {
        sources.euid = euid() + 1;
    }
    assert_system_file_refused(&place, &sources, "neither root nor this user");
}

#[test]
fn a_link_is_not_followed() {
    let place = Place::trusted();
    let target = place.write("elsewhere/application.toml", PORT);
    fs::create_dir(place.path().join("etc")).unwrap();
    place.allow("etc", 0o755);
    let link = place.path().join("etc/application.toml");
    symlink(&target, &link).unwrap();
    assert_left_out(&place, place.sources(), "is a link");
    fs::remove_dir_all(place.path().join("etc")).unwrap();
    symlink("elsewhere", place.path().join("etc")).unwrap();
    assert_left_out(&place, place.sources(), "is a link");
}

#[test]
fn a_file_that_is_left_out_gives_way_to_that_of_the_system() {
    let place = Place::trusted();
    place.write("etc/application.toml", PORT);
    place.allow("etc", 0o777);
    let system = place.write("system.toml", "http.port = 1\n");
    let loaded = load(&place);
    assert_eq!(loaded.settings.http.port, 1);
    assert_eq!(loaded.file, Some(system));
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn a_named_file_that_others_may_write_is_read_with_a_warning() {
    let place = Place::new();
    place.write("given.toml", PORT);
    place.allow("given.toml", 0o666);
    let sources = Sources { config_file: Some("given.toml".into()), ..place.sources() };
    let loaded = Settings::load(sources).unwrap();
    assert_eq!(loaded.settings.http.port, 4711);
    assert!(loaded.warnings[0].to_string().contains("mode 0666"));
}
