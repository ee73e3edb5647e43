//! Whoever sits at a terminal is asked for what is missing; nobody else is.

use std::process::Stdio;

use crate::support::{Ended, Site, write};
use crate::terminal::{TERM, Terminal, typing};

fn site() -> Site {
    let site = Site::new();
    let header = "#TASK description=\"Deploys\" type.replicas=\"int\" min.replicas=1 max.replicas=20\n\
        #USAGE arg \"<service>\" help=\"Service name\" { choices \"web\" \"api\" }\n\
        #USAGE flag \"--replicas <n>\" help=\"Pods\" required=#true\n\
        #USAGE flag \"--env <env>\" default=\"staging\"\n#USAGE flag \"--purge\" effect=\"destructive\"\n";
    site.script(
        "deploy.sh",
        format!("#!/bin/sh\n{header}echo \"deploying $usage_service $usage_replicas $usage_env\"\n"),
    );
    site.script("hosts.sh", "#!/bin/sh\n#USAGE arg \"<hosts>…\" var_min=2\nprintf '<%s>' \"$@\"\necho\n");
    site
}

/// What is seen where somebody types these lines and then no more.
fn answering(site: &Site, args: &[&str], lines: &str) -> String {
    write(&site.path("typed"), lines, 0o600);
    let input = std::fs::File::open(site.path("typed")).unwrap();
    typing(site, args, &[TERM, ("NO_COLOR", "1")], input.into())
}

#[test]
fn missing_values_are_asked_for_one_by_one_and_again_until_they_are_right() {
    let site = site();
    let shown = answering(&site, &["run", "deploy.sh"], "db\nweb\nmany\n0\n3\n");
    for text in [
        "deploy.sh takes more than was given",
        "  Service name [one of: web, api]\n",
        "  params.service: one of \"web\", \"api\" for service (choice)\n",
        "  Pods [1 to 20] [required] [int]\n",
        "  params.replicas: a whole number, such as 5 or -5, that fits 64 bits (int)\n",
        "  params.replicas: 1 at least (minimum)\n",
        "deploying web 3 staging\n",
    ] {
        assert!(shown.contains(text), "{text:?} in {shown}");
    }
    assert_eq!(site.records().len(), 1);
}

#[test]
fn what_was_given_is_not_asked_for_and_several_values_come_a_line_each() {
    let site = site();
    let shown = answering(&site, &["run", "deploy.sh", "api"], "4\n");
    assert!(shown.contains("deploying api 4 staging") && !shown.contains("Service name"), "{shown}");
    let shown = answering(&site, &["run", "--param", "replicas=5", "deploy.sh"], "web\n");
    assert!(shown.contains("deploying web 5 staging"), "{shown}");
    let shown = answering(&site, &["run", "hosts.sh"], "one\n\na b\nit's\n\n");
    assert!(shown.contains("2 values at least") && shown.contains("<a b><it's>"), "{shown}");
    // Yes is an answer to another question; and what cannot be undone is asked for behind the values.
    let shown = answering(&site, &["run", "--yes", "deploy.sh", "--purge", "api"], "6\n");
    assert!(shown.contains("deploying api 6"), "{shown}");
    let shown = answering(&site, &["run", "deploy.sh", "--purge", "api"], "7\ndeploy.sh\n");
    assert!(shown.contains("deploying api 7"), "{shown}");
}

#[test]
fn who_stops_typing_has_run_nothing() {
    let site = site();
    let shown = answering(&site, &["run", "deploy.sh"], "web\n");
    assert!(
        shown.contains("error: nothing was run") && shown.contains("params.replicas: a value"),
        "{shown}"
    );
    assert_eq!(site.records().len(), 0);
    let terminal = Terminal::start(&site, &["run", "deploy.sh"]);
    terminal.shows("service:");
    terminal.types("web", &["Enter"]);
    terminal.shows("--replicas:");
    terminal.types("", &["C-d"]);
    terminal.shows("code 126");
    assert_eq!(site.records().len(), 0);
}

#[test]
fn ctrl_c_at_a_question_runs_nothing() {
    let site = site();
    let terminal = Terminal::start(&site, &["run", "deploy.sh"]);
    terminal.shows("service:");
    terminal.types("web", &["C-c"]);
    terminal.shows("code 130");
    assert_eq!(site.records().len(), 0);
}

#[test]
fn nobody_is_asked_in_a_pipe_or_for_a_program_or_where_something_else_is_wrong() {
    let site = site();
    let ended = site.ended(["run", "deploy.sh"]);
    assert_eq!(ended.code, Some(126));
    assert!(ended.stderr.contains("params.service: one of") && !ended.stderr.contains("takes more"));
    let shown = answering(&site, &["run", "--json", "deploy.sh"], "web\n3\n");
    assert!(shown.contains("params.service: one of") && !shown.contains("takes more"), "{shown}");
    let shown = answering(&site, &["run", "deploy.sh", "--nothing"], "web\n3\n");
    assert!(shown.contains("args[0]") && !shown.contains("takes more"), "{shown}");
    let piped = Ended::of(site.agent(["run", "deploy.sh"]).stdin(Stdio::null()));
    assert_eq!(piped.code, Some(126));
    assert_eq!(site.records().len(), 0);
}

#[test]
fn a_dry_run_asks_too_and_runs_nothing() {
    let site = site();
    let shown = answering(&site, &["run", "--dry-run", "deploy.sh"], "web\n3\n");
    assert!(shown.contains("usage_replicas=3") && !shown.contains("deploying"), "{shown}");
    assert_eq!(site.records().len(), 0);
}

#[test]
fn a_value_that_goes_with_another_one_is_taken_beside_it() {
    let site = Site::new();
    let header = "#USAGE arg \"<user>\" requires=\"--host\"\n#USAGE flag \"--host <host>\"\n";
    site.script("enter.sh", format!("#!/bin/sh\n{header}echo \"$usage_user at $usage_host\"\n"));
    let shown = answering(&site, &["run", "enter.sh", "--host", "db-1"], "bob\n");
    assert!(shown.contains("bob at db-1"), "{shown}");
    // Another name would not bring the host: asked once, and refused with all that is wrong.
    let shown = answering(&site, &["run", "enter.sh"], "bob\n");
    assert!(shown.contains("params.user: given with --host") && !shown.contains("bob at"), "{shown}");
}

/// A script with a secret, which waits for nothing and prints its digest.
fn with_secret(site: &Site) {
    let header = "#TASK effect=\"write\" secret=\"token\" min_length.token=3\n\
        #USAGE flag \"--token <token>\" required=#true help=\"Deploy token\"\n";
    site.script("secret.sh", format!("#!/bin/sh\n{header}tr a-z A-Z <\"$usage_token_file\"\necho\n"));
}

#[test]
fn a_secret_is_typed_unseen_and_checked_as_others_are() {
    let site = Site::new();
    with_secret(&site);
    let terminal = Terminal::start(&site, &["run", "secret.sh"]);
    terminal.shows("Deploy token");
    terminal.shows("--token (what you type is not shown):");
    terminal.types("ab", &["Enter"]);
    terminal.shows("params.token: 3 characters at least (min_length)");
    // Words, as a passphrase has them.
    terminal.types("open the gate", &["Enter"]);
    let screen = terminal.shows("code 0");
    assert!(screen.contains("OPEN THE GATE") && !screen.contains("open the gate"), "{screen}");
    assert_eq!(screen.matches("--token (what you type").count(), 2, "{screen}");
}

#[test]
fn a_terminal_shows_what_is_typed_again_however_a_secrets_question_ends() {
    for (key, code) in [("C-c", "code 130"), ("C-d", "code 126"), ("C-\\", "code 131")] {
        let site = Site::new();
        with_secret(&site);
        let agent = site.agent(["run", "secret.sh"]);
        let program = agent.get_program().to_str().unwrap();
        let line = format!(
            "trap : INT QUIT; ulimit -c 0; '{program}' run secret.sh; echo \"code $?\"; stty -a; exec sleep 600"
        );
        let terminal = Terminal::with(&site, &line);
        terminal.shows("(what you type is not shown):");
        terminal.types("", &[key]);
        terminal.shows(code);
        let screen = terminal.shows(" echok ");
        assert!(screen.contains(" echo ") && screen.contains(" -echonl "), "{key}: {screen}");
        assert_eq!(site.records().len(), 0);
    }
}

#[test]
fn whoever_stops_at_a_secrets_question_is_asked_again_afterwards_and_unseen() {
    let site = Site::new();
    with_secret(&site);
    let terminal = Terminal::with(&site, "exec bash --norc --noprofile -i");
    let agent = site.agent(["run", "secret.sh"]);
    terminal.types(&format!("'{}' run secret.sh", agent.get_program().to_str().unwrap()), &["Enter"]);
    terminal.shows("(what you type is not shown):");
    terminal.types("", &["C-z"]);
    terminal.shows("Stopped");
    terminal.types("echo back in the sh$((40 + 2))ell", &["Enter"]);
    let screen = terminal.shows("back in the sh42ell");
    assert!(screen.contains("sh$((40"), "{screen}");
    terminal.types("fg; echo \"ended $?\"", &["Enter"]);
    crate::support::eventually("the question", || {
        (terminal.screen().matches("(what you type is not shown):").count() == 2).then_some(())
    });
    terminal.types("open the gate", &["Enter"]);
    let screen = terminal.shows("ended 0");
    assert!(screen.contains("OPEN THE GATE") && !screen.contains("open the gate"), "{screen}");
}
