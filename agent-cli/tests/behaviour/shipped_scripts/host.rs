//! The scripts that only read: `system_info.sh`, `task_debug.sh`, `disk_usage.sh`.

use std::fs;

use super::{Place, Ran, SEARCH_PATH, run};

#[test]
fn system_info_states_what_the_kernel_states() {
    let ran = run("system_info.sh", &[], &Place::new(), SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let read = |name: &str| fs::read_to_string(name).unwrap();
    assert_eq!(ran.params["HOST"], read("/proc/sys/kernel/hostname").trim());
    assert_eq!(ran.params["KERNEL"], read("/proc/sys/kernel/osrelease").trim());
    assert_eq!(ran.params["ARCHITECTURE"], std::env::consts::ARCH);
    let memory = read("/proc/meminfo");
    let total = memory.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    assert!(total.contains(&ran.params["MEMORY_KIB"]), "{total} {:?}", ran.params);
    assert!(ran.params["CPUS"].parse::<u32>().unwrap() >= 1);
    assert!(ran.params["UPTIME_S"].parse::<u64>().is_ok());
    for part in ["host ", "kernel ", "distribution ", "cpu ", "memory ", "load ", "up ", "local file systems"]
    {
        assert!(ran.text.lines().any(|line| line.starts_with(part)), "{part}: {}", ran.text);
    }
}

/// What a task prints when its arguments are as awkward as they can be.
fn debug_run(place: &Place) -> Ran {
    let ran = run(
        "task_debug.sh",
        &["plain", "two words", "", "--flag=a'b", "line\nbreak", "*"],
        place,
        SEARCH_PATH,
    );
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    ran
}

#[test]
fn task_debug_prints_arguments_environment_and_process_state() {
    let place = Place::new();
    let ran = debug_run(&place);
    let workspace = place.workspace().canonicalize().unwrap();
    for line in [
        "arguments: 6",
        "  1: 'plain'",
        "  2: 'two words'",
        "  3: ''",
        "  4: '--flag=a'\\''b'",
        "  5: $'line\\nbreak'",
        "  6: '*'",
        "  LANG='C.UTF-8'",
        "  TASK_NAME='task_debug.sh'",
        "  TASK_OUTPUT=(set, writable)",
        "  TMPDIR=(set, writable)",
        &format!("working folder: {}", workspace.display()),
    ] {
        assert!(ran.text.lines().any(|found| found == line), "{line}\nis not in\n{}", ran.text);
    }
    assert!(ran.text.contains("\n  Max open files "), "{}", ran.text);
    assert_eq!(ran.params["ARGUMENT_COUNT"], "6");
}

#[test]
fn task_debug_shows_a_leaked_descriptor_and_an_ignored_signal() {
    let place = Place::new();
    // Found first by the script's first line, it starts the real one with what must not leak.
    let leaking = "#!/bin/sh\ntrap '' HUP\nexec 7</dev/null\nexec /bin/bash \"$@\"\n";
    let path = place.stand_in("bash", leaking);
    let words = |path: &str, start: &str| -> Vec<String> {
        let ran = run("task_debug.sh", &[], &place, path);
        let line = ran.text.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no line {start:?} in {}", ran.text))
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let (open, ignored) = ("open descriptors: ", "ignored signals: ");
    assert_eq!(words(SEARCH_PATH, open), ["0", "1", "2"]);
    assert!(words(&path, open).contains(&"7".to_owned()));
    assert_eq!(words(SEARCH_PATH, ignored), ["none"]);
    assert_eq!(words(SEARCH_PATH, "blocked signals: "), ["none"]);
    assert!(words(&path, ignored).contains(&"HUP".to_owned()));
}

#[test]
fn task_debug_lists_the_environment_sorted_and_nothing_that_was_not_handed_over() {
    let ran = debug_run(&Place::new());
    let (_, rest) = ran.text.split_once("environment:\n").unwrap();
    let names: Vec<&str> = rest
        .lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim().split_once('=').unwrap().0)
        .collect();
    let expected = [
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "TASK_ATTEMPT",
        "TASK_CREATED_BY",
        "TASK_ID",
        "TASK_NAME",
        "TASK_NODE",
        "TASK_OUTPUT",
        "TASK_SCRIPT_DIR",
        "TASK_TIMEOUT_S",
        "TASK_WORK_DIR",
        "TMPDIR",
        "USER",
        "usage_args",
    ];
    assert_eq!(names, expected);
}

#[test]
fn task_debug_prints_the_same_when_only_the_scratch_folder_is_another() {
    let mut place = Place::new();
    place.secret("token", "hunter2");
    let first = debug_run(&place);
    let again = tempfile::tempdir().unwrap();
    place.scratch = again;
    place.secret("token", "hunter2");
    let second = debug_run(&place);
    assert_eq!(first.text, second.text);
    assert!(first.text.contains("  usage_token_file=(set, readable)"), "{}", first.text);
    assert!(!first.text.contains("hunter2"));
}

#[test]
fn a_debug_script_that_showed_the_scratch_folder_would_differ() {
    let mut place = Place::with_weakened("task_debug.sh", &[("TMPDIR) value", "NO_SUCH_NAME) value")]);
    // As above: with a secret, so that nothing but the scratch folder differs.
    place.secret("token", "hunter2");
    let weakened = place.scripts.clone();
    let first = debug_run(&place);
    let old = std::mem::replace(&mut place.scratch, tempfile::tempdir().unwrap());
    let second = debug_run(&place);
    assert!(weakened.starts_with(old.path()), "the weakened copy lives in the first scratch folder");
    assert_ne!(first.text, second.text);
}

/// A `df` whose answer is known, since a test cannot fill a disk.
const DF: &str = "#!/bin/sh
echo 'Use% IUse% Mounted on'
echo ' 40%   10% /'
echo ' 10%   97% /srv/many small files'
echo '   -     - /pseudo'
echo ' 90%     - /data'
";

#[test]
fn disk_usage_reports_space_and_inodes_at_the_threshold() {
    let place = Place::new();
    let path = place.stand_in("df", DF);
    let ran = run("disk_usage.sh", &[], &place, &path);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    assert!(ran.text.contains(" 97%  /srv/many small files (space 10%, inodes 97%)"), "{}", ran.text);
    assert!(ran.text.contains(" 90%  /data"), "{}", ran.text);
    assert!(!ran.text.contains(" 40%  /"), "{}", ran.text);
    assert_eq!(ran.params["OVER_COUNT"], "2");
    assert_eq!(ran.params["WORST_PERCENT"], "97");
    assert_eq!(ran.params["WORST_MOUNT"], "/srv/many small files");

    let ran = run("disk_usage.sh", &["--threshold", "98"], &place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(ran.params["OVER_COUNT"], "0");
}

#[test]
fn disk_usage_reads_the_file_systems_of_this_host() {
    let ran = run("disk_usage.sh", &["--threshold=0"], &Place::new(), SEARCH_PATH);
    assert_eq!(ran.code, Some(1), "at 0 % every file system is over: {}", ran.text);
    assert!(ran.params["OVER_COUNT"].parse::<u32>().unwrap() >= 1);
    assert!(ran.params["WORST_PERCENT"].parse::<u32>().unwrap() <= 100);
}

#[test]
fn disk_usage_lists_the_biggest_folders_first() {
    let place = Place::new();
    place.write("tree/small/file", &"x".repeat(10_000));
    place.write("tree/with a\nbreak/inner/file", &"x".repeat(400_000));
    place.write("tree/-n/file", &"x".repeat(100_000));
    let path = place.stand_in("df", DF);
    let ran = run("disk_usage.sh", &["--threshold", "100", "--depth=1", "--top", "2", "tree"], &place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let (_, list) = ran.text.split_once("biggest folders below 'tree', in KiB\n").unwrap();
    let names: Vec<&str> = list.lines().map(|line| line.trim().split_once("  ").unwrap().1).collect();
    assert_eq!(names, ["$'tree/with a\\nbreak'", "'tree/-n'", "in all"]);
    assert!(ran.params["PATH_KIB"].parse::<u64>().unwrap() >= 510_000 / 1024);
    assert_eq!(ran.params["BIGGEST_FOLDER"], "", "a name of two lines is no output parameter");

    let ran = run("disk_usage.sh", &["--threshold", "100", "--", "tree/small"], &place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let ran = run("disk_usage.sh", &["no/such/folder"], &place, &path);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
    assert!(ran.text.contains("no folder 'no/such/folder'"), "{}", ran.text);
}
