//! Pruning leaves the last snapshots and those in use, whichever process uses them. What a killed process
//! leaves behind is removed, and never taken for a snapshot.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_integrity::{Digest, KEEP_SNAPSHOTS, Snapshot, SnapshotStore, StoreError};

use crate::support::{Area, assert_whole, other_process, policy, store_entries};

/// Takes `count` snapshots, one of each new manifest.
fn take_many(area: &Area, store: &SnapshotStore, count: usize) -> Vec<Snapshot> {
    (0..count)
        .map(|_| {
            area.create_manifest();
            store.take(&area.scripts, &policy()).unwrap()
        })
        .collect()
}

#[test]
fn pruning_keeps_the_last_three_and_those_in_use() {
    let area = Area::without_manifest();
    let store = area.store();
    let mut snapshots = take_many(&area, &store, 7);
    let digests: Vec<Digest> = snapshots.iter().map(Snapshot::digest).collect();
    let held = snapshots.swap_remove(1).clone();
    drop(snapshots);

    let mut removed = store.prune(KEEP_SNAPSHOTS).unwrap();
    removed.sort();
    let mut expected = vec![digests[0], digests[2], digests[3]];
    expected.sort();
    assert_eq!(removed, expected);
    assert_whole(&held);
    for digest in &digests[4..] {
        assert_whole(&store.open(digest).unwrap());
    }
    assert!(matches!(store.open(&digests[0]), Err(StoreError::NotFound { .. })));
    assert!(store_entries(store.path(), "tmp-").is_empty());

    // The twin: no longer held, it goes.
    drop(held);
    assert_eq!(store.prune(KEEP_SNAPSHOTS).unwrap(), [digests[1]]);
    assert_eq!(store.prune(0).unwrap().len(), 3);
}

#[test]
fn using_a_snapshot_again_makes_it_the_newest() {
    let area = Area::with_manifest();
    let store = area.store();
    let old = store.take(&area.scripts, &policy()).unwrap().digest();
    area.edit_manifest(|bytes| [bytes, b"# other\n".to_vec()].concat());
    let new = store.take(&area.scripts, &policy()).unwrap().digest();
    area.edit_manifest(|bytes| bytes[..bytes.len() - 8].to_vec());
    assert_eq!(store.take(&area.scripts, &policy()).unwrap().digest(), old);
    assert_eq!(store.prune(1).unwrap(), [new]);
}

#[test]
fn whatever_is_taken_while_others_prune_everything_is_whole_while_it_is_held() {
    let area = Area::with_manifest();
    let (taking, opening) = (area.store(), area.store());
    let stop = AtomicBool::new(false);
    let opened = std::thread::scope(|scope| {
        let pruner = || {
            let store = area.store();
            let mut removed = 0;
            while !stop.load(Ordering::Relaxed) {
                removed += store.prune(0).unwrap().len();
            }
            removed
        };
        let pruners = [scope.spawn(pruner), scope.spawn(pruner)];
        let mut opened = 0;
        for _ in 0..200 {
            let held = taking.take(&area.scripts, &policy()).unwrap();
            assert_whole(&held);
            let digest = held.digest();
            drop(held);
            match opening.open(&digest) {
                Ok(held) => {
                    opened += 1;
                    assert_whole(&held);
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let removed: usize = pruners.map(|pruner| pruner.join().unwrap()).into_iter().sum();
        assert!(removed > 0, "nothing was pruned meanwhile: this showed nothing");
        opened
    });
    println!("{opened} of 200 were opened again before they were pruned");
    assert!(store_entries(taking.path(), "damaged-").is_empty());
}

#[test]
fn only_the_newest_damaged_snapshot_is_kept() {
    let area = Area::without_manifest();
    for _ in 0..3 {
        let store = area.store();
        let snapshot = take_many(&area, &store, 1).remove(0);
        let (path, digest) = (snapshot.path().join("MANIFEST.sha256"), snapshot.digest());
        drop(snapshot);
        fs::remove_file(&path).or_else(|_| unlock_and_remove(&path)).unwrap();
        store.open(&digest).unwrap_err();
    }
    let store = area.store();
    assert_eq!(store_entries(store.path(), "damaged-").len(), 3);
    store.prune(KEEP_SNAPSHOTS).unwrap();
    assert_eq!(store_entries(store.path(), "damaged-").len(), 1);
}

fn unlock_and_remove(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o700))?;
    fs::remove_file(path)
}

/// Names the area's folder to the process that plays the other part.
const HOLDER: &str = "PINS_HOLD_FOR_TEST";
const TAKER: &str = "PINS_TAKE_FOR_TEST";

#[test]
fn a_snapshot_that_another_process_holds_survives_pruning_until_that_process_ends() {
    if let Some(area) = std::env::var_os(HOLDER) {
        return hold(Path::new(&area));
    }
    let area = Area::with_manifest();
    let digest = area.store().take(&area.scripts, &policy()).unwrap().digest();
    let test = "pins::a_snapshot_that_another_process_holds_survives_pruning_until_that_process_ends";
    let mut holder = other_process(test, (HOLDER, &area.path("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("held")), "the other process holds nothing");

    let store = area.store();
    assert!(store.prune(0).unwrap().is_empty());
    assert_whole(&store.open(&digest).unwrap());
    // Killed, not asked: the system must drop the pin.
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(store.prune(0).unwrap(), [digest]);
}

/// The other process: holds the only snapshot until it is killed.
fn hold(area: &Path) {
    let store = SnapshotStore::at(&area.join("store")).unwrap();
    let snapshot = store.take(&area.join("scripts"), &policy()).unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(snapshot);
}

#[test]
fn a_process_killed_while_it_takes_leaves_nothing_that_could_be_taken_for_a_snapshot() {
    if let Some(area) = std::env::var_os(TAKER) {
        return take_forever(Path::new(&area));
    }
    let area = Area::without_manifest();
    for index in 0..60 {
        crate::support::write(&area.script(&format!("many/{index}")), vec![b'x'; 8192], 0o644);
    }
    area.create_manifest();
    let test = "pins::a_process_killed_while_it_takes_leaves_nothing_that_could_be_taken_for_a_snapshot";
    let (mut half_made, mut round) = (0, 0);
    // Which kills come in the middle is chance; it goes on until one did.
    while round < 40 || half_made == 0 {
        assert!(round < 400, "no kill came in the middle: this showed nothing");
        round += 1;
        let mut taker = other_process(test, (TAKER, &area.path(""))).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(taker.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("took")), "nothing was taken");
        // A different point in the taking each time.
        for _ in 0..(round % 40) * 2000 {
            std::hint::spin_loop();
        }
        taker.kill().unwrap();
        taker.wait().unwrap();

        half_made += usize::from(!store_entries(&area.path("store"), "tmp-").is_empty());
        let store = area.store();
        assert!(store_entries(store.path(), "tmp-").is_empty(), "rubbish is left");
        for name in store_entries(store.path(), "") {
            if let Ok(digest) = name.parse::<Digest>() {
                store.open(&digest).unwrap();
            }
        }
    }
    println!("{half_made} of {round} kills left something half made");
}

/// The other process: takes and removes a snapshot until it is killed.
fn take_forever(area: &Path) {
    let store = SnapshotStore::at(&area.join("store")).unwrap();
    loop {
        store.take(&area.join("scripts"), &policy()).unwrap();
        println!("took");
        std::io::stdout().flush().unwrap();
        store.prune(0).unwrap();
    }
}

#[test]
fn what_somebody_is_still_making_is_no_rubbish() {
    let area = Area::with_manifest();
    let store = area.store();
    let names = ["tmp-1-0", "tmp-1-1"].map(|name| store.path().join(name));
    for name in &names {
        fs::create_dir(name).unwrap();
    }
    let making = fs::File::open(&names[0]).unwrap();
    making.lock().unwrap();
    drop(area.store());
    assert!(names[0].exists() && !names[1].exists());
    drop(making);
    drop(area.store());
    assert!(!names[0].exists());
}
