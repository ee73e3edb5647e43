//! Runs beside other runs on one state folder, and after runs that were killed.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Site, eventually, is_alive};

const WAITS: &str = "#!/bin/sh\necho $$\nread -r _ <\"$1\"\necho went on\n";

#[test]
fn two_runs_share_a_state_folder_and_do_not_hurt_each_other() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("waits.sh", WAITS);
    site.script("quick.sh", "#!/bin/sh\necho quick\n");
    let mut first = site.live(["run", "waits.sh", &go_on]);
    let pid = first.line();
    for _ in 0..3 {
        assert_eq!(site.ended(["run", "quick.sh"]).text(), "quick\n");
    }
    assert!(is_alive(pid.trim()), "a run beside it is nobody's leftover");
    fs::write(&go_on, "on\n").unwrap();
    let ended = first.ended();
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "went on\n"));
    assert_eq!(site.records().len(), 4);
}

#[test]
fn a_shared_workspace_that_is_in_use_is_waited_for_and_that_is_said() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("waits.sh", WAITS);
    site.script("leaves.sh", "#!/bin/sh\npwd\nls\necho left >mark\n");
    let mut first = site.live(["run", "--work-dir", "web", "waits.sh", &go_on]);
    first.line();
    let mut second = site.live(["run", "--work-dir", "web", "leaves.sh"]);
    assert!(second.talk("").contains("waiting for the shared workspace 'web'"));
    // Another workspace is free, and so is one's own.
    for args in [&["run", "--work-dir", "db", "leaves.sh"][..], &["run", "leaves.sh"]] {
        assert_eq!(site.ended(args).code, Some(0));
    }
    assert!(!site.path("workspace/shared/web/mark").exists());
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(first.ended().code, Some(0));
    let ended = second.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // What one leaves in a shared workspace the next one finds.
    let ended = site.ended(["run", "--work-dir", "web", "leaves.sh"]);
    let workspace = site.path("workspace/shared/web").canonicalize().unwrap();
    assert_eq!(ended.text(), format!("{}\nmark\n", workspace.display()));
}

#[test]
fn a_run_that_waits_for_a_workspace_can_be_cancelled_and_has_run_nothing() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("waits.sh", WAITS);
    site.script("marks.sh", "#!/bin/sh\necho ran >../../../mark\n");
    let mut first = site.live(["run", "--work-dir", "web", "waits.sh", &go_on]);
    first.line();
    let mut second = site.live(["run", "--work-dir", "web", "marks.sh"]);
    second.talk("waiting for the shared workspace");
    second.signal(Signal::SIGINT);
    let ended = second.ended();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(site.records().len(), 1, "it never was a task");
    assert!(!site.path("mark").exists());
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(first.ended().code, Some(0));
    assert_eq!(site.ended(["run", "--work-dir", "web", "marks.sh"]).code, Some(0));
    assert!(site.path("mark").exists());
}

#[test]
fn what_a_killed_run_left_is_cleaned_up_by_the_next_one() {
    let site = Site::new();
    site.script("leaves.sh", "#!/bin/sh\nsetsid sleep 600 &\necho $! $$ \"$TMPDIR\"\nwait\n");
    site.script("quick.sh", "#!/bin/sh\n");
    let mut killed = site.live(["run", "leaves.sh"]);
    let line = killed.line();
    let [child, main, scratch] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.ended().code, None);
    // Nobody is there to end them: this is what the next run has to do.
    assert!(is_alive(child) && is_alive(main));
    assert!(fs::exists(scratch).unwrap());
    let left = site.records();
    assert!(!left[0].join("result.json").exists());

    assert_eq!(site.ended(["run", "quick.sh"]).code, Some(0));

    eventually("the end of both", || (!is_alive(child) && !is_alive(main)).then_some(()));
    assert!(!fs::exists(scratch).unwrap());
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(left[0].join("result.json")).unwrap()).unwrap();
    assert_eq!(result["outcome"]["kind"], "interrupted");
}

#[test]
fn a_run_that_ends_leaves_nothing_but_its_record_and_workspace() {
    let site = Site::new();
    site.script("scratch.sh", "#!/bin/sh\necho \"$TMPDIR\"\nhead -c 1000000 /dev/zero >\"$TMPDIR/file\"\n");
    for _ in 0..10 {
        let scratch = site.ended(["run", "scratch.sh"]).text();
        assert!(!fs::exists(scratch.trim()).unwrap(), "{scratch}");
        assert_eq!(fs::read_dir(site.path("state/instances")).unwrap().count(), 0);
    }
}
