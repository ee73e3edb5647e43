//! The example builds and does what it says.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{Area, write};

/// Builds the example as a user would, and tells where it is.
fn built() -> PathBuf {
    // .../<target>/<profile>/deps/<this test>
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--package", "executor-integrity"])
        .args(["--example", "verify_folder", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "the example does not build");
    target.join("debug/examples/verify_folder")
}

fn run(program: &PathBuf, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

#[test]
fn the_example_tells_a_good_folder_from_a_bad_one_and_names_all_problems() {
    let program = built();
    let area = Area::with_manifest();
    let (_, public) = area.keys("any");
    let folder = area.scripts.to_str().unwrap();

    let output = run(&program, &[folder]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("3 files, version 1"), "{said}");

    write(&area.script("extra.sh"), "x", 0o755);
    write(&area.script("check.py"), "x", 0o755);
    let output = run(&program, &[folder, &public.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in ["extra.sh", "check.py", "not signed", "agent-cli manifest create"] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    assert_eq!(run(&program, &[]).status.code(), Some(1));
}
