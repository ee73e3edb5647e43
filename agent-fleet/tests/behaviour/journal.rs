//! The journal: what was written is there after a crash, and old assignments stay dead.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent_fleet::assignment::MAX_VALIDITY;
use agent_fleet::controller::Fleet;
use agent_fleet::journal::{Journal, JournalError, Record};
use agent_fleet::keys::{Nonce, SigningKey};
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

/// A journal as the first agents wrote it, whose clock has shown that.
pub(crate) fn first_version(path: &Path, highest: Timestamp) {
    let db = rusqlite::Connection::open(path).unwrap();
    let tables = "CREATE TABLE assignment (
            task TEXT PRIMARY KEY, nonce TEXT, stage TEXT NOT NULL, code TEXT, message TEXT, since INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), highest INTEGER NOT NULL) STRICT;
        INSERT INTO clock VALUES (1, 0);
        PRAGMA user_version = 1;";
    db.execute_batch(tables).unwrap();
    let row = "INSERT INTO assignment VALUES (?1, NULL, ?2, NULL, NULL, ?3)";
    for (task, stage) in [("open", "taken"), ("settled", "settled")] {
        db.execute(row, rusqlite::params![task, stage, start().as_second()]).unwrap();
    }
    db.execute("UPDATE clock SET highest = ?1", [highest.as_second()]).unwrap();
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(&path).unwrap();
    let nonce = Nonce::random().unwrap();
    let verdict = Verdict { code: "script_not_found".to_owned(), message: "there is none".to_owned() };
    let records = [
        Record::Taken { task: task("a"), nonce, accepted: Some(start()), server: None },
        Record::Taken { task: task("b"), nonce, accepted: None, server: None },
        Record::Taken { task: task("c"), nonce, accepted: Some(start()), server: None },
        Record::Never { task: task("b"), accepted: None, verdict: verdict.clone(), server: None },
        Record::Settled { task: task("c") },
    ];
    journal.write(&records, start()).unwrap();
    // A process that dies closes nothing; what it wrote is in the write-ahead log.
    std::mem::forget(journal);

    let journal = Journal::open(&path).unwrap();
    let unfinished = journal.unfinished(start()).unwrap();
    let found: Vec<_> = unfinished
        .iter()
        .map(|entry| (entry.task.as_str(), entry.nonce, entry.verdict.clone(), entry.is_old))
        .collect();
    assert_eq!(found, [("a", Some(nonce), None, false), ("b", Some(nonce), Some(verdict), false)]);
    assert_eq!(journal.of(&task("c"), None).unwrap(), Journaled::Settled);
    assert_eq!(journal.of(&task("d"), None).unwrap(), Journaled::Unknown);
    assert_eq!((unfinished[0].accepted, unfinished[1].accepted), (Some(start()), None));
    assert!(journal.unfinished(after(3)).unwrap()[0].is_old);
}

#[test]
fn another_task_of_an_id_is_told_from_the_one_that_is_settled_and_takes_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    // To the nanosecond, and also where the API server's clock is ahead.
    let ahead = start() + SignedDuration::from_mins(4);
    let (first, second) = (Some(ahead), Some(ahead + SignedDuration::from_nanos(1)));
    let nonce = Nonce::random().unwrap();
    let key = |name: &str| SigningKey::open(&folder.path().join(name)).unwrap().public();
    let taken = Record::Taken { task: task("a"), nonce, accepted: first, server: Some(key("first")) };
    journal.write(&[taken, Record::Settled { task: task("a") }], start()).unwrap();
    let of = |journal: &Journal, accepted| journal.of(&task("a"), accepted).unwrap();
    assert_eq!(of(&journal, first), Journaled::Settled);
    assert_eq!(of(&journal, second), Journaled::OtherSettled);
    // Whoever does not say which means the one that there is.
    assert_eq!(of(&journal, None), Journaled::Settled);

    let verdict = Verdict { code: "id_conflict".to_owned(), message: "there is another".to_owned() };
    let (accepted, server) = (second, Some(key("second")));
    journal.write(&[Record::Never { task: task("a"), accepted, verdict, server }], start()).unwrap();
    let unfinished = journal.unfinished(start()).unwrap();
    let found = (unfinished[0].said, unfinished[0].accepted, unfinished[0].nonce, unfinished[0].server);
    assert_eq!(found, (second, Some(start()), None, server));
    journal.write(&[Record::Settled { task: task("a") }], start()).unwrap();
    assert_eq!((of(&journal, first), of(&journal, second)), (Journaled::OtherSettled, Journaled::Settled));
}

#[test]
fn the_journal_of_an_older_agent_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let older = rusqlite::Connection::open(&path).unwrap();
    older
        .execute_batch(
            "CREATE TABLE assignment (task TEXT PRIMARY KEY, nonce TEXT, stage TEXT NOT NULL, code TEXT, message TEXT,
                since INTEGER NOT NULL) STRICT, WITHOUT ROWID;
            CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), highest INTEGER NOT NULL) STRICT;
            INSERT INTO clock VALUES (1, 0);
            INSERT INTO assignment VALUES ('runs', '0123456789abcdef0123456789abcdef', 'taken', NULL, NULL, 1893456000),
                ('over', NULL, 'settled', NULL, NULL, 1893456000);
            PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(older);
    let mut journal = Journal::open(&path).unwrap();
    let unfinished = journal.unfinished(start()).unwrap();
    assert_eq!((unfinished.len(), unfinished[0].task.as_str(), unfinished[0].accepted), (1, "runs", None));
    assert_eq!(journal.of(&task("over"), None).unwrap(), Journaled::Settled);
    let nonce = Nonce::random().unwrap();
    journal
        .write(&[Record::Taken { task: task("new"), nonce, accepted: Some(start()), server: None }], start())
        .unwrap();
    assert_eq!(journal.unfinished(start()).unwrap().len(), 2);
}

#[test]
fn what_is_settled_is_remembered_until_no_assignment_is_valid_by_a_clock_that_is_set_back_by_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Journal::open(&folder.path().join("journal.db")).unwrap();
    open().write(&[Record::Settled { task: task("a") }], start()).unwrap();
    // The last that was signed of it is valid for another hour, and five minutes by the API server's clock.
    let valid = start() + MAX_VALIDITY + SignedDuration::from_mins(5);
    let a_day = SignedDuration::from_hours(24);
    open().forget(valid + a_day).unwrap();
    assert_eq!(open().of(&task("a"), None).unwrap(), Journaled::Settled);
    open().forget(after(27)).unwrap();
    assert_eq!(open().of(&task("a"), None).unwrap(), Journaled::Unknown);
}

#[test]
fn what_is_settled_by_a_clock_that_was_set_back_is_remembered_by_the_later_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    let nonce = Nonce::random().unwrap();
    journal
        .write(&[Record::Taken { task: task("a"), nonce, accepted: None, server: None }], start())
        .unwrap();
    journal.write(&[Record::Settled { task: task("a") }], Timestamp::UNIX_EPOCH).unwrap();
    drop(journal);
    let mut journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    journal.forget(after(2)).unwrap();
    assert_eq!(journal.of(&task("a"), None).unwrap(), Journaled::Settled);
}

#[test]
fn a_clock_that_is_far_ahead_for_a_moment_has_nothing_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Journal::open(&folder.path().join("journal.db")).unwrap();
    let mut journal = open();
    journal.write(&[Record::Settled { task: task("a") }], start()).unwrap();
    journal.forget(after(24 * 365)).unwrap();
    assert_eq!(journal.of(&task("a"), None).unwrap(), Journaled::Settled);
    // The twin: by a process that knows no other time it is long ago.
    drop(journal);
    open().forget(after(24 * 365)).unwrap();
    assert_eq!(open().of(&task("a"), None).unwrap(), Journaled::Unknown);
}

#[test]
fn a_journal_that_others_may_read_is_made_its_owner_s_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    drop(Journal::open(&path).unwrap());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _journal = Journal::open(&path).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_journal_of_the_first_version_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    first_version(&path, start());
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let open = journal.unfinished(start()).unwrap();
        let open: Vec<_> = open.into_iter().map(|entry| (entry.task, entry.server)).collect();
        assert_eq!(open, [(task("open"), None)]);
        assert_eq!(journal.of(&task("settled"), None).unwrap(), Journaled::Settled);
    }
    // What was taken before is the API server's that the node knows, and no other's later.
    let [known, other] = ["01", "02"].map(|digits| digits.repeat(32).parse().unwrap());
    let mut journal = Journal::open(&path).unwrap();
    journal.adopt(&known).unwrap();
    journal.adopt(&other).unwrap();
    assert_eq!(journal.unfinished(start()).unwrap()[0].server, Some(known));
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
    let journal = Journal::open(&path).unwrap();
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
