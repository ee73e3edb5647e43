//! The table of commands, and the page that one of them makes.

use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap()
}

#[test]
fn the_page_about_configuration_is_up_to_date() {
    let output = xtask(&["docs", "--check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_unknown_command_is_answered_with_all_that_there_are() {
    for arguments in [&["tset"][..], &[]] {
        let output = xtask(arguments);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        for command in ["cargo xtask test", "cargo xtask check", "cargo xtask docs"] {
            assert!(text.contains(command), "{text}");
        }
    }
}
