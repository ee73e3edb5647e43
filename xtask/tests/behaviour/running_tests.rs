//! `cargo xtask test` and `cargo xtask bench`: what they get, the order of their steps, and what they make of failures.
//! Programs that stand in for cargo and apt-get write down how they are called.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

const BUILD: &str = "build --workspace --bins --examples";
const DOC_TESTS: &str = "test --workspace --doc";
const FALLBACK: &str = "test --workspace --lib --bins --tests --no-fail-fast";

/// A folder that is the whole `PATH`, and one for programs of registries.
struct Host {
    path: tempfile::TempDir,
    tools: tempfile::TempDir,
    calls: tempfile::NamedTempFile,
}

impl Host {
    /// Without any program.
    fn bare() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        Self { path: folder(), tools: folder(), calls: tempfile::NamedTempFile::new().unwrap() }
    }

    /// With all programs of Debian that tests need, and npm.
    fn without_tools() -> Self {
        let host = Self::bare();
        for program in host.missing_programs() {
            symlink("/bin/true", host.path.path().join(program)).unwrap();
        }
        fs::remove_file(host.path.path().join("python3")).unwrap();
        for program in ["npm", "python3"] {
            symlink(stand_in(program), host.path.path().join(program)).unwrap();
        }
        host
    }

    /// With all programs that tests need.
    fn equipped() -> Self {
        let host = Self::without_tools();
        host.test(&[], &[]);
        fs::write(host.calls.path(), "").unwrap();
        host
    }

    /// The programs that the report of a run on this host names.
    fn missing_programs(&self) -> Vec<String> {
        let report = text(&self.test(&[], &[]));
        let lines = report.lines().filter(|line| line.starts_with("  "));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    fn test(&self, arguments: &[&str], failing: &[&str]) -> Output {
        self.xtask(&[&["test"], arguments].concat(), failing)
    }

    fn xtask(&self, arguments: &[&str], failing: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).env("PATH", self.path.path());
        command.env("CARGO", stand_in("cargo")).env("CALLS", self.calls.path());
        command.env("XTASK_TOOLS", self.tools.path());
        // A text that no call begins with keeps the list from being empty, which would stand for every call.
        command.env("FAILING", [&["nothing"], failing].concat().join("\n"));
        command.output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.calls.path()).unwrap().lines().map(str::to_owned).collect()
    }
}

fn stand_in(name: &str) -> String {
    format!("{}/tests/behaviour/stand_ins/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_test_runner_comes_last_and_gets_the_arguments() {
    let host = Host::equipped();
    let output = host.test(&["-p", "xtask"], &[]);
    assert!(output.status.success(), "{}", text(&output));
    let expected = ["nextest --version", BUILD, DOC_TESTS, "nextest run --workspace -p xtask"];
    assert_eq!(host.calls(), expected);
}

#[test]
fn missing_programs_are_named_with_the_command_that_installs_them_and_nothing_is_built() {
    let host = Host::bare();
    let output = host.test(&[], &[]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(report.contains("apt-get update && apt-get install -y "), "{report}");
    for program in ["minisign", "python3", "shellcheck", "strace", "sqlite3", "zstd"] {
        assert!(report.contains(program), "{report}");
    }
    assert!(host.calls().is_empty());
}

/// Root installs what is missing; anybody else is told.
#[test]
fn only_root_installs_missing_programs() {
    let host = Host::bare();
    let missing = host.missing_programs();
    symlink(stand_in("apt-get"), host.path.path().join("apt-get")).unwrap();
    let output = host.test(&[], &[]);
    let is_root = fs::metadata(Path::new("/proc/self")).unwrap().uid() == 0;
    assert_eq!(output.status.success(), is_root, "{}", text(&output));
    let calls = host.calls();
    if is_root {
        assert_eq!(calls[0], "apt-get -q update");
        let packages = missing.join(" ").replace(" man ", " man-db ");
        assert_eq!(calls[1], format!("apt-get -q install -y --no-install-recommends {packages}"));
        assert!(calls.contains(&BUILD.to_owned()), "{calls:?}");
    } else {
        assert!(calls.is_empty(), "{calls:?}");
    }
}

#[test]
fn a_runner_that_is_missing_is_installed_or_else_cargo_runs_the_tests() {
    let host = Host::equipped();
    let output = host.test(&["name"], &["nextest", "install"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("cargo-nextest cannot be had here"));
    let install = "install cargo-nextest --locked";
    let fallback = format!("{FALLBACK} name");
    assert_eq!(host.calls(), ["nextest --version", install, BUILD, DOC_TESTS, &fallback]);
}

#[test]
fn programs_of_registries_are_got_once_in_a_version_that_is_named() {
    let host = Host::without_tools();
    assert!(host.test(&[], &[]).status.success());
    let calls = host.calls();
    assert!(calls[0].starts_with("install usage-cli --locked --profile dev --version "), "{calls:?}");
    assert!(calls[1].starts_with("npm install ") && calls[1].contains("mise-linux-"), "{calls:?}");
    assert!(calls[2].starts_with("python3 -m venv --clear "), "{calls:?}");
    assert!(calls[3].starts_with("pip install ") && calls[3].contains(" schemathesis=="), "{calls:?}");
    for name in ["usage", "mise", "schemathesis"] {
        assert!(host.tools.path().join("bin").join(name).exists(), "{name}");
    }
    host.test(&[], &[]);
    let again = host.calls()[calls.len()..].join("\n");
    assert!(!["usage-cli", "npm", "pip"].iter().any(|name| again.contains(name)), "{again}");
    // A link to another version is replaced.
    fs::remove_file(host.tools.path().join("bin/usage")).unwrap();
    symlink("/bin/true", host.tools.path().join("bin/usage")).unwrap();
    host.test(&[], &[]);
    assert!(host.calls().last().is_some() && host.calls().join("\n").matches("usage-cli").count() == 2);
}

#[test]
fn a_program_of_a_registry_that_cannot_be_had_is_named_with_what_needs_it_and_the_tests_run() {
    let host = Host::without_tools();
    let output = host.test(&[], &["install usage-cli"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("usage 7."), "{}", text(&output));
    assert!(text(&output).contains("tests fail that need the shipped scripts under `usage bash`"));
    let host = Host::without_tools();
    fs::remove_file(host.path.path().join("npm")).unwrap();
    let said = text(&host.test(&[], &[]));
    assert!(said.contains("npm is missing") && said.contains("mise 2026."), "{said}");
    let host = Host::without_tools();
    fs::remove_file(host.path.path().join("python3")).unwrap();
    symlink("/bin/false", host.path.path().join("python3")).unwrap();
    let said = text(&host.test(&[], &[]));
    assert!(said.contains("package python3-venv") && said.contains("schemathesis 4."), "{said}");
    assert_eq!(host.calls().last().unwrap(), "nextest run --workspace");
}

#[test]
fn a_failed_documentation_example_fails_the_run_and_the_other_tests_still_run() {
    let host = Host::equipped();
    let output = host.test(&[], &["test --workspace --doc"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("xtask: failed: cargo test --workspace --doc\n"), "{}", text(&output));
    assert_eq!(host.calls().last().unwrap(), "nextest run --workspace");
}

#[test]
fn a_failed_test_fails_the_run() {
    let host = Host::equipped();
    let output = host.test(&[], &["nextest run"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_failed_build_ends_the_run() {
    let host = Host::equipped();
    let output = host.test(&[], &["build"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(host.calls().last().unwrap(), BUILD);
}

#[test]
fn a_measurement_is_taken_in_memory_and_on_disk() {
    for (part, package) in [("engine", "executor-core"), ("http", "agent-http"), ("logs", "agent-http")] {
        let host = Host::bare();
        let output = host.xtask(&["bench", part], &[]);
        assert!(output.status.success(), "{}", text(&output));
        let call = format!("bench --package {package} --bench {part} -- ");
        let calls = host.calls();
        let places: Vec<&str> = calls.iter().filter_map(|made| made.strip_prefix(&call)).collect();
        assert_eq!((calls.len(), places[0]), (2, "/dev/shm"), "{calls:?}");
        assert!(places[1].ends_with("/target/bench"), "{calls:?}");
    }
}

#[test]
fn a_measurement_that_fails_fails_the_command_and_the_others_are_taken() {
    let host = Host::bare();
    let output = host.xtask(&["bench", "logs", "catalogue"], &["bench"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(host.calls().len(), 4, "{:?}", host.calls());
}

#[test]
fn a_measurement_that_there_is_not_is_refused_and_nothing_is_measured() {
    for arguments in [&["bench", "typo"][..], &["bench", "http", "engin"]] {
        let host = Host::bare();
        let output = host.xtask(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("engine, calls, http"), "{}", text(&output));
        assert!(host.calls().is_empty());
    }
}
