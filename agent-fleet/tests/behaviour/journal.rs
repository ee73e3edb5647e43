//! The journal: what was written is there after a crash, and old assignments stay dead.

use agent_fleet::controller::Fleet;
use agent_fleet::journal::{Journal, JournalError, Record};
use agent_fleet::keys::Nonce;
use agent_fleet::node::{Journaled, Verdict};
use jiff::{SignedDuration, Timestamp};
use task_service::TaskId;

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

fn start() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    start() + SignedDuration::from_hours(hours)
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(&path).unwrap();
    let nonce = Nonce::random().unwrap();
    let verdict = Verdict { code: "script_not_found".to_owned(), message: "there is none".to_owned() };
    let records = [
        Record::Taken { task: task("a"), nonce },
        Record::Taken { task: task("b"), nonce },
        Record::Taken { task: task("c"), nonce },
        Record::Never { task: task("b"), verdict: verdict.clone() },
        Record::Settled { task: task("c") },
    ];
    journal.write(&records, start()).unwrap();
    // A process that dies closes nothing; what it wrote is in the write-ahead log.
    std::mem::forget(journal);

    let mut journal = Journal::open(&path).unwrap();
    let unfinished = journal.unfinished(start()).unwrap();
    let found: Vec<_> = unfinished
        .iter()
        .map(|entry| (entry.task.as_str(), entry.nonce, entry.verdict.clone(), entry.is_old))
        .collect();
    assert_eq!(found, [("a", Some(nonce), None, false), ("b", Some(nonce), Some(verdict), false)]);
    assert_eq!(journal.of(&task("c")).unwrap(), Journaled::Settled);
    assert_eq!(journal.of(&task("d")).unwrap(), Journaled::Unknown);
    assert!(journal.unfinished(after(3)).unwrap()[0].is_old);
}

#[test]
fn what_is_settled_is_remembered_as_long_as_an_assignment_of_it_could_be_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.write(&[Record::Settled { task: task("a") }], start()).unwrap();
    journal.forget(after(1)).unwrap();
    assert_eq!(journal.of(&task("a")).unwrap(), Journaled::Settled);
    journal.forget(after(3)).unwrap();
    assert_eq!(journal.of(&task("a")).unwrap(), Journaled::Unknown);
}

#[test]
fn a_clock_that_is_set_back_brings_no_time_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(&path).unwrap();
    journal.write(&[Record::Settled { task: task("a") }], start()).unwrap();
    journal.forget(after(3)).unwrap();
    drop(journal);
    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(journal.now(after(2)), after(3));
}

#[test]
fn a_clock_that_was_far_ahead_for_a_moment_makes_no_node_deaf() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(&path).unwrap();
    journal.write(&[Record::Settled { task: task("a") }], after(24 * 365)).unwrap();
    drop(journal);
    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(journal.now(start()), start());
    // What was settled meanwhile is not forgotten for that.
    journal.forget(start()).unwrap();
    assert_eq!(journal.of(&task("a")).unwrap(), Journaled::Settled);
    drop(journal);
    assert_eq!(Journal::open(&path).unwrap().now(start()), start());
}

#[test]
fn a_damaged_journal_is_set_aside_and_one_of_a_newer_agent_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    std::fs::write(&path, "no database at all, and long enough to be looked at as one".repeat(100)).unwrap();
    let mut journal = Journal::open(&path).unwrap();
    journal.write(&[Record::Settled { task: task("a") }], start()).unwrap();
    assert!(folder.path().join("journal.db.damaged").exists());
    drop(journal);

    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    drop(newer);
    assert!(matches!(Journal::open(&path), Err(JournalError::Newer { found: 7, .. })));
}

#[test]
fn a_journal_that_is_damaged_where_nobody_looks_at_first_is_set_aside_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(&path).unwrap();
    let records: Vec<Record> =
        (0..2000).map(|number| Record::Settled { task: task(&format!("task-{number}")) }).collect();
    journal.write(&records, start()).unwrap();
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    let mut journal = Journal::open(&path).unwrap();
    assert!(folder.path().join("journal.db.damaged").exists());
    assert!(journal.unfinished(start()).unwrap().is_empty());
}

#[test]
fn a_database_of_nodes_that_is_damaged_is_set_aside_and_the_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let records = task_service::Records::open(folder.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let path = folder.path().join("fleet/fleet.db");
    drop(Fleet::open(folder.path(), records.clone()).unwrap());
    assert!(!path.with_extension("db.damaged").exists());
    for companion in ["fleet.db-wal", "fleet.db-shm"] {
        let _ = std::fs::remove_file(path.with_file_name(companion));
    }
    std::fs::write(&path, "no database at all, and long enough to be looked at as one".repeat(100)).unwrap();
    drop(Fleet::open(folder.path(), records).unwrap());
    assert!(path.with_extension("db.damaged").exists());
}

#[test]
fn a_database_that_is_there_and_empty_has_lost_what_was_in_it_and_is_set_aside_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let records = task_service::Records::open(folder.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let fleet = || drop(Fleet::open(folder.path(), records.clone()).unwrap());
    let journal = folder.path().join("journal.db");
    let open = || std::mem::forget(Journal::open(&journal).unwrap());
    let database = folder.path().join("fleet/fleet.db");
    // One that was begun a moment ago is not empty, whoever died then.
    for _ in 0..2 {
        fleet();
        open();
    }
    for path in [&database, &journal] {
        let aside = path.with_extension("db.damaged");
        assert!(!aside.exists());
        std::fs::write(path, "").unwrap();
        fleet();
        open();
        assert_eq!(std::fs::metadata(&aside).unwrap().len(), 0);
        assert!(std::fs::metadata(path).unwrap().len() > 0);
    }
}
