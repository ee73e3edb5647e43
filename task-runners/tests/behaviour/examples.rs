//! The examples of this crate do what they say.

use std::path::PathBuf;
use std::process::Command;

/// Examples stand beside the test programs' folder in the build folder.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap().parent().unwrap().join("examples");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built; cargo build --examples", path.display());
    path
}

#[test]
fn an_embedders_runner_counts_words() {
    let output = Command::new(example("embedders_runner")).arg("three little words").output().unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["output_params"]["WORDS"], "3");
}
