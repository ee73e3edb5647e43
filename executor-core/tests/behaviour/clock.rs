//! Somebody sets the clock while scripts run: limits and durations do not follow it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use executor_core::{ExecuteScriptRequest, ExecutionResult, Outcome};

use crate::bench::{Bench, builder_in, write_script};
use crate::helper;

/// A library that tells a program another time of day than it is (faketime(1)); the monotonic clock goes on as it does.
const FAKETIME: &str = "faketime/libfaketime.so.1";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TIMEOUT: Duration = Duration::from_secs(1);

#[test]
fn no_time_limit_is_early_or_late_and_no_duration_negative_when_the_clock_steps_by_a_day() {
    let bench = Bench::new();
    let clock = bench.path("clock");
    fs::write(&clock, "+0").unwrap();
    let mut command = helper::command("run while the clock steps", &bench.path(""));
    command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", &clock);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    helper::finish(command);
}

fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join(FAKETIME));
    folders.into_iter().find(|path| path.exists()).expect("libfaketime, of the Debian package faketime")
}

pub(crate) fn help_while_the_clock_steps(folder: &Path) {
    write_script(&folder.join("scripts"), "long.sh", "#!/bin/sh\nexec sleep 300\n");
    write_script(&folder.join("scripts"), "short.sh", "#!/bin/sh\nsleep 0.3\n");
    let executor = builder_in(folder).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Starts a script, sets the clock, and waits for the end.
    let stepped = |script: &str, timeout: Duration, step: &str| -> std::sync::Arc<ExecutionResult> {
        runtime.block_on(async {
            let request = ExecuteScriptRequest::new(script).timeout(timeout);
            let execution = executor.start(request).await.unwrap();
            let before = SystemTime::now();
            fs::write(folder.join("clock"), step).unwrap();
            let moved = SystemTime::now().duration_since(before).unwrap_or_else(|error| error.duration());
            assert!(moved > DAY / 2, "the clock did not step: {moved:?}");
            execution.wait().await
        })
    };
    for step in ["-1d", "+1d"] {
        let begun = Instant::now();
        let result = stepped("long.sh", TIMEOUT, step);
        assert_eq!(result.outcome, Outcome::TimedOut, "{step}");
        let took = begun.elapsed();
        assert!((TIMEOUT..TIMEOUT + Duration::from_millis(750)).contains(&took), "{step}: {took:?}");
        assert!((1000..1750).contains(&result.duration_ms), "{step}: {} ms", result.duration_ms);
    }
    for step in ["-1d", "+1d"] {
        let result = stepped("short.sh", TIMEOUT * 10, step);
        assert_eq!(result.outcome, Outcome::Exited { code: 0 }, "{step}");
        assert!((300..5000).contains(&result.duration_ms), "{step}: {} ms", result.duration_ms);
    }
}
