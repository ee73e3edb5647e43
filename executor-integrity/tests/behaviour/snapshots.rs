//! What a snapshot is: a whole, read-only copy that is used again, checked before it is trusted, and made
//! anew when it is damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

use executor_integrity::{RelativeName, SnapshotStore, StoreError, TakeError};

use crate::support::{Area, FILES, assert_whole, mode_of, named, policy, store_entries, write};

#[test]
fn a_snapshot_is_the_folder_read_only_and_named_by_its_manifest() {
    let area = Area::with_manifest();
    let store = area.store();
    let snapshot = store.take(&area.scripts, &policy()).unwrap();
    assert_whole(&snapshot);
    assert!(snapshot.path().is_absolute());
    let manifest = fs::read(area.manifest()).unwrap();
    assert_eq!(snapshot.digest(), executor_integrity::Digest::of(&manifest));
    assert_eq!(snapshot.path(), store.path().join(snapshot.digest().to_string()));
    assert_eq!(fs::read(snapshot.path().join("MANIFEST.sha256")).unwrap(), manifest);
    let modes = [
        ("", 0o500),
        ("deploy", 0o500),
        ("deploy/web.sh", 0o500),
        ("lib/common.sh", 0o400),
        ("MANIFEST.sha256", 0o400),
    ];
    for (name, mode) in modes {
        assert_eq!(mode_of(&snapshot.path().join(name)), mode, "{name}");
    }
    assert!(store_entries(store.path(), "tmp-").is_empty());
}

#[test]
fn scripts_are_looked_up_by_name_without_touching_the_disk() {
    let area = Area::with_manifest();
    let store = area.store();
    let snapshot = store.take(&area.scripts, &policy()).unwrap().clone();
    let name = RelativeName::new("deploy/web.sh").unwrap();
    // Whoever removes the copy under its feet gets errors later, not other answers here.
    fs::rename(snapshot.path(), area.path("away")).unwrap();
    let found = snapshot.resolve(&name).unwrap();
    assert!(found.executable && found.name == name);
    assert_eq!(snapshot.resolve(&RelativeName::new("deploy").unwrap()), None);
    assert_eq!(snapshot.resolve(&RelativeName::new("MANIFEST.sha256").unwrap()), None);
}

#[test]
fn the_signature_goes_into_the_snapshot_too() {
    let area = Area::with_manifest();
    let (secret, public) = area.keys("any");
    let key = executor_integrity::SecretKey::load(&secret, None).unwrap();
    executor_integrity::sign_manifest(&area.scripts, &key).unwrap();
    let snapshot = area.store().take(&area.scripts, &policy().public_keys([public])).unwrap();
    let name = "MANIFEST.sha256.minisig";
    assert_eq!(fs::read(snapshot.path().join(name)).unwrap(), fs::read(area.script(name)).unwrap());
}

#[test]
fn the_same_folder_gives_the_same_snapshot_in_this_process_and_the_next() {
    let area = Area::with_manifest();
    let store = area.store();
    let first = store.take(&area.scripts, &policy()).unwrap();
    let marker = fs::metadata(first.path()).unwrap();
    for other in [store.take(&area.scripts, &policy()), area.store().take(&area.scripts, &policy())] {
        let other = other.unwrap();
        assert_whole(&other);
        let metadata = fs::metadata(other.path()).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(metadata.ino(), marker.ino());
    }
}

#[test]
fn threads_that_take_the_same_folder_at_once_get_one_snapshot() {
    let area = Area::with_manifest();
    let stores = [area.store(), area.store()];
    let start = Barrier::new(8);
    let digests: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let (store, start, scripts) = (&stores[index % 2], &start, &area.scripts);
                scope.spawn(move || {
                    start.wait();
                    let snapshot = store.take(scripts, &policy()).unwrap();
                    assert_whole(&snapshot);
                    snapshot.digest().to_string()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let left = store_entries(stores[0].path(), "");
    assert_eq!(left.len(), 3, "one snapshot, lock and ratchet: {left:?}");
    assert!(digests.iter().all(|digest| left.contains(digest)));
}

#[test]
fn an_execute_permission_that_is_given_or_taken_later_is_told_and_takes_none_from_who_holds_the_snapshot() {
    let area = Area::with_manifest();
    let store = area.store();
    let before = store.take(&area.scripts, &policy()).unwrap();
    for (executable, mode, copied) in [(false, 0o644, 0o400), (true, 0o755, 0o500), (false, 0o644, 0o500)] {
        fs::set_permissions(area.script("lib/common.sh"), fs::Permissions::from_mode(mode)).unwrap();
        let after = store.take(&area.scripts, &policy()).unwrap();
        let file = after.resolve(&RelativeName::new("lib/common.sh").unwrap()).unwrap();
        assert_eq!(file.executable, executable);
        assert_eq!(mode_of(&after.path_of(file)), copied);
        assert_eq!(after.digest(), before.digest());
    }
}

/// What was done, how, and what is said of it.
type Damage = (&'static str, fn(&Path), &'static str);

/// What a power cut, a bad disk or an administrator may do to a snapshot.
const DAMAGES: [Damage; 6] = [
    ("a file is empty", |at| overwrite(&at.join("check.py"), b""), "digest_differs check.py"),
    (
        "a byte differs",
        |at| overwrite(&at.join("deploy/web.sh"), b"#!/bin/sh\nx"),
        "digest_differs deploy/web.sh",
    ),
    ("a file is gone", |at| fs::remove_file(at.join("check.py")).unwrap(), "missing check.py"),
    ("a file came", |at| write(&at.join("new.sh"), "x", 0o500), "unlisted new.sh"),
    (
        "the manifest is empty",
        |at| overwrite(&at.join("MANIFEST.sha256"), b""),
        "digest_differs MANIFEST.sha256",
    ),
    (
        "the manifest is gone",
        |at| fs::remove_file(at.join("MANIFEST.sha256")).unwrap(),
        "no_manifest MANIFEST.sha256",
    ),
];

#[test]
fn a_damaged_snapshot_is_never_used_but_set_aside_and_made_anew() {
    for (what, damage, expected) in DAMAGES {
        let area = Area::with_manifest();
        let digest = area.store().take(&area.scripts, &policy()).unwrap().digest();
        let path = area.store().path().join(digest.to_string());
        assert_whole(&area.store().open(&digest).unwrap());
        unlock(&path);
        damage(&path);

        // Another store stands for the process after the next start.
        let store = area.store();
        match store.open(&digest) {
            Err(StoreError::Damaged { problems, .. }) => {
                assert!(named(&problems).contains(&expected.to_owned()), "{what}: {problems}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(matches!(store.open(&digest), Err(StoreError::NotFound { .. })), "{what}");
        assert_eq!(store_entries(store.path(), "damaged-"), [format!("damaged-{digest}")]);
        assert_whole(&store.take(&area.scripts, &policy()).unwrap());

        unlock(&path);
        damage(&path);
        assert_whole(&area.store().take(&area.scripts, &policy()).unwrap());
    }
}

#[test]
fn a_snapshot_that_was_removed_under_its_holder_is_made_anew() {
    let area = Area::with_manifest();
    let store = area.store();
    let held = store.take(&area.scripts, &policy()).unwrap();
    fs::rename(held.path(), area.path("away")).unwrap();
    assert!(matches!(store.open(&held.digest()), Err(StoreError::NotFound { .. })));
    assert_whole(&store.take(&area.scripts, &policy()).unwrap());
}

#[test]
fn a_snapshot_that_is_not_there_is_not_found() {
    let area = Area::with_manifest();
    let digest = executor_integrity::Digest::of(b"another");
    assert!(matches!(area.store().open(&digest), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_store_that_others_could_change_is_not_used() {
    let area = Area::with_manifest();
    drop(area.store());
    fs::set_permissions(area.path("store"), fs::Permissions::from_mode(0o770)).unwrap();
    let error = SnapshotStore::at(&area.path("store")).unwrap_err();
    assert!(error.to_string().contains("chmod go-w"), "{error}");
    fs::set_permissions(area.path("store"), fs::Permissions::from_mode(0o700)).unwrap();
    SnapshotStore::at(&area.path("store")).unwrap();
}

#[test]
fn a_store_that_cannot_be_written_is_told_as_such_and_not_as_a_bad_folder() {
    let area = Area::with_manifest();
    let store = area.store();
    fs::remove_dir_all(store.path()).unwrap();
    let error = store.take(&area.scripts, &policy()).unwrap_err();
    assert!(matches!(error, TakeError::Store(_)), "{error:?}");
}

#[test]
fn two_hundred_files_become_one_snapshot() {
    let area = Area::without_manifest();
    for index in 0..200 {
        write(&area.script(&format!("many/{index}.sh")), "#".repeat(8192), 0o755);
    }
    area.create_manifest();
    let store = area.store();
    let began = std::time::Instant::now();
    let snapshot = store.take(&area.scripts, &policy()).unwrap();
    let copied = began.elapsed();
    let began = std::time::Instant::now();
    assert_eq!(store.take(&area.scripts, &policy()).unwrap().files().len(), 200 + FILES.len());
    println!("200 x 8 KiB: copied in {copied:?}, used again in {:?}", began.elapsed());
    assert_eq!(snapshot.files().len(), 200 + FILES.len());
}

/// Gives write permissions back, as root has them anyway.
fn unlock(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => unlock(&entry.path()),
            false => fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)).unwrap(),
        }
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}
