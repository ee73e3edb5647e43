//! Secrets reach a script in a file of its scratch folder, and nothing else holds them.

use std::path::{Path, PathBuf};
use std::process::Command;

use executor_core::{ExecuteScriptRequest, Outcome, StartError};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::bench::{Bench, builder_in, eventually, task_id, write_script};
use crate::helper::Helper;

const CASES: usize = 100;

fn with_secret(bench: &Bench, body: &str, value: &str) -> ExecuteScriptRequest {
    ExecuteScriptRequest::new(bench.script("secret.sh", body)).secret_file("usage_token_file", value.into())
}

/// A folder on a disk. Nothing that is built is built in memory.
fn on_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kind = statfs(folder.path()).unwrap().filesystem_type();
    assert!(kind != TMPFS_MAGIC, "this test needs a build folder that is not on a tmpfs");
    folder
}

#[test]
fn any_text_arrives_to_the_byte() {
    let bench = Bench::new();
    let executor = bench.executor();
    let mut runner = TestRunner::deterministic();
    let any_text = proptest::collection::vec(proptest::prelude::any::<char>(), 0..200)
        .prop_map(|chars| chars.into_iter().collect::<String>());
    let mut values: Vec<String> =
        (0..CASES).map(|_| any_text.new_tree(&mut runner).unwrap().current()).collect();
    values.extend(["", "\n", "a\n", "\n\na\r\n", "\0", "\u{feff}x", "'\"$(id)`"].map(str::to_owned));
    values.push("ä".repeat(512 << 10));
    for value in values {
        let request = with_secret(&bench, "cat \"$usage_token_file\" > copy", &value).work_dir("shared");
        let (result, output) = bench.run_on(&executor, request);
        assert!(result.success, "{output}");
        assert_eq!(std::fs::read(bench.path("workspace/shared/shared/copy")).unwrap(), value.as_bytes());
    }
}

#[test]
fn its_file_is_its_users_alone_and_gone_before_the_end_is_told() {
    let bench = Bench::new();
    let body = "stat -c '%a %F' \"$usage_token_file\" \"${usage_token_file%/*}\" \"$TMPDIR\"; \
        echo \"$usage_token_file\"; [ \"${usage_token-unset}\" = unset ] && echo unset";
    let executor = bench.executor();
    let (result, output) = bench.run_on(&executor, with_secret(&bench, body, "c4n4ry"));
    assert!(result.success, "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["400 regular file", "700 directory", "700 directory"]);
    assert_eq!(lines[4], "unset");
    let path = Path::new(lines[3]);
    assert!(!path.exists());
    let scratch = path.ancestors().nth(3).unwrap();
    assert_eq!(statfs(scratch).unwrap().filesystem_type(), TMPFS_MAGIC);
}

#[test]
fn no_record_holds_a_secret_and_debug_sh_asks_for_it() {
    let bench = Bench::new();
    let request =
        with_secret(&bench, "sha256sum < \"$usage_token_file\"", "c4n4ry").id("t1").debug_script(true);
    assert!(!format!("{request:?}").contains("c4n4ry"));
    let (_, output) = bench.run_on(&bench.executor(), request);
    let record = bench.records().folder(&task_id("t1"));
    for name in ["task.json", "debug.sh", "result.json", "stdout.txt"] {
        let text = std::fs::read_to_string(record.join(name)).unwrap();
        assert!(!text.contains("c4n4ry"), "{name}: {text}");
    }
    let script = bench.records().debug_script(&task_id("t1")).unwrap().unwrap();
    assert_eq!(script, std::fs::read(record.join("debug.sh")).unwrap());
    let reproduce = |file: Option<&str>| {
        let mut command = Command::new(record.join("debug.sh"));
        command.current_dir(bench.path("")).env_remove("usage_token_file");
        command.envs(file.map(|file| ("usage_token_file", file))).output().unwrap()
    };
    let refused = reproduce(None);
    assert_eq!(refused.status.code(), Some(126));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("set usage_token_file to a file that holds it"), "{said}");
    std::fs::write(bench.path("of my own"), "c4n4ry").unwrap();
    let reproduced = reproduce(Some("of my own"));
    assert_eq!(String::from_utf8(reproduced.stdout).unwrap(), output);
}

#[test]
fn without_a_memory_file_system_nothing_is_started_and_nothing_written() {
    let bench = Bench::new();
    let disk = on_disk();
    let executor = bench.builder().scratch_dir(disk.path()).build().unwrap();
    let error = bench.refusal(&executor, with_secret(&bench, "echo ran", "c4n4ry").id("t1"));
    assert!(matches!(error, StartError::NoMemoryFileSystem { .. }), "{error}");
    assert_eq!((error.code(), error.command_line_code()), ("no_memory_filesystem", 125));
    let result = bench.records().read_result(&task_id("t1")).unwrap().unwrap();
    assert_eq!(result.outcome, Outcome::NotStarted);
    assert_eq!(result.error.unwrap().code, "no_memory_filesystem");
    let found = Command::new("grep").args(["-r", "c4n4ry"]).arg(disk.path()).output().unwrap();
    assert_eq!(found.status.code(), Some(1));
    // The twin: what has no secret runs there.
    let (result, _) = bench.run_on(&executor, ExecuteScriptRequest::new(bench.script("plain.sh", "")));
    assert!(result.success);
}

#[test]
fn a_variable_that_is_none_is_refused() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new("x.sh").secret_file("../up", "c4n4ry".into());
    let error = bench.refusal(&bench.executor(), request);
    assert!(error.to_string().contains("variable_name") && !error.to_string().contains("c4n4ry"), "{error}");
}

#[test]
fn an_agent_that_dies_leaves_its_secrets_to_the_next_one_to_remove() {
    let bench = Bench::new();
    write_script(&bench.path("scripts"), "slow.sh", SLOW);
    let mut helper = Helper::start("hold a secret", &bench.path(""));
    let told = bench.path("workspace/shared/shared/told");
    let text = || std::fs::read_to_string(&told).unwrap_or_default();
    eventually("it did not start", || text().ends_with('\n'));
    let path = PathBuf::from(text().trim_end());
    helper.kill();
    assert!(path.exists(), "it went with its agent");
    let executor = bench.executor();
    assert!(!path.exists());
    drop(executor);
}

const SLOW: &str = "#!/bin/sh\necho \"$usage_token_file\" > told\nexec sleep 1000\n";

pub(crate) fn help(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let executor = builder_in(folder).build().unwrap();
    runtime.block_on(async {
        let request = ExecuteScriptRequest::new("slow.sh").work_dir("shared");
        let request = request.secret_file("usage_token_file", "c4n4ry".into());
        let _execution = executor.start(request).await.unwrap();
        std::future::pending::<()>().await;
    });
}
