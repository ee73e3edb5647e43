//! The log is the bytes that the script wrote, in order, whatever they are and however many.

use std::fs;
use std::io::Read;
use std::path::Path;

use executor_core::ExecuteScriptRequest;
use sha2::{Digest, Sha256};

use crate::bench::{Bench, builder_in, task_id, write_script};
use crate::helper;

/// Two outputs of 1 GiB, many lines, and one line without an end, with the digests that `sha256sum` gives for what these
/// commands write.
const LARGE: [(&str, &str, &str); 2] = [
    (
        "lines",
        "yes 'a line that a script writes again and again' | head -c 1073741824",
        "6e12e7b968af6769d4c9d95495490d0b522f3b26421641dd3bbd1d7cc131db21",
    ),
    (
        "line",
        "head -c 1073741824 /dev/zero",
        "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14",
    ),
];
/// What the agent may need for them beside what it had before.
const MAX_GROWTH_KIB: u64 = 16 << 10;

#[test]
fn a_gibibyte_of_lines_and_a_line_of_a_gibibyte_are_logged_whole_in_flat_memory() {
    let bench = Bench::new();
    // In memory where there is such a folder: the disk is not what is measured.
    let shared = Path::new("/dev/shm");
    let state = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    std::os::unix::fs::symlink(state.path(), bench.path("state")).unwrap();
    let told = helper::run("measure memory", &bench.path(""));
    let growth: u64 =
        told.lines().find_map(|line| line.strip_prefix("grew by KiB: ")).unwrap().parse().unwrap();
    assert!(growth <= MAX_GROWTH_KIB, "{growth} KiB");
    println!("two logs of 1 GiB took {growth} KiB");
    for (id, _, expected) in LARGE {
        let result = bench.records().read_result(&task_id(id)).unwrap().unwrap();
        assert!(
            result.success && result.log.truncated_bytes == 0 && result.log.incomplete.is_none(),
            "{result:?}"
        );
        let body = result.log.bytes - result.log.header_bytes - result.log.footer_bytes;
        let log = bench.records().log_path(&task_id(id));
        assert_eq!(digest(&log, result.log.header_bytes, body), expected, "{id}");
    }
}

pub(crate) fn help(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    let run = |id: &str, body: &str| {
        write_script(&folder.join("scripts"), id, &format!("#!/bin/sh\n{body}\n"));
        runtime.block_on(executor.execute(ExecuteScriptRequest::new(id).id(id))).unwrap()
    };
    run("warm", "echo up");
    let before = peak_kib();
    for (id, generator, _) in LARGE {
        run(id, generator);
    }
    println!("grew by KiB: {}", peak_kib() - before);
}

/// The peak of this process's own memory (proc_pid_status(5)).
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn digest(path: &Path, from: u64, length: u64) -> String {
    use std::io::Seek;
    let mut file = fs::File::open(path).unwrap();
    file.seek(std::io::SeekFrom::Start(from)).unwrap();
    let (mut hasher, mut reader, mut chunk) = (Sha256::new(), file.take(length), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut chunk).unwrap() {
            0 => return hex::encode(hasher.finalize()),
            read => hasher.update(&chunk[..read]),
        }
    }
}

#[test]
fn what_is_above_the_cap_is_dropped_and_counted_to_the_byte() {
    let bench = Bench::new();
    for (cap, written) in [(1000, 5000), (1000, 1000), (1000, 1001), (0, 10), (1, 0), (100_000, 300_000)] {
        let executor = bench.builder().max_log_bytes(cap).build().unwrap();
        let name = bench.script("much.sh", &format!("yes 0123456789abcdef | head -c {written}"));
        let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(name));
        assert!(result.success, "the script was ended for it");
        let kept = written.min(cap);
        assert_eq!((output.len() as u64, result.log.truncated_bytes), (kept, written - kept));
        let expected: String = "0123456789abcdef\n".chars().cycle().take(kept as usize).collect();
        assert!(output == expected && result.log.incomplete.is_none());
    }
}

#[test]
fn both_streams_stand_in_the_order_in_which_they_were_written() {
    let bench = Bench::new();
    let body = "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let (_, output) = bench.run(body);
    let expected: String = (0..2000).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert!(output == expected);
}

#[test]
fn a_mebibyte_to_the_second_stream_before_the_first_one_stops_nobody() {
    let bench = Bench::new();
    let (result, output) = bench.run("head -c 1048576 /dev/zero | tr '\\000' e >&2; echo out");
    assert!(result.success);
    assert_eq!(output.len(), 1_048_576 + 4);
}

#[test]
fn bytes_that_are_no_text_and_an_unfinished_last_line_are_kept_as_they_are() {
    let bench = Bench::new();
    let all: String = (0..=255).map(|byte| format!("\\{byte:03o}")).collect();
    let name = bench.script("bytes.sh", &format!("printf '{all}'; printf '\\033[31mred'"));
    let execution = bench.start_on(&bench.executor(), ExecuteScriptRequest::new(name));
    bench.wait(&execution);
    let expected: Vec<u8> = (0..=255).chain(*b"\x1b[31mred").collect();
    assert_eq!(crate::bench::body_of(&execution), expected);
}

#[test]
fn a_script_that_closes_its_output_early_runs_on_to_its_end() {
    let bench = Bench::new();
    let (result, output) = bench.run("echo a; exec >&- 2>&-; sleep 0.2; echo A=1 > output.env; exit 6");
    assert_eq!((result.exit_code, output.as_str(), result.leaked_output), (Some(6), "a\n", false));
    assert_eq!(result.output_params["A"], "1");
}
