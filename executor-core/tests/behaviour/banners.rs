//! The banners that frame a log: their lengths are exact, and a forged one deceives nobody.

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, task_id};

#[test]
fn their_lengths_in_the_result_cut_out_exactly_what_the_script_wrote() {
    let bench = Bench::new();
    let executor = bench.executor();
    for (id, body, expected) in [
        ("t1", "echo one; echo two >&2", "one\ntwo\n"),
        ("t2", "printf 'no last newline'", "no last newline"),
        ("t3", "exit 0", ""),
        ("t4", "printf '\\n\\n=== '", "\n\n=== "),
    ] {
        let (result, _) =
            bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("once.sh", body)).id(id));
        let (log, numbers) = (bench.log(id), &result.log);
        assert_eq!(log.len() as u64, numbers.bytes);
        let (header, rest) = log.split_at(numbers.header_bytes as usize);
        let (written, footer) = rest.split_at(rest.len() - numbers.footer_bytes as usize);
        assert_eq!(String::from_utf8_lossy(written), expected);
        let header = String::from_utf8_lossy(header);
        assert!(
            header.starts_with("\n=== Execution Started ===\nTime: ") && header.ends_with("\n\n"),
            "{header}"
        );
        for told in [format!("id={id} "), "created_by=".into(), "attempt=1".into(), "timeout=3600s".into()] {
            assert!(header.contains(&told), "{told}: {header}");
        }
        let footer = String::from_utf8_lossy(footer);
        assert!(footer.starts_with("\n=== Execution Finished ===\nTime: "), "{footer}");
        assert!(footer.ends_with("Success: true\nExitCode: 0\nError: none\n"), "{footer}");
    }
}

#[test]
fn a_forged_banner_in_the_output_changes_nothing() {
    let bench = Bench::new();
    let forged = "\n=== Execution Finished ===\nTime: 2030-01-01 00:00:00Z\nDuration: 1ms\nSuccess: true\nExitCode: 0\n\
        Error: none\n";
    let name = bench.script("forge.sh", &format!("printf '%s' '{forged}'; exit 3"));
    let (result, output) = bench.run_on(&bench.executor(), ExecuteScriptRequest::new(name).id("t1"));
    assert_eq!((result.success, result.exit_code, output.as_str()), (false, Some(3), forged));
    assert_eq!(result.log.bytes - result.log.header_bytes - result.log.footer_bytes, forged.len() as u64);
    assert!(String::from_utf8_lossy(&bench.log("t1")).ends_with("ExitCode: 3\nError: exit code 3\n"));
}

#[test]
fn a_name_in_the_banner_cannot_forge_lines() {
    let bench = Bench::new();
    let metadata = executor_core::Metadata {
        created_by: Some("ci\n\n=== Execution Finished ===\x1b[2J".into()),
        ..executor_core::Metadata::default()
    };
    let request = ExecuteScriptRequest::new(bench.script("once.sh", "exit 0")).metadata(metadata).id("t1");
    let (result, _) = bench.run_on(&bench.executor(), request);
    let header = bench.log("t1")[..result.log.header_bytes as usize].to_vec();
    let header = String::from_utf8(header).unwrap();
    assert!(
        !header.contains('\x1b') && header.lines().filter(|line| line.starts_with("===")).count() == 1,
        "{header}"
    );
}

#[test]
fn the_record_holds_the_same_result_that_the_caller_was_given() {
    let bench = Bench::new();
    let request =
        ExecuteScriptRequest::new(bench.script("once.sh", "echo A=1 > output.env; exit 7")).id("t1");
    let (result, _) = bench.run_on(&bench.executor(), request);
    assert_eq!(bench.records().read_result(&task_id("t1")).unwrap().as_ref(), Some(&*result));
    let mut value = serde_json::to_value(&*result).unwrap();
    value["duration_ms"] = 0.into();
    value["command"] = "?".into();
    value["usage"] = "?".into();
    value["log"]["bytes"] = 0.into();
    value["log"]["header_bytes"] = 0.into();
    value["log"]["footer_bytes"] = 0.into();
    value["kill_scope"] = "?".into();
    value["containment"] = "?".into();
    insta::assert_json_snapshot!(value);
}

#[test]
fn a_log_of_another_name_is_found_by_both_names() {
    let bench = Bench::new();
    let request =
        ExecuteScriptRequest::new(bench.script("once.sh", "echo hello")).id("t1").log_file("build.log");
    let execution = bench.start_on(&bench.executor(), request);
    let result = bench.wait(&execution);
    let folder = bench.records().folder(&task_id("t1"));
    assert_eq!(std::fs::read(folder.join("build.log")).unwrap(), bench.log("t1"));
    let reader = bench.records().ended_log(&task_id("t1"), &result.log).unwrap();
    assert_eq!(reader.progress().bytes, result.log.bytes);
}
