//! `cargo xtask test`: gets what tests need, builds, runs the examples in the documentation, and then all other tests, so
//! that the summary of the test runner is the last that is seen.

use std::path::Path;
use std::process::Stdio;
use std::thread::available_parallelism;

use crate::failure::Failure;
use crate::programs;
use crate::step::{Steps, cargo, say};
use crate::tools;

/// How many tests run at once, for the test runner: one more than there are processors, since many of them mostly wait.
const AT_ONCE: &str = "NEXTEST_TEST_THREADS";

/// Runs all tests; the arguments go to the test runner.
pub(crate) fn run(folder: &Path, arguments: &[String]) -> Result<(), Failure> {
    programs::ensure(folder)?;
    tools::ensure(folder);
    let mut steps = Steps::new(folder);
    let has_nextest = has_nextest(folder);
    // Tests of one program start others, which cargo does not build for them.
    if !steps.cargo(&["build", "--workspace", "--bins", "--examples"]) {
        return steps.finish();
    }
    steps.cargo(&["test", "--workspace", "--doc"]);
    if has_nextest {
        let mut nextest = cargo();
        if let (None, Ok(processors)) = (std::env::var_os(AT_ONCE), available_parallelism()) {
            nextest.env(AT_ONCE, (processors.get() + 1).to_string());
        }
        steps.run(nextest.args(["nextest", "run", "--workspace"]).args(arguments));
    } else {
        say(
            "xtask: cargo-nextest cannot be had here; `cargo test` runs the tests instead, without its time limits",
        );
        // Not --all-targets: that would run the measurements too.
        let targets = ["--lib", "--bins", "--tests", "--no-fail-fast"];
        steps.run(cargo().args(["test", "--workspace"]).args(targets).args(arguments));
    }
    steps.finish()
}

/// Whether the runner is there, installed now if need be. That it cannot be installed is no failure of the tests.
fn has_nextest(folder: &Path) -> bool {
    let is_there = || {
        let mut version = cargo();
        version
            .args(["nextest", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    };
    is_there() || (Steps::new(folder).cargo(&["install", "cargo-nextest", "--locked"]) && is_there())
}
