//! The help of every command, as a person reads it.

use insta::assert_snapshot;

use crate::support::Site;

/// The help of a command, as wide as it gets.
fn help(command: &str) -> String {
    let words = command.split_whitespace().chain(["--help"]);
    let ended = Site::new().ended(words);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{command}");
    ended.text()
}

#[test]
fn the_help_of_the_program_names_every_command() {
    assert_snapshot!("help", help(""));
}

#[test]
fn the_help_of_commands_on_this_host_names_every_option() {
    for command in ["run", "list", "show", "manifest", "token create"] {
        assert_snapshot!(format!("help {command}"), help(command));
    }
    for command in ["manifest create", "manifest verify", "manifest sign", "manifest keygen"] {
        assert_snapshot!(format!("help {command}"), help(command));
    }
}

#[test]
fn the_help_of_commands_of_the_service_names_every_option() {
    for command in ["submit", "list", "show", "logs", "cancel", "rerun", "abandon", "debug-script"] {
        assert_snapshot!(format!("help task {command}"), help(&format!("task {command}")));
    }
    for command in ["node", "node list", "node show", "node drain", "node remove"] {
        assert_snapshot!(format!("help {command}"), help(command));
    }
}

#[test]
fn no_line_of_help_is_wider_than_a_hundred_columns() {
    for command in ["", "run", "task submit", "task list", "manifest keygen", "token create"] {
        let help = help(command);
        let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 100, "{command}: {widest}");
    }
}
