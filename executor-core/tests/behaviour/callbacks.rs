//! Callbacks see the log's bytes, all and in order, and cannot harm an execution.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, eventually};

const MANY_LINES: &str = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";

#[test]
fn several_callbacks_see_all_bytes_in_order() {
    let bench = Bench::new();
    let seen: Vec<Arc<Mutex<Vec<u8>>>> = (0..3).map(|_| Arc::default()).collect();
    let request = ExecuteScriptRequest::new(bench.script("many.sh", MANY_LINES)).id("t1");
    let request = seen.iter().cloned().fold(request, |request, seen| {
        request.log_callback(move |bytes| seen.lock().unwrap().extend_from_slice(bytes))
    });
    bench.run_on(&bench.executor(), request);
    for seen in seen {
        assert_eq!(*seen.lock().unwrap(), bench.log("t1"));
    }
}

#[test]
fn a_slow_callback_does_not_slow_the_script() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("many.sh", MANY_LINES))
        .log_callback(|_| std::thread::sleep(Duration::from_millis(700)));
    let (result, _) = bench.run_on(&bench.executor(), request);
    // Two of its naps alone would take longer than the limit for all of them.
    assert!(result.success);
    let without = bench.run(MANY_LINES).0.duration_ms;
    assert!(result.duration_ms < without * 2 + 400, "{} against {without}", result.duration_ms);
}

#[test]
fn a_stuck_callback_holds_the_result_up_for_a_second_at_most() {
    let bench = Bench::new();
    let release = Arc::new(AtomicBool::new(false));
    let stuck = release.clone();
    let request = ExecuteScriptRequest::new(bench.script("quick.sh", "exit 0")).log_callback(move |_| {
        while !stuck.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    let begun = Instant::now();
    let (result, _) = bench.run_on(&bench.executor(), request);
    assert!(result.success);
    assert!(begun.elapsed() < Duration::from_millis(1700), "{:?}", begun.elapsed());
    release.store(true, Ordering::Relaxed);
}

#[test]
fn a_stuck_callback_and_held_output_together_keep_the_limit_of_the_result() {
    let bench = Bench::new();
    let release = Arc::new(AtomicBool::new(false));
    let stuck = release.clone();
    let executor = bench.builder().leftovers(executor_core::Leftovers::Report).build().unwrap();
    let name = bench.script("leak.sh", "sleep 6 & exit 0");
    let request = ExecuteScriptRequest::new(name).log_callback(move |_| {
        while !stuck.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    let begun = Instant::now();
    let (result, _) = bench.run_on(&executor, request);
    assert!(begun.elapsed() < Duration::from_millis(2800), "{:?}", begun.elapsed());
    assert!(result.leaked_output);
    release.store(true, Ordering::Relaxed);
}

#[test]
fn a_callback_that_panics_harms_neither_the_execution_nor_the_others() {
    let bench = Bench::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let other = seen.clone();
    let request = ExecuteScriptRequest::new(bench.script("many.sh", MANY_LINES))
        .id("t1")
        .log_callback(|_| panic!("a callback that panics"))
        .log_callback(move |bytes| other.lock().unwrap().extend_from_slice(bytes));
    let (result, _) = bench.run_on(&bench.executor(), request);
    assert!(result.success);
    assert_eq!(*seen.lock().unwrap(), bench.log("t1"));
}

#[test]
fn a_callback_sees_output_while_the_script_goes_on() {
    let bench = Bench::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let callbacks = seen.clone();
    let request = ExecuteScriptRequest::new(bench.script("wait.sh", "echo first; sleep 300"))
        .log_callback(move |bytes| callbacks.lock().unwrap().extend_from_slice(bytes));
    let execution = bench.start_on(&bench.executor(), request);
    let has_first = || String::from_utf8_lossy(&seen.lock().unwrap()).contains("first");
    eventually("the callback saw nothing", has_first);
    execution.cancel();
    bench.wait(&execution);
}
