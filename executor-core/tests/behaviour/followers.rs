//! Followers read a log by offset and see exactly the file; none of them is felt by the script.

use std::time::Duration;

use executor_core::{ExecuteScriptRequest, Execution};

use crate::bench::Bench;

const LINES: &str = "i=0; while [ $i -lt 30000 ]; do echo line $i of many; i=$((i+1)); done";

#[test]
fn one_that_follows_from_any_offset_sees_exactly_the_file_from_there() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("many.sh", LINES)).id("t1");
    let execution = bench.start_on(&bench.executor(), request);
    let offsets = [0, 1, 17, 300, 4_096, 65_536, 100_000, 10_000_000];
    let followers: Vec<_> = offsets
        .iter()
        .map(|&offset| bench.runtime.spawn(follow(execution.clone(), offset, 1 + offset as usize % 7_919)))
        .collect();
    bench.wait(&execution);
    let late = bench.runtime.spawn(follow(execution.clone(), 0, 65_536));
    let file = bench.log("t1");
    for (offset, follower) in offsets.iter().zip(followers).chain([(&0, late)]) {
        let seen = bench.runtime.block_on(follower).unwrap();
        assert_eq!(seen, file[(*offset as usize).min(file.len())..], "from {offset}");
    }
}

async fn follow(execution: Execution, mut offset: u64, chunk: usize) -> Vec<u8> {
    let mut reader = execution.log().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; chunk]);
    loop {
        let progress = reader.wait_beyond(offset).await;
        match reader.read_at(offset, &mut buffer).unwrap() {
            0 if progress.is_complete() => return seen,
            read => {
                seen.extend_from_slice(&buffer[..read]);
                offset += read as u64;
            }
        }
    }
}

#[test]
fn one_that_never_reads_does_not_slow_the_script() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("much.sh", "head -c 100000000 /dev/zero");
    let alone = bench.run_on(&executor, ExecuteScriptRequest::new(&name)).0.duration_ms;
    let execution = bench.start_on(&executor, ExecuteScriptRequest::new(&name));
    let stuck: Vec<_> = (0..50).map(|_| execution.log().unwrap()).collect();
    let result = bench.wait(&execution);
    assert!(result.success && result.log.bytes > 100_000_000);
    // Far more than the promised share, since other tests run beside; a reader that were felt would stop it for good.
    assert!(result.duration_ms < alone * 4 + 1000, "{} against {alone}", result.duration_ms);
    drop(stuck);
}

#[test]
fn a_follower_hears_of_each_line_as_soon_as_it_is_there() {
    let bench = Bench::new();
    let body = "for word in one two three; do echo $word; while ! [ -e $word ]; do sleep 0.005; done; done";
    let execution =
        bench.start_on(&bench.executor(), ExecuteScriptRequest::new(bench.script("steps.sh", body)).id("t1"));
    for word in ["one", "two", "three"] {
        // Each line is awaited before the script is allowed to write the next one.
        bench.wait_for_output(&execution, word);
        std::fs::write(bench.path("workspace/tasks/t1").join(word), "").unwrap();
    }
    assert!(bench.wait(&execution).success);
}

#[test]
fn one_of_an_ended_log_waits_for_nothing() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("once.sh", "echo x")).id("t1");
    let (result, _) = bench.run_on(&bench.executor(), request);
    let mut reader = bench.records().ended_log(&"t1".parse().unwrap(), &result.log).unwrap();
    let progress = bench.runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), reader.wait_beyond(u64::MAX)).await.unwrap()
    });
    assert_eq!((progress.bytes, progress.ended), (result.log.bytes, true));
    assert_eq!(reader.read_at(u64::MAX, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn numbers_of_a_damaged_result_lead_no_reader_beyond_the_file() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("once.sh", "echo x")).id("t1");
    bench.run_on(&bench.executor(), request);
    let lies = executor_core::LogSummary {
        bytes: u64::MAX,
        header_bytes: u64::MAX,
        footer_bytes: 7,
        ..Default::default()
    };
    let reader = bench.records().ended_log(&"t1".parse().unwrap(), &lies).unwrap();
    let (progress, length) = (reader.progress(), bench.log("t1").len() as u64);
    assert_eq!((progress.bytes, progress.header_bytes), (length, length));
    assert!(progress.body_end.is_some_and(|end| end <= length));
}
