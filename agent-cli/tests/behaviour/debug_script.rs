//! `run --debug-script`: a script in the record that does the same again.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Ended, Site};

/// Tells everything that it got, but for its scratch folder, of which it tells that it works.
const TELLS: &str = "#!/bin/sh
printf '[%s]\\n' \"$0\" \"$@\"
env | LC_ALL=C sort | grep -vE '^(TMPDIR|TASK_OUTPUT|PWD|OLDPWD|_)='
pwd
umask
cat
echo KEY=value >>\"$TASK_OUTPUT\" && touch \"$TMPDIR/file\" && echo scratch works
exit 23
";

fn again(site: &Site) -> Ended {
    let [record] = site.records().try_into().unwrap();
    // Another folder and environment than the run had.
    Ended::of(Command::new(record.join("debug.sh")).current_dir("/").env("AROUND", "leaked").env("LANG", "x"))
}

#[test]
fn it_prints_what_the_run_printed_and_ends_as_the_run_ended() {
    let site = Site::with_settings("[script_executor.env]\nREGION = \"eu 'one'\"\n");
    site.script("tells.sh", TELLS);
    let mut words: Vec<OsString> =
        ["run", "--debug-script", "--env", "QUOTED=a'b\"c\nd", "tells.sh"].map(OsString::from).into();
    words.extend(["", "two words", "-n", "*", "$HOME", "`x`", "a'b", "line\nbreak"].map(OsString::from));
    words.push(OsString::from_vec((1..=255).collect()));
    let ran = site.ended(&words);
    assert_eq!(ran.code, Some(23), "{}", ran.stderr);
    assert!(ran.stdout.ends_with(b"scratch works\n"));
    let debug = again(&site);
    assert_eq!(debug.code, Some(23), "{}", debug.stderr);
    assert_eq!(debug.stderr, "");
    assert!(debug.stdout == ran.stdout, "{}", debug.stdout.escape_ascii());
}

#[test]
fn the_shipped_debug_task_prints_the_same_again() {
    let site = Site::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let options = ["--scripts", shipped.to_str().unwrap(), "run", "--debug-script", "task_debug.sh"];
    let ran = site.ended([&options, &["two words", "--x", ""][..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let debug = again(&site);
    assert_eq!(debug.code, Some(0), "{}", debug.stderr);
    // By hand the script inherits descriptors and ignored signals of whoever starts it.
    let lines = |ended: &Ended| -> Vec<String> {
        let text = ended.text();
        let own =
            |line: &&str| !line.starts_with("open descriptors: ") && !line.starts_with("ignored signals: ");
        text.lines().filter(own).map(str::to_owned).collect()
    };
    assert_eq!(lines(&debug), lines(&ran));
}

#[test]
fn it_has_a_scratch_folder_of_its_own_that_it_removes() {
    let site = Site::new();
    site.script("scratch.sh", "#!/bin/sh\necho \"$TMPDIR\"\n[ -d \"$TMPDIR\" ]\n");
    let ran = site.ended(["run", "--debug-script", "scratch.sh"]);
    let debug = again(&site);
    assert_eq!((ran.code, debug.code), (Some(0), Some(0)), "{}", debug.stderr);
    assert_ne!(ran.text(), debug.text());
    assert!(!fs::exists(debug.text().trim()).unwrap());
}

#[test]
fn it_says_so_when_the_script_has_changed_or_is_gone() {
    let site = Site::new();
    let script = site.script("hello.sh", "#!/bin/sh\necho hello\n");
    site.ended(["run", "--debug-script", "hello.sh"]);
    site.script("hello.sh", "#!/bin/sh\necho changed\n");
    let debug = again(&site);
    assert!(debug.text() == "changed\n" && debug.stderr.contains("has changed"), "{debug:?}");
    fs::remove_file(script).unwrap();
    assert_eq!(again(&site).code, Some(126));
}

#[test]
fn without_the_option_there_is_none() {
    let site = Site::new();
    site.script("hello.sh", "#!/bin/sh\n");
    site.ended([OsStr::new("run"), OsStr::new("hello.sh")]);
    assert!(!site.records()[0].join("debug.sh").exists());
}
