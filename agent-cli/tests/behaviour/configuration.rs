//! Where the command line takes its settings from, and what it says of mistakes in them.

use insta::assert_snapshot;

use crate::support::{Ended, Site};

#[test]
fn all_mistakes_of_the_configuration_are_listed_with_their_places() {
    let site = Site::with_settings(
        "[http]\nport = 70000\nhots = []\n\n[script_executor]\ndefault_timeout = \"10\"\nleftovers = \"keep\"\n",
    );
    site.script("ok.sh", "#!/bin/sh\n");
    let mut command = site.agent(["run", "ok.sh"]);
    let output = command.env("DEVOPS_AGENT__LIMITS__QUEUE", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_snapshot!(site.plain(&String::from_utf8(output.stderr).unwrap()));
    assert!(site.records().is_empty());
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let site = Site::new();
    let mut command = site.without_configuration(["--config", "no/such.toml", "list"]);
    let ended = Ended::of(&mut command);
    assert_eq!((ended.code, ended.stdout.len()), (Some(125), 0), "{ended:?}");
    assert!(ended.stderr.contains("no/such.toml: No such file"), "{}", ended.stderr);
}

#[test]
fn a_configuration_is_named_once() {
    let ended = Site::new().ended(["--config", "other.toml", "list"]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(2), 0), "{ended:?}");
    assert!(ended.stderr.contains("'--config <FILE>' cannot be used multiple times"), "{}", ended.stderr);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let site = Site::with_settings("[script_executor]\nscript_dir_prefix = \"by-file\"\n");
    for name in ["by-file", "by-variable", "by-flag"] {
        crate::support::write(&site.path(name).join("where.sh"), format!("#!/bin/sh\necho {name}\n"), 0o755);
    }
    assert_eq!(site.ended(["run", "where.sh"]).text(), "by-file\n");
    let variable = ("DEVOPS_AGENT__SCRIPT_EXECUTOR__SCRIPT_DIR_PREFIX", "by-variable");
    let output = site.agent(["run", "where.sh"]).env(variable.0, variable.1).output().unwrap();
    assert_eq!(output.stdout, b"by-variable\n");
    let mut command = site.agent(["--scripts", "by-flag", "run", "where.sh"]);
    assert_eq!(command.env(variable.0, variable.1).output().unwrap().stdout, b"by-flag\n");
}

#[test]
fn the_configured_path_is_what_scripts_search() {
    let site = Site::with_settings("[script_executor]\npath = \"/opt/none:/bin\"\n");
    site.script("path.sh", "#!/bin/sh\necho \"$PATH\"\n");
    assert_eq!(site.ended(["run", "path.sh"]).text(), "/opt/none:/bin\n");
}
