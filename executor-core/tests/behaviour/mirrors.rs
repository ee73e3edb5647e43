//! Copies of executions that another agent carries out: whatever that says, the copy is what came of its log, as far as there
//! is room for it here.

use std::fs;

use executor_core::{ExecutionResult, LogSummary, Mirror, Outcome, Records, ScriptExecutor, TaskId};
use tempfile::TempDir;

/// Room that a copy has beyond the bound, for banners.
const BANNER_ROOM: u64 = 64 << 10;

struct Place {
    folder: TempDir,
    records: Records,
}

/// Records of an agent whose scripts may write so much.
fn place(max_log_bytes: u64) -> Place {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("scripts")).unwrap();
    let at = |name: &str| folder.path().join(name);
    let executor = ScriptExecutor::builder()
        .script_dir(at("scripts"))
        .work_dir(at("workspace"))
        .state_dir(at("state"))
        .max_log_bytes(max_log_bytes)
        .build()
        .unwrap();
    let records = executor.records().clone();
    Place { folder, records }
}

fn id() -> TaskId {
    "copied".parse().unwrap()
}

/// What another agent says of a log of that length.
fn result(bytes: u64, header_bytes: u64, footer_bytes: u64) -> ExecutionResult {
    let log = LogSummary { bytes, header_bytes, footer_bytes, ..LogSummary::default() };
    ExecutionResult { log, ..ExecutionResult::without_run(Outcome::Interrupted, "none", String::new()) }
}

impl Place {
    fn log(&self) -> Vec<u8> {
        fs::read(self.records.log_path(&id())).unwrap()
    }

    /// What was written down of a log that ends with that result.
    fn finished(&self, mut mirror: Mirror, result: ExecutionResult) -> LogSummary {
        mirror.finish(result).unwrap();
        let written = self.records.read_result(&id()).unwrap().unwrap().log;
        assert_eq!(written.bytes, self.log().len() as u64);
        assert!(written.header_bytes + written.footer_bytes <= written.bytes);
        self.records.ended_log(&id(), &written).unwrap();
        written
    }
}

#[test]
fn a_copy_is_taken_up_where_it_was_after_a_crash_and_begun_anew_after_another_boot() {
    let place = place(1 << 20);
    let (_, mut mirror) = Mirror::open(&place.records, &id()).unwrap();
    mirror.append(b"0123456789").unwrap();
    drop(mirror);
    let (_, mirror) = Mirror::open(&place.records, &id()).unwrap();
    assert_eq!(mirror.bytes(), 10);
    drop(mirror);

    let boot = place.folder.path().join("state/tasks/copied/boot");
    for other in [Some("another boot"), Some(""), None] {
        match other {
            Some(other) => fs::write(&boot, other).unwrap(),
            None => fs::remove_file(&boot).unwrap(),
        }
        let (_, mut mirror) = Mirror::open(&place.records, &id()).unwrap();
        assert_eq!((mirror.bytes(), place.log().len()), (0, 0), "{other:?}");
        mirror.append(b"whole").unwrap();
        drop(mirror);
        // And once only.
        assert_eq!(Mirror::open(&place.records, &id()).unwrap().1.bytes(), 5);
    }
}

#[test]
fn more_than_a_script_may_write_here_is_not_taken_of_another_agent_either() {
    let most = 1000 + BANNER_ROOM;
    let place = place(1000);
    let (_, mut mirror) = Mirror::open(&place.records, &id()).unwrap();
    let chunk = vec![7; 40_000];
    for _ in 0..100 {
        mirror.append(&chunk).unwrap();
    }
    assert_eq!((mirror.bytes(), place.log().len() as u64), (most, most));
    // The same after a crash of this agent.
    drop(mirror);
    let (_, mut mirror) = Mirror::open(&place.records, &id()).unwrap();
    mirror.append(b"more").unwrap();
    let summary = place.finished(mirror, result(4_000_004, 30, 20));
    assert_eq!((summary.bytes, summary.header_bytes, summary.footer_bytes), (most, 30, 0));
    assert_eq!(summary.truncated_bytes, 4_000_004 - 20 - most);
}

#[test]
fn a_log_that_fits_with_its_banners_is_taken_whole() {
    let place = place(1000);
    let (_, mut mirror) = Mirror::open(&place.records, &id()).unwrap();
    mirror.append(&[7; 1700]).unwrap();
    let summary = place.finished(mirror, result(1700, 400, 300));
    assert_eq!((summary.header_bytes, summary.footer_bytes, summary.truncated_bytes), (400, 300, 0));
}

#[test]
fn what_the_other_agent_says_of_the_log_is_brought_into_line_with_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::open(folder.path()).unwrap();
    let summary = |bytes, header_bytes, footer_bytes| LogSummary {
        bytes,
        header_bytes,
        footer_bytes,
        ..LogSummary::default()
    };
    let table = [
        ("true", summary(10, 2, 3), summary(10, 2, 3), false),
        ("short", summary(4, 2, 1), summary(10, 2, 0), false),
        ("long", summary(u64::MAX, 2, 3), summary(10, 2, 0), true),
        ("parts", summary(10, u64::MAX, u64::MAX), summary(10, 10, 0), false),
    ];
    for (id, said, expected, is_incomplete) in table {
        let (execution, mut mirror) = Mirror::open(&records, &id.parse().unwrap()).unwrap();
        mirror.append(b"0123456789").unwrap();
        let result = ExecutionResult::without_run(Outcome::Interrupted, "test", "as the test says");
        mirror.finish(ExecutionResult { log: said, ..result }).unwrap();
        let result = execution.result().unwrap();
        assert_eq!(result.log.incomplete.is_some(), is_incomplete, "{id}");
        assert_eq!(LogSummary { incomplete: None, ..result.log.clone() }, expected, "{id}");
        assert_eq!(*result, records.read_result(&id.parse().unwrap()).unwrap().unwrap());
    }
}
