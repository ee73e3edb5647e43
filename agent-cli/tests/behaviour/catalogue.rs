//! `list` and `show`: what there is, what it says about itself, whether it is verified, and what is wrong with it.

use insta::assert_snapshot;

use crate::support::{Site, write};

fn site() -> Site {
    let site = Site::new();
    let about = "#!/bin/sh\n#TASK group=\"web\"\n# Deploys a service. Takes a while.\n#\n#   SERVICE  which one\n# \
        Clears \u{1b}[2J the screen.\n\necho deployed\n# not about it\n";
    site.script("deploy/web.sh", about);
    site.script("crlf.sh", "#!/bin/sh\r\n# Never runs.\r\n");
    site.script("silent.sh", "#!/bin/sh\ntrue\n");
    write(&site.path("scripts/lib/common.sh"), "# no script of its own\n", 0o644);
    site
}

#[test]
fn list_names_every_script_with_its_state_and_its_first_sentence() {
    let site = site();
    let ended = site.ended(["list"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_snapshot!("list_unverified", ended.text());
    // Broken or not, what is listed can be vouched for.
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    assert_snapshot!("list_verified", site.ended(["list"]).text());
}

#[test]
fn list_as_json_is_for_programs() {
    let site = site();
    assert_snapshot!("list_json", site.plain(&site.ended(["list", "--json"]).text()));
    site.ended(["manifest", "create"]);
    let json = site.ended(["list", "--json"]).json();
    assert_eq!(json["scripts"][1]["verified"], true);
    assert!(json["verification"]["manifest"].is_string());
}

#[test]
fn show_tells_one_script_with_its_comment_as_help_and_control_characters_escaped() {
    let site = site();
    let ended = site.ended(["show", "deploy/web.sh"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_snapshot!("show", site.plain(&ended.text()));
    assert_snapshot!("show_json", site.plain(&site.ended(["show", "--json", "deploy/web.sh"]).text()));
    site.ended(["manifest", "create"]);
    assert!(site.ended(["show", "deploy/web.sh"]).text().contains("verified  yes, by manifest "));
}

#[test]
fn show_says_what_is_wrong_with_a_broken_script() {
    let ended = site().ended(["show", "crlf.sh"]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.text().contains("broken") && ended.text().contains("sed -i"), "{}", ended.text());
}

#[test]
fn show_of_what_is_not_there_suggests_what_may_have_been_meant() {
    let site = site();
    let ended = site.ended(["show", "web.sh"]);
    assert_eq!(ended.code, Some(127), "{}", ended.stderr);
    assert!(ended.stderr.contains("did you mean deploy/web.sh?"), "{}", ended.stderr);
    assert_eq!(site.ended(["show", "../x"]).code, Some(126));
}

#[test]
fn a_folder_that_does_not_verify_is_not_shown_as_if_it_did() {
    let site = site();
    site.ended(["manifest", "create"]);
    site.script("silent.sh", "#!/bin/sh\necho changed\n");
    for args in [&["list"][..], &["show", "silent.sh"], &["list", "--json"]] {
        let ended = site.ended(args);
        assert_eq!((ended.code, ended.stdout.len()), (Some(126), 0), "{args:?}");
        assert!(
            ended.stderr.contains("silent.sh: ") && ended.stderr.contains("[digest_differs]"),
            "{ended:?}"
        );
    }
}

#[test]
fn an_empty_folder_says_so() {
    let ended = Site::new().ended(["list"]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 0));
    assert!(ended.stderr.contains("no executable files in "), "{}", ended.stderr);
}
