//! Somebody rewrites the scripts folder all the time. A snapshot that is taken meanwhile holds what the
//! manifest lists, to the byte, or is refused.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use executor_integrity::{SnapshotStore, verify};
use tempfile::TempDir;

use crate::support::{Area, policy, refusal, write};

/// The file that is attacked: large enough that there is time while it is copied.
const NAME: &str = "big.sh";
const BYTES: usize = 128 * 1024;
/// How often a block is changed and put back before the next one.
const TOGGLES: usize = 200;
/// How often a snapshot is taken.
const ROUNDS: usize = 300;

fn good() -> Vec<u8> {
    vec![b'g'; BYTES]
}

fn folder() -> Area {
    let area = Area::without_manifest();
    write(&area.script(NAME), good(), 0o755);
    area.create_manifest();
    area
}

/// Changes one block of the file in place and puts it back, many times in the time that the hashing of a
/// chunk takes, at the beginning, in the middle and at the end, and replaces the file by renaming others over
/// it, until it is told to stop.
fn rewrite(file: &Path, stop: &AtomicBool) {
    // The other files are made outside the folder, where they are no problem of their own.
    let outside = file.parent().unwrap().parent().unwrap();
    let (evil, fresh) = (outside.join("evil.tmp"), outside.join("good.tmp"));
    while !stop.load(Ordering::Relaxed) {
        let open = fs::File::options().write(true).open(file).unwrap();
        for offset in [0, BYTES as u64 / 2, BYTES as u64 - 4096] {
            for _ in 0..TOGGLES {
                open.write_all_at(&[b'e'; 4096], offset).unwrap();
                open.write_all_at(&[b'g'; 4096], offset).unwrap();
            }
        }
        write(&evil, vec![b'e'; BYTES], 0o755);
        fs::rename(&evil, file).unwrap();
        std::thread::yield_now();
        write(&fresh, good(), 0o755);
        fs::rename(&fresh, file).unwrap();
        std::thread::yield_now();
    }
}

/// Runs `attempt` while the file is rewritten, until it answers false.
fn while_rewriting(area: &Area, mut attempt: impl FnMut() -> bool) {
    let stop = AtomicBool::new(false);
    let file = area.script(NAME);
    std::thread::scope(|scope| {
        scope.spawn(|| rewrite(&file, &stop));
        // The writer must stop, too, when an assertion fails here.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while attempt() {}));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
}

#[test]
fn a_snapshot_taken_while_files_are_rewritten_holds_only_verified_bytes() {
    let area = folder();
    let (mut accepted, mut refused) = (0, 0);
    while_rewriting(&area, || {
        // A new store each time: otherwise nothing would be copied any more.
        // In memory where there is such a place, since each is flushed.
        let store = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let store = SnapshotStore::at(&store.path().join("store")).unwrap();
        match store.take(&area.scripts, &policy()) {
            Ok(snapshot) => {
                accepted += 1;
                let bytes = fs::read(snapshot.path().join(NAME)).unwrap();
                assert!(bytes == good(), "unverified bytes are in an accepted snapshot");
            }
            Err(error) => {
                refused += 1;
                let error = refusal(error);
                let about = |problem: &executor_integrity::Problem| problem.file() == NAME;
                assert!(error.problems().as_slice().iter().all(about), "{error}");
            }
        }
        // Both must have been seen for the race to have been one.
        accepted + refused < ROUNDS || ((accepted == 0 || refused == 0) && accepted + refused < 50 * ROUNDS)
    });
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

/// The twin: the same attack on the obvious way, which reads the source twice.
#[test]
fn verifying_first_and_copying_then_would_let_unverified_bytes_in() {
    let area = folder();
    let copy = area.path("copy");
    let (mut attempts, mut injected) = (0, false);
    while_rewriting(&area, || {
        attempts += 1;
        if verify(&area.scripts, &policy()).is_ok() {
            fs::copy(area.script(NAME), &copy).unwrap();
            injected = fs::read(&copy).unwrap() != good();
        }
        !injected && attempts < 200 * ROUNDS
    });
    assert!(injected, "the attack did not work in {attempts} attempts: the other test shows nothing");
}
