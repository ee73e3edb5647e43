//! The catalogue in memory: changes are known within a second without anybody asking, and what did not change is not read
//! again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use executor_integrity::VerificationMode;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use task_runners::{ScriptName, Scripts};

use crate::place::{Place, write_executable};

/// When a change must be known.
const LIMIT: Duration = Duration::from_secs(1);
/// When a test gives up.
const LONG: Duration = Duration::from_secs(60);

fn name(text: &str) -> ScriptName {
    text.parse().unwrap()
}

/// A script that says what it is for.
fn script(about: &str) -> String {
    format!("#!/bin/sh\n#TASK description=\"{about}\" effect=\"read\"\n")
}

/// What the catalogue says, as `name=description` words.
fn says(scripts: &Scripts) -> String {
    let entries = scripts.list().unwrap_or_default();
    let words = entries.iter().map(|entry| match (&entry.description, entry.broken.first()) {
        (Some(about), _) => format!("{}={about}", entry.name),
        (None, Some(_)) => format!("{} is broken", entry.name),
        (None, None) => entry.name.clone(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Waits until something is so, and says how long that took.
fn until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
    begun.elapsed()
}

fn soon(scripts: &Scripts, expected: &str) {
    let took = until(expected, || says(scripts) == expected);
    assert!(took < LIMIT, "{expected:?} took {took:?}");
}

/// Tells whether files below a folder are read.
struct Reads(Inotify);

impl Reads {
    fn of(folder: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(folder, AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY).unwrap();
        Self(inotify)
    }

    /// The names of files that have been read since the last call.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        while let Ok(events) = self.0.read_events() {
            let read = events.into_iter().filter(|event| {
                event.mask.contains(AddWatchFlags::IN_ACCESS) && !event.mask.contains(AddWatchFlags::IN_ISDIR)
            });
            names.extend(read.filter_map(|event| event.name?.into_string().ok()));
        }
        names.sort();
        names.dedup();
        names
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let place = Place::new();
    for number in 0..50 {
        place.script(&format!("s{number}.sh"), &script("old"));
    }
    let scripts = place.scripts(VerificationMode::Never);
    let reads = Reads::of(&place.scripts_dir());
    // Until all of them are old enough for a further change to show.
    until("nothing to be read", || {
        says(&scripts);
        reads.names().is_empty()
    });
    let version = scripts.catalogue().unwrap().version();
    for _ in 0..3 {
        says(&scripts);
        scripts.get(&name("s3.sh")).unwrap().unwrap();
    }
    assert_eq!(reads.names(), [] as [&str; 0]);
    assert_eq!(scripts.catalogue().unwrap().version(), version);
    place.script("s7.sh", &script("new"));
    assert!(says(&scripts).contains("s7.sh=new "));
    assert_eq!(reads.names(), ["s7.sh"]);
    assert_ne!(scripts.catalogue().unwrap().version(), version);
    // The twin: asked to read everything again, it does.
    let changes = scripts.read_again().unwrap();
    assert_eq!(reads.names().len(), 50);
    assert_eq!(changes, task_runners::CatalogueChanges::default());
}

#[test]
fn a_change_of_the_same_length_right_after_a_look_is_seen() {
    let place = Place::new();
    let scripts = place.scripts(VerificationMode::Never);
    for round in 0..300 {
        // In place, within one tick of the clock that files get their times from more often than not.
        place.script("a.sh", &script(&format!("{round:03}")));
        let entry = scripts.get(&name("a.sh")).unwrap().unwrap();
        assert_eq!(entry.description, Some(format!("{round:03}")));
        assert_eq!(says(&scripts), format!("a.sh={round:03}"));
    }
}

#[test]
fn what_changes_in_a_watched_folder_is_known_within_a_second() {
    let place = Place::new();
    place.script("a.sh", &script("1"));
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    soon(&scripts, "a.sh=1");
    // Written in place, moved in, in new folders, made executable and not, moved away with its folder, removed.
    place.script("a.sh", &script("2"));
    soon(&scripts, "a.sh=2");
    write_executable(&place.path().join("new"), &script("3"));
    fs::rename(place.path().join("new"), place.scripts_dir().join("b.sh")).unwrap();
    soon(&scripts, "a.sh=2 b.sh=3");
    place.script("c/d/e.sh", &script("4"));
    soon(&scripts, "a.sh=2 b.sh=3 c/d/e.sh=4");
    place.script("c/d/e.sh", &script("5"));
    soon(&scripts, "a.sh=2 b.sh=3 c/d/e.sh=5");
    fs::set_permissions(place.scripts_dir().join("a.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    soon(&scripts, "b.sh=3 c/d/e.sh=5");
    fs::set_permissions(place.scripts_dir().join("a.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    soon(&scripts, "a.sh=2 b.sh=3 c/d/e.sh=5");
    fs::rename(place.scripts_dir().join("c"), place.path().join("aside")).unwrap();
    soon(&scripts, "a.sh=2 b.sh=3");
    fs::remove_file(place.scripts_dir().join("b.sh")).unwrap();
    soon(&scripts, "a.sh=2");
    assert_eq!(scripts.status().unwatched, None);
}

#[test]
fn a_folder_that_comes_late_or_is_replaced_as_a_whole_or_behind_a_link_is_followed() {
    let place = Place::new();
    fs::remove_dir(place.scripts_dir()).unwrap();
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    place.script("a.sh", &script("1"));
    soon(&scripts, "a.sh=1");
    // Another folder under its name.
    let make = |folder: &str, about: &str| {
        fs::create_dir(place.path().join(folder)).unwrap();
        write_executable(&place.path().join(folder).join("a.sh"), &script(about));
    };
    make("next", "2");
    fs::rename(place.scripts_dir(), place.path().join("old")).unwrap();
    fs::rename(place.path().join("next"), place.scripts_dir()).unwrap();
    soon(&scripts, "a.sh=2");
    place.script("a.sh", &script("3"));
    soon(&scripts, "a.sh=3");
    // A link that leads elsewhere from one moment to the next, as releases are switched.
    make("release-4", "4");
    make("release-5", "5");
    fs::remove_dir_all(place.scripts_dir()).unwrap();
    symlink("release-4", place.scripts_dir()).unwrap();
    soon(&scripts, "a.sh=4");
    symlink("release-5", place.path().join("link")).unwrap();
    fs::rename(place.path().join("link"), place.scripts_dir()).unwrap();
    soon(&scripts, "a.sh=5");
    write_executable(&place.path().join("release-5/a.sh"), &script("6"));
    soon(&scripts, "a.sh=6");
}

#[test]
fn a_name_that_nobody_has_told_of_yet_is_looked_up() {
    let place = Place::new();
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    for round in 0..50 {
        let file = format!("s{round}.sh");
        assert_eq!(scripts.get(&name(&file)).unwrap(), None);
        place.script(&file, &script("new"));
        assert!(scripts.get(&name(&file)).unwrap().is_some(), "{file}");
        assert!(says(&scripts).contains(&format!("{file}=new")), "what was looked up is listed");
        fs::remove_file(place.scripts_dir().join(&file)).unwrap();
        assert_eq!(scripts.get(&name(&file)).unwrap(), None);
    }
}

#[test]
fn whoever_writes_without_end_does_not_keep_others_from_seeing_changes() {
    let place = Place::new();
    for number in 0..200 {
        place.script(&format!("many/s{number}.sh"), &script("old"));
    }
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    until("all of them", || scripts.list().unwrap().len() == 200);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(place.scripts_dir().join("notes.txt"), "again").unwrap();
            }
        });
        let versions = scripts.catalogue().unwrap().version();
        place.script("a.sh", &script("1"));
        let took = until("the new one", || says(&scripts).starts_with("a.sh=1 "));
        assert!(took < LIMIT, "{took:?}");
        // What is written there is no script, so that nothing else is another state.
        assert!(scripts.catalogue().unwrap().version() <= versions + 1);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_storm_of_changes_leaves_nothing_unseen() {
    let place = Place::new();
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    place.script("a.sh", &script("1"));
    soon(&scripts, "a.sh=1");
    let room: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Four events each: more than the kernel keeps for a thread that is at work.
    for number in 0..room {
        fs::rename(place.scripts_dir().join("a.sh"), place.scripts_dir().join("b.sh")).unwrap();
        fs::rename(place.scripts_dir().join("b.sh"), place.scripts_dir().join("a.sh")).unwrap();
        if number % 1000 == 0 {
            place.script(&format!("s{number}.sh"), &script("new"));
        }
    }
    let expected = 1 + room.div_ceil(1000);
    let took = until("all of them", || scripts.list().unwrap().len() == expected);
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_new_manifest_is_in_use_within_a_second_without_anybody_asking() {
    let place = Place::new();
    place.script("a.sh", &script("1"));
    place.manifest();
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    let first = scripts.status().manifest.clone().unwrap();
    for about in ["2", "3", "4"] {
        let before = scripts.status().manifest.clone();
        // The status touches no disk, so that nothing but the watch looks.
        place.script("sub/b.sh", &script(about));
        place.manifest();
        let took = until("the next manifest", || scripts.status().manifest != before);
        assert!(took < LIMIT, "{took:?}");
        assert_eq!(says(&scripts), format!("a.sh=1 sub/b.sh={about}"));
    }
    // What does not fit is known as soon, and what was verified stays in use.
    let in_use = scripts.status().manifest.clone();
    place.script("a.sh", &script("tampered"));
    let took = until("the problem", || !scripts.status().problems.is_empty());
    assert!(took < LIMIT, "{took:?}");
    assert_eq!((scripts.status().manifest.clone(), says(&scripts)), (in_use, "a.sh=1 sub/b.sh=4".to_owned()));
    place.script("a.sh", &script("1"));
    until("it to verify again", || scripts.status().problems.is_empty());
    assert_ne!(scripts.status().manifest.clone().unwrap(), first);
}

#[test]
fn a_folder_without_a_manifest_is_verified_as_soon_as_one_comes() {
    let place = Place::new();
    place.script("a.sh", &script("1"));
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    soon(&scripts, "a.sh=1");
    place.manifest();
    let took = until("a manifest in use", || scripts.status().manifest.is_some());
    assert!(took < LIMIT, "{took:?}");
    // From here on nothing is read but the snapshot.
    place.script("a.sh", &script("2"));
    assert_eq!(says(&scripts), "a.sh=1");
}

#[test]
fn a_verified_folder_is_described_by_its_snapshot_alone() {
    let place = Place::new();
    place.script("a.sh", &script("1"));
    place.script("b.sh", &script("2"));
    place.manifest();
    let scripts = place.scripts(VerificationMode::Always);
    assert_eq!(says(&scripts), "a.sh=1 b.sh=2");
    let reads = Reads::of(&place.scripts_dir());
    let copy = Reads::of(&place.path().join("state/store").join(scripts.status().manifest.as_ref().unwrap()));
    place.script("a.sh", &script("tampered"));
    for _ in 0..3 {
        assert_eq!(says(&scripts), "a.sh=1 b.sh=2");
        assert_eq!(scripts.get(&name("a.sh")).unwrap().unwrap().description.as_deref(), Some("1"));
    }
    assert_eq!((reads.names(), copy.names()), (vec![], vec![]));
    // Asked to read everything again, it reads both, so that the watch above is not blind.
    let _ = scripts.read_again();
    assert!(!reads.names().is_empty() && !copy.names().is_empty());
}

#[test]
fn a_watch_ends_with_its_handle_or_with_the_scripts() {
    let place = Place::new();
    place.script("a.sh", &script("1"));
    let scripts = place.scripts(VerificationMode::Auto);
    let watch = scripts.watch();
    soon(&scripts, "a.sh=1");
    let last: std::sync::Weak<Scripts> = Arc::downgrade(&scripts);
    drop(watch);
    // What nobody watches is looked at when it is asked for, at once.
    place.script("b.sh", &script("2"));
    until("the end of the watch", || says(&scripts) == "a.sh=1 b.sh=2");
    let _forgotten = scripts.watch();
    drop(scripts);
    until("nobody to have the scripts", || last.strong_count() == 0);
}

#[test]
fn what_a_script_lacked_may_come_without_a_change_of_its_file() {
    let place = Place::new();
    let interpreter = place.path().join("interpreter");
    place.script("a.sh", &format!("#!{}\n", interpreter.display()));
    let scripts = place.scripts(VerificationMode::Auto);
    let _watch = scripts.watch();
    until("it to be listed", || says(&scripts) == "a.sh is broken");
    write_executable(&interpreter, "#!/bin/sh\n");
    assert_eq!(scripts.get(&name("a.sh")).unwrap().unwrap().broken, []);
    until("it to be listed as whole", || says(&scripts) == "a.sh");
}
