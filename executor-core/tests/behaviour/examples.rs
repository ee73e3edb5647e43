//! The example that the documentation points to builds and runs as it is.

use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, task_id};

#[test]
fn the_embedding_example_runs_a_script_and_prints_its_result() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--offline",
        "--example",
        "embed",
        "--message-format=json",
        "--manifest-path",
    ]);
    let built = build.arg(manifest).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let mut messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let program = messages
        .find_map(|message| {
            Some(message["executable"].as_str().filter(|path| path.ends_with("embed"))?.to_owned())
        })
        .expect("cargo names the program that it built");

    let bench = Bench::new();
    bench.script("hello.sh", "echo \"hello $1\"; echo GREETED=$1 > output.env; exit 7");
    let output =
        Command::new(program).args(["hello.sh", "world"]).current_dir(bench.path("")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("\nhello world\n"), "{text}");
    let json = &text[text.find("\n{\n").unwrap()..];
    let result: executor_core::ExecutionResult = serde_json::from_str(json).unwrap();
    assert_eq!((result.exit_code, result.output_params["GREETED"].as_str()), (Some(7), "world"));
    let task = std::fs::read_dir(bench.path("state/tasks")).unwrap().next().unwrap().unwrap().file_name();
    let id = task_id(task.to_str().unwrap());
    assert_eq!(bench.records().read_result(&id).unwrap(), Some(result));
}
