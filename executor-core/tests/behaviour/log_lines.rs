//! Lines of a log are found by their number and by what they hold, as a look at every byte would find them.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use executor_core::{
    ExecuteScriptRequest, LineMatch, LogMatches, LogProgress, LogReader, SearchLimits, SearchPlace,
};
use proptest::prelude::*;

use crate::bench::{Bench, PATIENCE};

const MEBIBYTE: usize = 1 << 20;

fn ended(path: &Path) -> LogReader {
    LogReader::ended(path, LogProgress { bytes: u64::MAX, ended: true, ..LogProgress::default() }).unwrap()
}

fn log(bytes: &[u8]) -> (tempfile::TempDir, LogReader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdout.txt");
    fs::write(&path, bytes).unwrap();
    let reader = ended(&path);
    (folder, reader)
}

/// Where lines begin, by a look at every byte.
fn beginnings(bytes: &[u8]) -> Vec<u64> {
    let behind = |(at, byte): (usize, &u8)| (*byte == b'\n').then_some(at as u64 + 1);
    std::iter::once(0)
        .chain(bytes.iter().enumerate().filter_map(behind))
        .filter(|&at| at < bytes.len() as u64)
        .collect()
}

fn check_lines(reader: &LogReader, bytes: &[u8], some: impl Fn(usize) -> bool) {
    let expected = beginnings(bytes);
    for (index, offset) in expected.iter().enumerate().filter(|(index, _)| some(*index)) {
        let found = reader.line_offset(0, bytes.len() as u64, index as u64 + 1).unwrap();
        assert_eq!(found, Some(*offset), "line {}", index + 1);
    }
    for line in [0, expected.len() as u64 + 1, u64::MAX] {
        assert_eq!(reader.line_offset(0, bytes.len() as u64, line).unwrap(), None, "line {line}");
    }
}

/// All matches, so many at a time.
fn search(reader: &LogReader, text: &[u8], to: usize, at_once: usize) -> Vec<LineMatch> {
    let mut place = Some(SearchPlace { offset: 0, line: 1, is_told: false });
    let mut all = Vec::new();
    while let Some(from) = place {
        let until = Instant::now() + PATIENCE;
        let never = AtomicBool::new(false);
        let limits = SearchLimits { to: to as u64, matches: at_once, until, is_abandoned: &never };
        let LogMatches { matches, next } = reader.search(text, from, limits).unwrap();
        assert!(matches.len() <= at_once);
        all.extend(matches);
        place = next;
    }
    all
}

/// Line and offset of each match, by a look at every line.
fn expected(bytes: &[u8], text: &[u8]) -> Vec<(u64, u64)> {
    let mut offset = 0;
    let mut found = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Some(at) = line.windows(text.len()).position(|window| window == text) {
            found.push((index as u64 + 1, offset + at as u64));
        }
        offset += line.len() as u64;
    }
    found
}

fn places(matches: &[LineMatch]) -> Vec<(u64, u64)> {
    matches.iter().map(|found| (found.line, found.offset)).collect()
}

proptest! {
    #[test]
    fn lines_and_matches_are_those_that_a_look_at_every_byte_finds(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'b'), any::<u8>()], 0..600),
        text in proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 1..4),
        at_once in 1..5_usize,
    ) {
        let (_folder, reader) = log(&bytes);
        check_lines(&reader, &bytes, |_| true);
        prop_assert_eq!(places(&search(&reader, &text, bytes.len(), at_once)), expected(&bytes, &text));
    }
}

#[test]
fn what_lies_across_the_blocks_of_a_search_is_found_once() {
    for text in [&b"needle"[..], &[b'x'; 1000]] {
        let length = text.len();
        for shift in [0, 1, 2, length / 2, length - 1, length, length + 1] {
            let mut bytes = vec![b'.'; MEBIBYTE - shift];
            bytes.extend(text);
            bytes.extend(b" and again ");
            bytes.extend(text);
            bytes.resize(2 * MEBIBYTE + 100, b'.');
            bytes.extend(b"\nlast ");
            bytes.extend(text);
            let (_folder, reader) = log(&bytes);
            let found = search(&reader, text, bytes.len(), 1);
            let first = (MEBIBYTE - shift) as u64;
            assert_eq!(places(&found), [(1, first), (2, (bytes.len() - text.len()) as u64)], "shift {shift}");
        }
    }
}

#[test]
fn a_match_shows_its_line_and_of_a_long_one_what_is_around() {
    let mut bytes = b"first\r\n\xffsecond here\nthird".to_vec();
    let (_folder, reader) = log(&bytes);
    let texts = |reader: &LogReader, text: &[u8], to| -> Vec<String> {
        search(reader, text, to, 10).into_iter().map(|found| found.text).collect()
    };
    assert_eq!(texts(&reader, b"s", bytes.len()), ["first", "\u{fffd}second here"]);
    assert_eq!(texts(&reader, b"th", bytes.len()), ["third"]);
    // What is behind the end of a part is not found.
    assert_eq!(texts(&reader, b"third", bytes.len() - 1), Vec::<String>::new());
    bytes = [vec![b'-'; 5000], b"here".to_vec(), vec![b'+'; 5000]].concat();
    let (_folder, reader) = log(&bytes);
    let shown = &texts(&reader, b"here", bytes.len())[0];
    assert_eq!(*shown, format!("{}here{}", "-".repeat(256), "+".repeat(1024 - 260)));
}

#[test]
fn a_search_ends_at_its_time_or_when_nobody_waits_and_goes_on_where_it_was() {
    let bytes = vec![b'a'; 3 * MEBIBYTE];
    let (_folder, reader) = log(&bytes);
    let from = SearchPlace { offset: 0, line: 1, is_told: false };
    let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
    for (until, abandoned) in [(now, false), (later, true)] {
        let is_abandoned = AtomicBool::new(abandoned);
        let limits = SearchLimits { to: bytes.len() as u64, matches: 1, until, is_abandoned: &is_abandoned };
        assert_eq!(
            reader.search(b"b", from, limits).unwrap(),
            LogMatches { matches: vec![], next: Some(from) }
        );
    }
}

/// Writes some 3 MiB of lines, then waits for the file that its argument names.
const MUCH: &str = "seq 1 450000\nuntil [ -e \"$1\" ]; do sleep 0.02; done\necho end";

#[test]
fn marks_are_made_while_a_log_is_written_and_kept_and_made_again_where_they_are_damaged() {
    let bench = Bench::new();
    let (script, gate) = (bench.script("much.sh", MUCH), bench.path("gate"));
    let request = ExecuteScriptRequest::new(&script).args([gate.as_os_str()]);
    let execution = bench.runtime.block_on(bench.executor().start(request)).unwrap();
    let path = execution.log_path().to_owned();
    let mut reader = execution.log().unwrap();
    let lines: u64 = (1..=450_000).map(|line: u32| u64::from(line.ilog10()) + 2).sum();
    let all = reader.progress().header_bytes + lines;
    assert_eq!(bench.runtime.block_on(reader.wait_beyond(all - 1)).bytes, all);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 2 * MEBIBYTE, "{} bytes", bytes.len());
    check_lines(&reader, &bytes, |index| index % 9973 == 0);

    fs::write(&gate, "").unwrap();
    bench.runtime.block_on(execution.wait());
    let bytes = fs::read(&path).unwrap();
    let marks = path.with_file_name("lines.idx");
    let good = fs::read(&marks).unwrap();
    assert_eq!(good.len(), bytes.len() / MEBIBYTE * 8);
    check_lines(&ended(&path), &bytes, |index| index % 9973 == 0);
    // The twin: they are what is used, so that wrong ones that could be right lead elsewhere.
    let right = Some(beginnings(&bytes)[439_999]);
    let find = || ended(&path).line_offset(0, bytes.len() as u64, 440_000).unwrap();
    assert_eq!(find(), right);
    let mut wrong = good.clone();
    wrong[good.len() - 8] ^= 1;
    fs::write(&marks, &wrong).unwrap();
    assert_ne!(find(), right);
    for damaged in [vec![], vec![0xff; good.len()], good[1..].to_vec(), [&good[..], &[0]].concat()] {
        fs::write(&marks, &damaged).unwrap();
        check_lines(&ended(&path), &bytes, |index| index % 99_730 == 0);
    }
    fs::remove_file(&marks).unwrap();
    check_lines(&ended(&path), &bytes, |index| index % 99_730 == 0);
}

#[test]
fn a_short_log_has_no_marks() {
    let bench = Bench::new();
    let execution = bench
        .runtime
        .block_on(bench.executor().start(ExecuteScriptRequest::new(bench.script("short.sh", "echo hello"))))
        .unwrap();
    bench.runtime.block_on(execution.wait());
    assert!(!execution.log_path().with_file_name("lines.idx").exists());
}
