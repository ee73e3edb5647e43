//! Lists of an unverified folder: what lies in the way of one script hides no other.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_integrity::VerificationMode;
use task_runners::Scripts;

use crate::place::Place;

/// Debian's user nobody.
const NOBODY: u32 = 65534;

fn names(scripts: &Scripts) -> Vec<String> {
    scripts.list().unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn folders_that_no_name_leads_into_are_not_looked_into() {
    let place = Place::new();
    for name in ["hello.sh", ".git/hooks/pre-commit", "a b/c.sh", "1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/too/deep"]
    {
        place.script(name, "#!/bin/sh\n");
    }
    assert_eq!(names(&place.scripts(VerificationMode::Never)), ["1/2/3/4/5/6/7/8", "hello.sh"]);
}

#[test]
fn folders_that_come_and_go_hide_no_script() {
    let place = Place::new();
    place.script("hello.sh", "#!/bin/sh\n");
    let scripts = place.scripts(VerificationMode::Never);
    let (folder, stop) = (place.scripts_dir().join("passing"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::create_dir(&folder).unwrap();
                fs::remove_dir(&folder).unwrap();
            }
        });
        let lists: Vec<_> = (0..2000).map(|_| scripts.list()).collect();
        stop.store(true, Ordering::Relaxed);
        for list in lists {
            assert_eq!(list.unwrap().len(), 1);
        }
    });
}

#[test]
fn a_folder_that_cannot_be_read_hides_no_script_outside_it() {
    let place = Place::new();
    if place.path().metadata().unwrap().uid() == 0 {
        println!("tier: root, the same is done in a process of user {NOBODY}");
        // The build's folder may be closed to others.
        let area = tempfile::tempdir().unwrap();
        let program = area.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        std::os::unix::fs::chown(area.path(), Some(NOBODY), None).unwrap();
        let mut command = Command::new(&program);
        command.args(["--exact", "listing::a_folder_that_cannot_be_read_hides_no_script_outside_it"]);
        command.env("TMPDIR", area.path()).current_dir("/").uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    place.script("closed/inside.sh", "#!/bin/sh\n");
    place.script("hello.sh", "#!/bin/sh\n");
    let scripts = place.scripts(VerificationMode::Never);
    assert_eq!(names(&scripts), ["closed/inside.sh", "hello.sh"]);
    let closed = place.scripts_dir().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(names(&scripts), ["hello.sh"]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
}
