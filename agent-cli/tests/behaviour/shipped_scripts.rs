//! The scripts that ship with the agent, each tried on a real effect.
//!
//! [`run`] is the one place that starts a script, by `agent-cli run`. An attack is tried twice: on the script as it
//! is, and on a copy that was weakened, where it must come through.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{Site, make_folder};

mod backup;
mod checkout;
mod cleanup;
mod host;
mod network;
mod other_tools;
mod service;

/// The `PATH` that scripts get where no other is configured.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Every script that ships; a file that is not named here makes a test fail.
const SHIPPED: [&str; 9] = [
    "backup_dir.sh",
    "disk_usage.sh",
    "git_checkout.sh",
    "http_check.sh",
    "log_cleanup.sh",
    "port_check.sh",
    "service_restart.sh",
    "system_info.sh",
    "task_debug.sh",
];

/// The shared workspace that scripts run in.
const WORKSPACE: &str = "here";

/// Where scripts run: a site with its workspace, a folder of stand-in programs, and one for everything else, all
/// temporary.
struct Place {
    site: Site,
    scratch: TempDir,
    programs: TempDir,
    scripts: PathBuf,
    secrets: BTreeMap<String, PathBuf>,
}

/// How a script ended, and what it said.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    /// Both outputs.
    text: String,
    params: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder can be made");
        let site = Site::new();
        fs::create_dir_all(site.path("workspace/shared").join(WORKSPACE)).unwrap();
        Self {
            site,
            scratch: folder(),
            programs: folder(),
            scripts: shipped_folder(),
            secrets: BTreeMap::new(),
        }
    }

    /// A place whose one script is the shipped one without the guards: (as it stands, instead).
    fn with_weakened(script: &str, guards: &[(&str, &str)]) -> Self {
        let mut place = Self::new();
        let mut text = fs::read_to_string(shipped_folder().join(script)).unwrap();
        for (guard, instead) in guards {
            assert!(text.contains(guard), "{script} no longer has the guard {guard:?}");
            text = text.replace(guard, instead);
        }
        place.scripts = place.scratch.path().join("weakened");
        fs::create_dir(&place.scripts).unwrap();
        write_program(&place.scripts.join(script), &text);
        place
    }

    /// The workspace.
    fn workspace(&self) -> PathBuf {
        self.site.path("workspace/shared").join(WORKSPACE)
    }

    /// A path in the workspace.
    fn path(&self, name: &str) -> PathBuf {
        self.workspace().join(name)
    }

    /// Writes a file of the workspace, and the folders above it.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        // With a mode of its own: some scripts refuse folders that others may write.
        make_folder(path.parent().unwrap());
        fs::write(&path, text).unwrap();
        path
    }

    /// Puts a program before all others on the path that it returns.
    fn stand_in(&self, name: &str, text: &str) -> String {
        write_program(&self.programs.path().join(name), text);
        format!("{}:{SEARCH_PATH}", self.programs.path().display())
    }

    /// A secret for the scripts: a file that only its owner reads.
    fn secret(&mut self, name: &str, value: &str) {
        let path = self.scratch.path().join(format!("secret-{name}"));
        fs::write(&path, value).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        self.secrets.insert(name.to_owned(), path);
    }
}

/// Runs a script of `place` with `search_path` as its `PATH`, and waits for its end. What its description refuses, and its
/// help, which the description gives under the agent, is run by hand: the script has its own checks.
fn run(script: &str, arguments: &[&str], place: &Place, search_path: &str) -> Ran {
    // Under the agent secrets are for scripts that declare them.
    let by_hand = !place.secrets.is_empty() && script != "http_check.sh";
    if by_hand || arguments == ["--help"] {
        return start(script, arguments, place, search_path);
    }
    // Nobody vouches for a weakened copy.
    let verify = if place.scripts == shipped_folder() { "" } else { "is_verify_script_integrity = false\n" };
    let settings = format!("[script_executor]\npath = \"{search_path}\"\n{verify}");
    fs::write(place.site.path("application.toml"), settings).unwrap();
    let scripts = place.scripts.to_str().unwrap();
    let secrets: Vec<String> =
        place.secrets.iter().map(|(name, path)| format!("--secret={name}=@{}", path.display())).collect();
    let mut words = vec!["--scripts", scripts, "run", "--json", "--yes", "--work-dir", WORKSPACE];
    words.extend(secrets.iter().map(String::as_str));
    words.extend(["--", script]);
    let ended = place.site.ended([&words, arguments].concat());
    if ended.code == Some(126) && ended.stdout.is_empty() {
        assert!(ended.stderr.contains("params.") || ended.stderr.contains("args["), "{}", ended.stderr);
        return start(script, arguments, place, search_path);
    }
    let task = ended.json();
    let (record, result) = (Path::new(task["record"].as_str().unwrap()), &task["result"]);
    assert!(result["output_error"].is_null(), "it does not keep its own word: {result}");
    let bytes = |name: &str| usize::try_from(result["log"][name].as_u64().unwrap()).unwrap();
    let log = fs::read(record.join("stdout.txt")).unwrap();
    let output = &log[bytes("header_bytes")..bytes("bytes") - bytes("footer_bytes")];
    Ran {
        code: result["exit_code"].as_i64().map(|code| i32::try_from(code).unwrap()),
        text: String::from_utf8_lossy(output).into_owned(),
        params: serde_json::from_value(result["output_params"].clone()).unwrap(),
    }
}

/// Starts a script by hand, as a task would be started.
fn start(script: &str, arguments: &[&str], place: &Place, search_path: &str) -> Ran {
    let output_file = place.scratch.path().join("output.env");
    let _absent_before_the_first_run = fs::remove_file(&output_file);
    let mut command = Command::new(place.scripts.join(script));
    command.args(arguments).current_dir(place.workspace()).stdin(Stdio::null());
    command.env_clear().envs([("PATH", search_path), ("LANG", "C.UTF-8"), ("HOME", "/nonexistent")]);
    command.envs([("USER", "nobody"), ("LOGNAME", "nobody"), ("TASK_ID", "t-1"), ("TASK_NAME", script)]);
    command.env("TMPDIR", place.scratch.path()).env("TASK_OUTPUT", &output_file);
    command.env("TASK_WORK_DIR", place.workspace()).env("TASK_SCRIPT_DIR", &place.scripts);
    for (name, path) in &place.secrets {
        command.env(format!("usage_{name}_file"), path);
    }
    let output = command.output().expect("the script can be started");
    let text = [output.stdout, output.stderr].concat();
    Ran {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
        params: output_parameters(&output_file),
    }
}

fn output_parameters(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let pairs = text.lines().map(|line| line.split_once('=').expect("an output parameter is KEY=VALUE"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .canonicalize()
        .expect("the scripts are in the checkout")
}

fn write_program(path: &Path, text: &str) {
    // Written under another name and by another process: a descriptor that a test on another thread
    // hands to its child while this file is open for writing would make the start fail (ETXTBSY).
    let mut install = Command::new("install");
    install.args(["-m", "0755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut child = install.spawn().expect("install of coreutils can be started");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "could not write {}", path.display());
}

#[test]
fn exactly_these_scripts_ship_and_each_can_be_executed() {
    let mut found: Vec<String> = fs::read_dir(shipped_folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sh"))
        .collect();
    found.sort();
    assert_eq!(found, SHIPPED);
    for name in SHIPPED {
        let mode = fs::metadata(shipped_folder().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");
    }
}

#[test]
fn shellcheck_finds_nothing_in_the_shipped_scripts() {
    let mut command = Command::new("shellcheck");
    command.arg("--").args(SHIPPED).current_dir(shipped_folder());
    let output =
        command.output().expect("shellcheck must be installed for this test: install the package shellcheck");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn shellcheck_finds_an_unquoted_expansion() {
    let place = Place::with_weakened("disk_usage.sh", &[("-- \"$path\"", "-- $path")]);
    let output = Command::new("shellcheck").arg(place.scripts.join("disk_usage.sh")).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn help_names_the_script_and_changes_nothing() {
    for script in SHIPPED {
        let place = Place::new();
        let ran = run(script, &["--help"], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(0), "{script}: {}", ran.text);
        assert!(ran.text.starts_with(&format!("Usage: {script}")), "{script}: {}", ran.text);
        assert_eq!(fs::read_dir(place.workspace()).unwrap().count(), 0, "{script}");
        assert!(ran.params.is_empty(), "{script}");
    }
}

#[test]
fn an_unknown_flag_is_refused_with_the_place_to_look() {
    for script in SHIPPED.into_iter().filter(|script| *script != "task_debug.sh") {
        let ran = run(script, &["--no-such-flag"], &Place::new(), SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{script}: {}", ran.text);
        assert!(
            ran.text.contains("'--no-such-flag'") && ran.text.contains("see --help"),
            "{script}: {}",
            ran.text
        );
    }
}

#[test]
fn a_flag_without_its_value_and_a_number_out_of_range_are_refused() {
    for (script, flag) in [
        ("backup_dir.sh", "--keep"),
        ("disk_usage.sh", "--top"),
        ("git_checkout.sh", "--depth"),
        ("http_check.sh", "--retries"),
        ("log_cleanup.sh", "--days"),
        ("port_check.sh", "--interval"),
        ("service_restart.sh", "--lines"),
    ] {
        let ran = run(script, &[flag], &Place::new(), SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{script}: {}", ran.text);
        assert!(ran.text.contains(&format!("{flag} needs a value")), "{script}: {}", ran.text);
        for bad in ["", "-1", "1e3", "0x10", "PATH[$(touch planted)]", "99999999999999999999"] {
            let place = Place::new();
            let ran = run(script, &[&format!("{flag}={bad}")], &place, SEARCH_PATH);
            assert_eq!(ran.code, Some(2), "{script} {bad:?}: {}", ran.text);
            assert!(
                ran.text.contains(&format!("{flag} takes a whole number from")),
                "{script} {bad:?}: {}",
                ran.text
            );
            assert!(!place.path("planted").exists(), "{script} {bad:?}");
        }
    }
}

#[test]
fn a_number_that_is_not_checked_first_is_executed() {
    let place = Place::with_weakened(
        "disk_usage.sh",
        &[("[[ ! $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3", "((0 + $2 < $3")],
    );
    run("disk_usage.sh", &["--top=PATH[$(touch planted)]"], &place, SEARCH_PATH);
    assert!(place.path("planted").exists());
}
