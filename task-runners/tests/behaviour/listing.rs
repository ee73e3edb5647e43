//! Lists of an unverified folder: what lies in the way of one script hides no other.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_integrity::VerificationMode;
use task_runners::Scripts;

use crate::place::{Place, write_executable};

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

/// What the list says of a name, and what looking it up says: its reasons for being broken, if it is there.
fn looked(scripts: &Scripts, name: &str) -> [Option<String>; 2] {
    let reasons =
        |entry: task_runners::ScriptEntry| entry.broken.iter().map(|one| one.reason.clone()).collect();
    let listed = scripts.list().unwrap().into_iter().find(|entry| entry.name == name).map(reasons);
    [listed, scripts.get(&name.parse().unwrap()).unwrap().map(reasons)]
}

#[test]
fn what_is_no_plain_file_or_too_much_is_told_in_time_and_hides_nothing() {
    let place = Place::new();
    let folder = place.scripts_dir();
    let outside = place.path().join("outside.sh");
    write_executable(&outside, "#!/bin/sh\n#TASK description=\"outside\" effect=\"read\"\n");
    std::os::unix::fs::symlink(&outside, folder.join("link.sh")).unwrap();
    std::os::unix::fs::symlink(place.path(), folder.join("above")).unwrap();
    nix::unistd::mkfifo(&folder.join("pipe.sh"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket.sh")).unwrap();
    place.script("huge.sh", "#!/bin/sh\n");
    let huge = fs::File::options().write(true).open(folder.join("huge.sh")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let header = |bytes: usize| format!("#!/bin/sh\n#TASK help=\"{}\" effect=\"read\"\n", "x".repeat(bytes));
    place.script("long.sh", &header(10_000));
    place.script("longer.sh", &header(70_000));
    place.script("hello.sh", "#!/bin/sh\n");
    for watched in [false, true] {
        let scripts = place.scripts(VerificationMode::Never);
        let _watch = watched.then(|| scripts.watch());
        let begun = std::time::Instant::now();
        let broken = |name: &str, why: &str| {
            let [listed, got] = looked(&scripts, name);
            assert!(got.as_ref().is_some_and(|reason| reason.contains(why)), "{name}: {got:?}");
            listed
        };
        for (name, why) in [
            ("link.sh", "symbolic link"),
            ("above/outside.sh", "symbolic link"),
            ("pipe.sh", "pipe"),
            ("socket.sh", "socket"),
        ] {
            assert_eq!(broken(name, why), None, "{name}");
        }
        assert!(broken("huge.sh", "a script has 1073741824 at most").is_some());
        assert!(broken("longer.sh", "").is_some_and(|reason| !reason.is_empty()));
        for name in ["long.sh", "hello.sh"] {
            assert_eq!(looked(&scripts, name), [Some(String::new()), Some(String::new())], "{name}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    // The twin: the same file without its hole is a script.
    huge.set_len(10).unwrap();
    let scripts = place.scripts(VerificationMode::Never);
    assert_eq!(looked(&scripts, "huge.sh"), [Some(String::new()), Some(String::new())]);
}

#[test]
fn what_is_swapped_for_a_link_or_a_pipe_while_it_is_read_shows_nothing_from_outside() {
    let place = Place::new();
    let (script, aside) = (place.scripts_dir().join("a.sh"), place.path().join("aside"));
    let outside = place.path().join("outside.sh");
    write_executable(&outside, "#!/bin/sh\n#TASK description=\"outside\" effect=\"read\"\n");
    place.script("a.sh", "#!/bin/sh\n#TASK description=\"inside\" effect=\"read\"\n");
    let scripts = place.scripts(VerificationMode::Never);
    let stop = AtomicBool::new(false);
    let (mut inside, mut fooled) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                match round % 3 {
                    0 => std::os::unix::fs::symlink(&outside, &aside).unwrap(),
                    1 => {
                        write_executable(&aside, "#!/bin/sh\n#TASK description=\"inside\" effect=\"read\"\n");
                    }
                    _ => nix::unistd::mkfifo(&aside, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                }
                fs::rename(&aside, &script).unwrap();
            }
        });
        let name = "a.sh".parse().unwrap();
        let begun = std::time::Instant::now();
        // Until both have been tried often, and the twin, which takes what lies at the path, was fooled.
        while inside < 200 || fooled == 0 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{inside} {fooled}");
            let entries = scripts.list().unwrap().into_iter().chain(scripts.get(&name).unwrap());
            for about in entries.filter_map(|entry| entry.description) {
                assert_eq!(about, "inside");
                inside += 1;
            }
            let is_plain = || fs::metadata(&script).is_ok_and(|metadata| metadata.is_file());
            if is_plain() && fs::canonicalize(&script).is_ok_and(|path| path.ends_with("outside.sh")) {
                fooled += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// In a process of its own, whose descriptors are its own.
#[test]
fn what_cannot_be_looked_at_for_a_moment_stays_in_the_list() {
    const OWN: &str = "TASK_RUNNERS_OWN_DESCRIPTORS";
    if std::env::var_os(OWN).is_none() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "listing::what_cannot_be_looked_at_for_a_moment_stays_in_the_list"])
            .env(OWN, "");
        let output = command.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let place = Place::new();
    for name in ["hello.sh", "inner/other.sh"] {
        place.script(name, "#!/bin/sh\n");
    }
    let scripts = place.scripts(VerificationMode::Never);
    assert_eq!(names(&scripts), ["hello.sh", "inner/other.sh"]);
    let mut held: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    // Enough for the folder itself, and for none in it.
    held.pop();
    assert_eq!(names(&scripts), ["hello.sh", "inner/other.sh"]);
    drop(held);
    fs::remove_file(place.scripts_dir().join("inner/other.sh")).unwrap();
    assert_eq!(names(&scripts), ["hello.sh"]);
}
