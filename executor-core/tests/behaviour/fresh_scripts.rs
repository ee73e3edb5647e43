//! A script that was written a moment ago runs, although the start of another one may hold a copy of the descriptor
//! that it was written through (execve(2), ETXTBSY).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use executor_core::ExecuteScriptRequest;

use crate::bench::{Bench, write_script};

const THREADS: u32 = 16;
const SCRIPT: &str = "#!/bin/sh\nexit 0\n";
const TIME: Duration = Duration::from_secs(5);

#[test]
fn it_never_surfaces_that_a_fresh_script_is_busy() {
    let bench = Bench::new();
    let executor = bench.executor();
    let scripts = bench.path("scripts");
    let count = AtomicU32::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (executor, scripts, count, runtime) = (&executor, &scripts, &count, bench.runtime.handle());
            scope.spawn(move || {
                for round in 0..200 {
                    let name = format!("fresh-{thread}-{round}");
                    write_script(scripts, &name, SCRIPT);
                    let result = runtime.block_on(executor.execute(ExecuteScriptRequest::new(&name)));
                    assert!(result.unwrap_or_else(|error| panic!("{error}")).success);
                    count.fetch_add(1, Ordering::Relaxed);
                    if begun.elapsed() > TIME {
                        return;
                    }
                }
            });
        }
    });
    let count = count.load(Ordering::Relaxed);
    println!("{count} fresh scripts ran in {:?}", begun.elapsed());
    assert!(count >= 500, "{count} starts show little");
}

#[test]
fn a_start_that_does_not_try_again_meets_it() {
    // The twin: without it the test above would show nothing.
    let folder = tempfile::tempdir().unwrap();
    let (met, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (folder, met, tried) = (folder.path(), &met, &tried);
            scope.spawn(move || start_naively(folder, thread, met, tried, begun));
        }
    });
    assert!(met.load(Ordering::Relaxed), "{} naive starts never met it", tried.load(Ordering::Relaxed));
    println!("met after {} naive starts", tried.load(Ordering::Relaxed));
}

fn start_naively(folder: &Path, thread: u32, met: &AtomicBool, tried: &AtomicU32, begun: Instant) {
    let mut round = 0;
    while !met.load(Ordering::Relaxed) && begun.elapsed() < 3 * TIME {
        round += 1;
        let path = write_script(folder, &format!("fresh-{thread}-{round}"), SCRIPT);
        match std::process::Command::new(path).status() {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => met.store(true, Ordering::Relaxed),
            other => assert!(other.unwrap().success()),
        }
        tried.fetch_add(1, Ordering::Relaxed);
    }
}
