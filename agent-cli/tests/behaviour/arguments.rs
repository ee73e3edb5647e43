//! Everything behind the script's name is the script's, byte for byte.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use crate::support::Site;

/// Prints each argument with a null byte behind it.
const PRINTS: &str = "#!/bin/sh\nif [ $# -gt 0 ]; then printf '%s\\0' \"$@\"; fi\n";

fn site() -> Site {
    let site = Site::new();
    site.script("args.sh", PRINTS);
    site
}

#[test]
fn options_behind_the_name_are_arguments_of_the_script() {
    let site = site();
    for args in [
        &["--help"][..],
        &["-h"],
        &["--json", "--dry-run", "--version"],
        &["--", "--", "x"],
        &["--config", "none", "--timeout", "nonsense"],
        &["--param", "a=b", "--yes"],
        &["-", "", " ", "*", "$(touch planted)", "a;b", "`x`", "'", "\"", "\\"],
        &["run", "args.sh"],
    ] {
        let ended = site.ended([&["run", "args.sh"], args].concat());
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        let expected: String = args.iter().map(|arg| format!("{arg}\0")).collect();
        assert_eq!(ended.text(), expected);
    }
    assert!(!site.path("planted").exists());
}

#[test]
fn the_same_options_before_the_name_are_the_agents() {
    let site = site();
    assert!(site.ended(["run", "--help", "args.sh"]).text().contains("Usage: agent-cli run"));
    assert!(site.ended(["run", "--dry-run", "args.sh"]).text().contains("argv[0]"));
    assert_eq!(site.ended(["run", "--json", "args.sh"]).json()["name"], "args.sh");
    // Two dashes end the options; the script's own follow its name.
    assert_eq!(site.ended(["run", "--", "args.sh", "--json"]).text(), "--json\0");
    let ended = site.ended(["run", "--tiemout", "5m", "args.sh"]);
    assert_eq!(ended.code, Some(126));
    assert!(ended.stderr.contains("there is no option '--tiemout'"), "{}", ended.stderr);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arguments_of_any_bytes_but_null_arrive_as_they_are(
        args in prop::collection::vec(prop::collection::vec(1u8..=255, 0..200), 0..12)
    ) {
        let site = site();
        let words = [OsString::from("run"), "args.sh".into()];
        let args: Vec<OsString> = args.into_iter().map(OsString::from_vec).collect();
        let ended = site.ended(words.iter().chain(&args));
        let mut expected = Vec::new();
        for arg in args {
            expected.extend(arg.into_vec());
            expected.push(0);
        }
        prop_assert!(ended.code == Some(0) && ended.stdout == expected, "{:?}", ended);
    }
}

#[test]
fn an_argument_that_no_program_can_be_handed_is_refused() {
    let site = site();
    // The kernel takes less than 128 KiB for one argument, the agent's own command line included.
    let longest = "x".repeat(128 * 1024 - 1);
    let ended = site.ended(["run", "args.sh", &longest]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), longest.len() + 1), "{}", ended.stderr);
}

#[test]
fn variables_that_are_set_arrive_and_those_around_the_agent_do_not() {
    let site = Site::new();
    site.script("env.sh", "#!/bin/sh\nprintf '%s|%s|%s' \"$DEPLOY_TO\" \"$EMPTY\" \"${AROUND-none}\"\n");
    let mut command = site.agent(["run", "--env", "DEPLOY_TO=a=b c", "--env", "EMPTY=", "env.sh"]);
    let output = command.env("AROUND", "leaked").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a=b c||none");
}
