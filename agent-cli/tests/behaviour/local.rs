//! The commands for tasks over the Unix socket of a service on this host.

use std::fs;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::service::Service;
use crate::support::Site;

const SOCKET: &str = "socket = \"agent.sock\"";
const SCRIPT: &str = "#!/bin/sh\necho hello \"$@\"\nexit 3\n";

/// A section by which a user is a caller who may do this.
fn section(uid: u32, scopes: &str) -> String {
    format!("[[auth.token]]\nname = \"me\"\npeer_uids = [{uid}]\nscopes = [{scopes}]\nscripts = [\"**\"]\n")
}

/// A site and its service; scripts are found a moment later.
fn served(sections: &str) -> (Site, Service) {
    let (site, service) = Service::with_settings(SOCKET, sections);
    site.script("hello.sh", SCRIPT);
    (site, service)
}

/// Tries every command for tasks, with these options, and gives who the task was run for.
fn try_all(site: &Site, options: &[&str]) -> String {
    let ended = |words: &[&str], rest: &[&str], code: i32| {
        let ended = site.ended([words, options, rest].concat());
        assert_eq!(ended.code, Some(code), "{words:?}: {ended:?}");
        ended
    };
    assert_eq!(ended(&["task", "submit", "--id", "one"], &["hello.sh", "you"], 0).text(), "one\n");
    assert!(ended(&["task", "logs", "--follow"], &["one"], 3).text().contains("hello you\n"));
    assert!(ended(&["task", "logs"], &["one"], 0).text().contains("hello you\n"));
    assert!(ended(&["task", "list"], &[], 0).text().contains("one"));
    assert!(ended(&["task", "debug-script"], &["one"], 0).text().contains("hello.sh"));
    assert!(ended(&["task", "cancel"], &["one"], 1).stderr.contains("has ended already"));
    assert_eq!(ended(&["task", "submit", "--follow"], &["hello.sh"], 3).text(), "hello\n");
    let task: Value = ended(&["task", "show", "--json"], &["one"], 0).json();
    task["created_by"].as_str().unwrap().to_owned()
}

/// From where the requests came, by the service's own account.
fn callers(site: &Site) -> Vec<String> {
    let audit = fs::read_to_string(site.path("state/audit.jsonl")).unwrap();
    let lines = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["from"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_command_works_over_the_socket_and_finds_the_token_of_the_first_start_by_itself() {
    let (site, _service) = served("");
    let address = format!("unix:{}", site.path("agent.sock").display());
    assert_eq!(try_all(&site, &["--server", &address]), "admin");
    for words in [["list", "--server"], ["show", "--server"]] {
        let script = (words[0] == "show").then_some("hello.sh");
        let ended = site.ended(words.into_iter().chain([address.as_str()]).chain(script));
        assert!(ended.code == Some(0) && ended.text().contains("hello.sh"), "{ended:?}");
    }
    let from = format!("unix:uid={},pid=", geteuid());
    let callers = callers(&site);
    assert!(callers.len() > 8 && callers.iter().all(|caller| caller.starts_with(&from)), "{callers:?}");
}

#[test]
fn a_service_that_has_a_socket_is_called_by_it_and_a_listed_user_needs_no_token() {
    let (site, _service) = served(&section(geteuid().as_raw(), "\"run\", \"read\", \"cancel\""));
    assert_eq!(try_all(&site, &[]), "me");
    assert!(callers(&site).iter().all(|caller| caller.starts_with("unix:")));
    // Nothing of that is read where the settings cannot be.
    fs::write(site.path("broken.toml"), "nonsense").unwrap();
    let address = format!("unix:{}", site.path("agent.sock").display());
    let mut command =
        site.without_configuration(["--config", "broken.toml", "task", "list", "--server", &address]);
    assert!(command.output().unwrap().status.success());
}

#[test]
fn who_is_not_listed_is_told_what_would_help_and_a_token_that_is_named_decides() {
    let (site, _service) = served(&section(geteuid().as_raw() + 1, "\"read\""));
    let ended = site.ended(["task", "list"]);
    let advice = format!("have the user {} listed in peer_uids", geteuid());
    assert!(ended.code == Some(1) && ended.stderr.contains(&advice), "{ended:?}");
    fs::write(site.path("token"), "dag_wrong\n").unwrap();
    let address = format!("unix:{}", site.path("agent.sock").display());
    let ended = site.ended(["task", "list", "--server", &address, "--token-file", "token"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("the token is not known"), "{ended:?}");
}

#[test]
fn a_socket_that_is_not_there_or_no_address_is_said() {
    let site = Site::new();
    for (address, words) in [
        ("unix:none.sock", "cannot reach the service at unix:none.sock: "),
        ("unix:", "write it as unix:/path/of/the.sock"),
    ] {
        let ended = site.ended(["task", "list", "--server", address]);
        assert!(ended.code == Some(1) && ended.stderr.contains(words), "{ended:?}");
    }
    let ended = site.ended(["task", "list", "--server", "unix:none.sock", "--ca", "ca.pem"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("no TLS over a Unix socket"), "{ended:?}");
}
