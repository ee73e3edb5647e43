//! The copy of an execution that another agent carries out: what is here counts, and not what the other one says of it.

use executor_core::{ExecutionResult, LogSummary, Mirror, Outcome, Records};

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
