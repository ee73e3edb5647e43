//! `task …` against the agent's HTTP service, the real one, on a site of its own.

mod following;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use insta::assert_snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Ended, Site, write};

/// A service under way on a site; killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) port: u16,
}

/// The service's program, which is built beside the command line's.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_agent-cli")).with_file_name("agent-http");
    assert!(program.exists(), "{} is not there; build it: cargo build -p agent-http", program.display());
    program
}

impl Service {
    /// A new site with its service. Address and token are nowhere named: the command line finds both by the settings.
    pub(crate) fn on_a_free_port() -> (Site, Self) {
        Self::with_limits("")
    }

    /// The same with these lines in the section of limits, and sections behind it.
    pub(crate) fn with_limits(limits: &str) -> (Site, Self) {
        Self::with_settings("", &format!("[limits]\ndrain = \"1s\"\n{limits}"))
    }

    /// The same with these lines in the section `[http]`, and sections behind it.
    pub(crate) fn with_settings(http: &str, sections: &str) -> (Site, Self) {
        // Chosen here, since the settings must name it before the service starts.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let site = Site::with_settings(&format!("[http]\nport = {port}\n{http}\n{sections}\n"));
        let service = Self::start(&site, port);
        (site, service)
    }

    /// Starts the service on the site's settings, and waits until it listens.
    fn start(site: &Site, port: u16) -> Self {
        let mut command = Command::new(program());
        command.current_dir(site.path("")).env_clear().env("PATH", "/usr/bin:/bin");
        command.arg("--config").arg(site.path("application.toml")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut heard = String::new();
        while !heard.contains("listening on http") {
            assert!(talk.read_line(&mut heard).unwrap() > 0, "the service did not start: {heard}");
        }
        // Somebody has to read on, or the service would wait for it.
        thread::spawn(move || talk.read_to_string(&mut heard));
        Self { child, port }
    }

    /// Ends it without any order.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and waits until it has.
    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HELLO: &str = "#!/bin/sh\necho hello \"$@\"\necho KEY=value >>\"$TASK_OUTPUT\"\nexit \"${CODE:-0}\"\n";
const WAITS: &str = "#!/bin/sh\necho one\nread -r _ <\"$1\"\necho two\nexit 7\n";

fn served() -> (Site, Service) {
    let (site, service) = Service::on_a_free_port();
    site.script("hello.sh", HELLO);
    site.script("waits.sh", WAITS);
    (site, service)
}

fn submit(site: &Site, args: &[&str]) -> String {
    let ended = site.ended([&["task", "submit"], args].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.text().trim().to_owned()
}

fn show(site: &Site, id: &str) -> Value {
    site.ended(["task", "show", "--json", id]).json()
}

#[test]
fn a_submitted_task_has_an_id_by_which_it_is_shown_and_listed_and_its_log_read() {
    let (site, _service) = served();
    let id = submit(&site, &["--label", "team=web", "hello.sh", "you", "--json"]);
    let ended = site.ended(["task", "logs", "-f", &id]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "hello you --json\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hello.sh: exit code 0 after "), "{}", ended.stderr);
    assert_eq!(site.ended(["task", "logs", &id]).text(), "hello you --json\n");
    assert!(site.ended(["task", "logs", "--banner", &id]).text().contains("=== Execution Started ==="));
    let task = show(&site, &id);
    assert_eq!((&task["status"], &task["created_by"]), (&"succeeded".into(), &"admin".into()));
    let shown = site.ended(["task", "show", &id]).text();
    let facts: Vec<&str> = shown.lines().map(|line| line.split("  ").next().unwrap()).collect();
    let known = ["id", "name", "status", "created", "started", "ended", "log", "took", "outcome", "output"];
    assert_eq!(facts, known);
    assert!(site.ended(["task", "list"]).text().starts_with(&format!("{id}  succeeded  ")));
}

#[test]
fn who_submits_says_how_often_it_is_tried_and_that_a_busy_workspace_is_not_waited_for() {
    let (site, _service) = served();
    let header = "#TASK effect=\"read\" retries=5 retry_delay=\"1ms\"\n";
    site.script("fails.sh", format!("#!/bin/sh\n{header}exit 3\n"));
    let ended = site.ended(["task", "submit", "-f", "--retries", "1", "--id", "twice", "fails.sh"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(
        (&show(&site, "twice")["attempt"], &show(&site, "twice")["spec"]["retries"]),
        (&2.into(), &1.into())
    );
    let go_on = site.fifo("go-on");
    let mut live = site.live(["task", "submit", "-f", "--work-dir", "shared", "waits.sh", &go_on]);
    live.line();
    let busy = site.ended(["task", "submit", "--work-dir", "shared", "--on-busy", "refuse", "hello.sh"]);
    assert!(busy.code == Some(1) && busy.stderr.contains("shared"), "{}", busy.stderr);
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(live.ended().code, Some(7));
}

#[test]
fn a_task_is_run_again_under_another_id_and_what_is_destructive_is_confirmed_again() {
    let (site, _service) = served();
    site.script(
        "count.sh",
        "#!/bin/sh\n#TASK effect=\"destructive\"\n#USAGE arg \"<file>\"\necho again >> \"$1\"\nexit 3\n",
    );
    let count = site.path("count").display().to_string();
    let first =
        site.ended(["task", "submit", "--id", "one", "--confirm", "count.sh", "-f", "count.sh", &count]);
    assert_eq!(first.code, Some(3), "{}", first.stderr);
    let refused = site.ended(["task", "rerun", "one"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("confirm"), "{}", refused.stderr);
    let again = site.ended(["task", "rerun", "--confirm", "count.sh", "--follow", "one"]);
    assert_eq!(again.code, Some(3), "{}", again.stderr);
    let quiet = site.ended(["task", "rerun", "--confirm", "count.sh", "one"]);
    let id = quiet.text().trim().to_owned();
    assert!(quiet.code == Some(0) && id != "one", "{quiet:?}");
    assert_eq!(site.ended(["task", "logs", "--follow", &id]).code, Some(3));
    assert_eq!(fs::read_to_string(count).unwrap(), "again\nagain\nagain\n");
    assert_eq!(show(&site, &id)["spec"]["args"], show(&site, "one")["spec"]["args"]);
}

#[test]
fn lists_are_filtered_by_state_name_label_and_time() {
    let (site, _service) = served();
    let ids: Vec<String> = [
        &["--id", "a", "--label", "team=web", "hello.sh"][..],
        &["--id", "b", "--label", "team=db", "--env", "CODE=3", "hello.sh"],
        &["--id", "c", "--label", "team=web", "--label", "x=a b", "hello.sh"],
    ]
    .iter()
    .map(|args| submit(&site, args))
    .collect();
    site.script("other.sh", "#!/bin/sh\n");
    submit(&site, &["--id", "d", "other.sh"]);
    for id in ids.iter().map(String::as_str).chain(["d"]) {
        site.ended(["task", "logs", "-f", id]);
    }
    let listed = |args: &[&str]| -> Vec<String> {
        let ended = site.ended([&["task", "list"], args].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.text().lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), ["d", "c", "b", "a"]);
    assert_eq!(listed(&["--status", "failed"]), ["b"]);
    assert_eq!(listed(&["--name", "other.sh"]), ["d"]);
    assert_eq!(listed(&["--label", "team=web"]), ["c", "a"]);
    assert_eq!(listed(&["--label", "team=web", "--label", "x=a b"]), ["c"]);
    assert_eq!(listed(&["--since", "2099-01-01T00:00:00Z"]), [""; 0]);
    assert_eq!(listed(&["--since", "2001-01-01T00:00:00+01:00"]).len(), 4);
    let ended = site.ended(["task", "list", "--limit", "1"]);
    assert!(ended.text().starts_with("d ") && ended.stderr.contains("there are more"), "{ended:?}");
    assert_eq!(site.ended(["task", "list", "--json", "--limit", "2"]).json()["tasks"][1]["id"], "c");
    let ended = site.ended(["task", "list", "--status", "done", "--label", "web", "--since", "now"]);
    assert_eq!(ended.code, Some(1));
    assert_snapshot!("filters_that_are_none", ended.stderr);
}

#[test]
fn the_debug_script_of_a_task_does_the_same_again() {
    let (site, _service) = served();
    let id = submit(&site, &["--debug-script", "--env", "CODE=3", "hello.sh", "a b", "c'd"]);
    let ended = site.ended(["task", "logs", "-f", &id]);
    let script = site.ended(["task", "debug-script", &id]);
    assert_eq!(script.code, Some(0), "{}", script.stderr);
    write(&site.path("again.sh"), script.stdout, 0o755);
    let again = Ended::of(&mut Command::new(site.path("again.sh")));
    assert_eq!((ended.code, &ended.stdout), (again.code, &again.stdout), "{}", again.stderr);
    assert_eq!(again.text(), "hello a b c'd\n");
}

#[test]
fn the_same_id_and_task_twice_run_once() {
    let (site, _service) = served();
    site.script("counts.sh", "#!/bin/sh\necho ran >>../../../count\n");
    for _ in 0..3 {
        assert_eq!(submit(&site, &["--id", "once", "counts.sh"]), "once");
        site.ended(["task", "logs", "-f", "once"]);
    }
    assert_eq!(fs::read_to_string(site.path("count")).unwrap(), "ran\n");
    let ended = site.ended(["task", "submit", "--id", "once", "hello.sh"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("once"), "{}", ended.stderr);
}

#[test]
fn the_service_refuses_with_the_words_of_run() {
    let (site, _service) = served();
    let args =
        ["--timeout", "5", "--work-dir", "../up", "--env", "LD_PRELOAD=x", "--param", "a=1", "hello.sh"];
    let run = site.ended([&["run"], &args[..]].concat());
    let submitted = site.ended([&["task", "submit"], &args[..]].concat());
    let details = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.starts_with("  ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((run.code, submitted.code), (Some(126), Some(1)));
    let (run, submitted) = (details(&run.stderr), details(&submitted.stderr));
    assert!(
        submitted.len() >= 3 && submitted.iter().all(|line| run.contains(line)),
        "{run:#?}\n{submitted:#?}"
    );
}

#[test]
fn a_value_that_is_no_pair_is_refused_with_the_code_of_other_mistakes() {
    let (site, _service) = served();
    for (follow, code) in [(&[][..], 1), (&["-f"], 126)] {
        let args = [&["task", "submit"], follow, &["--param", "x", "--label", "=y", "hello.sh"]].concat();
        let ended = site.ended(args);
        assert_eq!((ended.code, ended.stdout.len()), (Some(code), 0), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("params.x: ") && ended.stderr.contains("labels.=y: "),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_token_of_somebody_else_is_refused() {
    let (site, _service) = served();
    fs::write(site.path("other"), "dag_0000000000000000000000000000000000000000000000000000000000000000\n")
        .unwrap();
    let ended = site.ended(["task", "list", "--token-file", "other"]);
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0));
    let told = "error: the token is not known; `agent-cli token create` makes one\n\
        hint: that in other was sent; name another with --token-file\n";
    assert!(ended.stderr.ends_with(told) && !ended.stderr.contains("dag_0"), "{}", ended.stderr);
}
