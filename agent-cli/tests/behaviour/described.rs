//! Scripts that describe themselves, by `run`, `list` and `show`: their own flags are checked in the words of the
//! library, help comes from the description, and what cannot be undone is confirmed.

use std::ffi::OsString;

use insta::assert_snapshot;
use serde_json::{Map, Value};

use crate::probe;
use crate::support::Site;

fn site() -> Site {
    let site = Site::new();
    site.script("probe.sh", format!("#!/bin/sh\n{}\necho ran \"$@\" $usage_env\n", probe::HEADER));
    let purge = "#!/bin/sh\n#TASK description=\"Empties a folder\" group=\"care\" effect=\"destructive\" tag=\"x\"\n\
        #TASK output.FILES=\"Files that were removed\" timeout=\"5s\"\n#USAGE arg \"<folder>\" help=\"Which one\"\n\
        # USAGE flag \"--x\"\n# A comment.\necho purged\n";
    site.script("purge.sh", purge);
    site.script("broken.sh", "#!/bin/sh\n#USAGE mount run=\"id\"\n#TASK run_as=\"root\"\n");
    site
}

/// An input as words of `run`, if it can be said by them: parameters there are text, and words have no null byte.
fn words(params: &Map<String, Value>, args: &[OsString]) -> Option<Vec<OsString>> {
    let mut words: Vec<OsString> = vec!["run".into(), "--json".into()];
    for (name, value) in params {
        let text = value.as_str().filter(|text| !text.contains('\0') && text.len() < 4096)?;
        words.extend(["--param".into(), format!("{name}={text}").into()]);
    }
    words.push("probe.sh".into());
    words.extend(args.iter().cloned());
    Some(words)
}

#[test]
fn bad_inputs_are_told_in_the_words_of_the_library_and_start_nothing() {
    let site = site();
    let (mut said, mut help) = (0, 0);
    for (params, args) in probe::bad_inputs() {
        let Some(words) = words(&params, &args) else { continue };
        let ended = site.ended(&words);
        if args.iter().any(|arg| arg == "--help") {
            help += 1;
            assert_eq!(ended.code, Some(0), "{words:?}");
            continue;
        }
        let problems = probe::bind(&probe::description(), &params, &args).unwrap_err();
        let expected: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        let told: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!((ended.code, told.join("\n")), (Some(126), expected.join("\n")), "{words:?}");
        said += 1;
    }
    assert!(said >= 40 && help == 1, "{said} {help}");
    assert_eq!(site.records().len(), 0);
}

#[test]
fn a_scripts_own_flags_stand_behind_its_name_and_parameters_before_it() {
    let site = site();
    let by_args = site.ended(["run", "probe.sh", "web", "--tag", "a-1", "-eprod"]);
    assert_eq!((by_args.code, by_args.text().as_str()), (Some(0), "ran web --tag a-1 -eprod prod\n"));
    let by_params = site.ended(["run", "--param", "service=web", "--param", "tag=a-1", "probe.sh"]);
    assert_eq!((by_params.code, by_params.text().as_str()), (Some(0), "ran --tag a-1 web staging\n"));
    let both = site.ended(["run", "--param", "service=web", "probe.sh", "--tag=a-1"]);
    assert_eq!((both.code, both.text().as_str()), (Some(0), "ran --tag a-1 web staging\n"));
}

#[test]
fn help_behind_a_scripts_name_comes_from_its_description_and_runs_nothing() {
    let site = site();
    assert_snapshot!("help_of_probe", site.ended(["run", "probe.sh", "--help"]).text());
    assert_snapshot!("help_of_purge", site.ended(["run", "purge.sh", "--help"]).text());
    assert_eq!(site.records().len(), 0);
}

#[test]
fn what_cannot_be_undone_is_run_with_yes_only_where_nobody_can_be_asked() {
    let site = site();
    let refused = site.ended(["run", "purge.sh", "x"]);
    assert_eq!(refused.code, Some(126));
    assert!(
        refused
            .stderr
            .contains("confirm: --yes before the script's name, or \"purge.sh\" typed at a terminal"),
        "{}",
        refused.stderr
    );
    assert_eq!(site.records().len(), 0);
    let ended = site.ended(["run", "--yes", "purge.sh", "x"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "purged\n"), "{}", ended.stderr);
}

#[test]
fn list_and_show_tell_what_scripts_say() {
    let site = site();
    assert_snapshot!("list_described", site.plain(&site.ended(["list"]).text()));
    assert_snapshot!("show_described", site.plain(&site.ended(["show", "purge.sh"]).text()));
    assert_snapshot!("show_broken", site.plain(&site.ended(["show", "broken.sh"]).text()));
    let refused = site.ended(["run", "broken.sh"]);
    assert_eq!(refused.code, Some(126));
    assert!(refused.stderr.contains("line 2: `mount`") && refused.stderr.contains("line 3: `run_as`"));
}
