//! The manual, as the programs read it that show manuals.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Ended, Site, program};

/// Renders a page with every warning that there is.
fn rendered(site: &Site, page: &str) -> Ended {
    let mut command = Command::new("man");
    command.args(["--warnings", "-E", "UTF-8", "-l", page]).current_dir(site.path(""));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("MANWIDTH", "100").env("LANG", "C.UTF-8");
    program(command.stdin(Stdio::null()), "man-db")
}

#[test]
fn every_command_has_a_page_that_renders_without_a_warning() {
    let site = Site::new();
    let ended = site.ended(["man", "manual/pages"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let pages: Vec<String> = fs::read_dir(site.path("manual/pages"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for command in ["agent-cli", "agent-cli-run", "agent-cli-manifest-create", "agent-cli-task-submit"] {
        assert!(pages.contains(&format!("{command}.1")), "{pages:?}");
    }
    assert!(pages.iter().all(|page| !page.contains("__complete") && !page.contains("help")), "{pages:?}");
    for page in &pages {
        let path = format!("manual/pages/{page}");
        let shown = rendered(&site, &path);
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{page}");
        let mut groff = Command::new("groff");
        let checked = program(groff.args(["-man", "-ww", "-z", &path]).current_dir(site.path("")), "groff");
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{page}");
    }
}

#[test]
fn a_page_that_is_wrong_is_noticed() {
    let site = Site::new();
    fs::write(site.path("wrong.1"), ".TH x 1\n.SH NAME\n.nonsense\n").unwrap();
    assert!(rendered(&site, "wrong.1").stderr.contains("warning"));
}

#[test]
fn the_page_of_the_program_says_what_help_does_not() {
    let site = Site::new();
    fs::write(site.path("agent-cli.1"), site.ended(["man"]).stdout).unwrap();
    let shown = rendered(&site, "agent-cli.1").text();
    for section in ["NAME", "SYNOPSIS", "SUBCOMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"] {
        assert!(shown.lines().any(|line| line == section), "{section} in {shown}");
    }
    assert!(shown.contains("agent-cli-run(1)") && shown.contains("NO_COLOR"), "{shown}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let site = Site::new();
    fs::write(site.path("file"), "").unwrap();
    let ended = site.ended(["man", "file/below"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot write the manual pages into file/below"), "{}", ended.stderr);
}
