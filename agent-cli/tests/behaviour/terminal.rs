//! In front of a person: colour, a line that says that it still runs, Ctrl-C, and no sequence of a script's output that
//! would steer the terminal. In a pipe nothing of all that.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

use crate::service::Service;
use crate::support::{Ended, Live, Site, eventually, program};

/// What a command of the agent writes to a terminal, byte for byte, as `script` of util-linux sees it.
pub(crate) fn on_terminal(site: &Site, args: &[&str], env: &[(&str, &str)]) -> String {
    typing(site, args, env, Stdio::null())
}

/// The same where somebody types.
pub(crate) fn typing(site: &Site, args: &[&str], env: &[(&str, &str)], input: Stdio) -> String {
    behind_terminal(site, "", args, env, input)
}

/// The same on a terminal of so many columns, without colour; the others do not say how wide they are.
fn on_terminal_of(columns: u32, site: &Site, args: &[&str]) -> String {
    behind_terminal(site, &format!("stty cols {columns} rows 24; "), args, &[], Stdio::null())
}

/// What a command of the agent, and what a shell does before, write to a terminal.
fn behind_terminal(site: &Site, before: &str, args: &[&str], env: &[(&str, &str)], input: Stdio) -> String {
    let agent = site.agent(args);
    let words = std::iter::once(agent.get_program()).chain(agent.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("{before}{}", line.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("SHELL", "/bin/sh").envs(env.iter().copied()).current_dir(site.path(""));
    let ended = program(command.stdin(input), "bsdutils");
    ended.text().replace("\r\n", "\n")
}

#[test]
fn whoever_sits_at_a_terminal_confirms_what_cannot_be_undone_by_typing_its_name() {
    let site = Site::new();
    site.script("purge.sh", "#!/bin/sh\n#TASK effect=\"destructive\"\necho purged\n");
    let answered = |answer: &str| {
        fs::write(site.path("answer"), answer).unwrap();
        let input = fs::File::open(site.path("answer")).unwrap();
        typing(&site, &["run", "purge.sh"], &[], input.into())
    };
    let shown = answered("purge.sh\n");
    assert!(shown.contains("type its name to run it") && shown.contains("\npurged\n"), "{shown:?}");
    for answer in ["yes\n", "\n", ""] {
        let shown = answered(answer);
        assert!(shown.contains("confirm: ") && !shown.contains("purged"), "{answer:?}: {shown:?}");
    }
    assert_eq!(site.records().len(), 1);
}

#[test]
fn what_a_script_does_is_told_as_far_as_the_terminal_is_wide() {
    let site = Site::new();
    let header =
        "#TASK group=\"files\" effect=\"write\" description=\"Packs a folder into a checked archive\"";
    site.script("pack.sh", format!("#!/bin/sh\n{header}\n"));
    site.script("up.sh", "#!/bin/sh\n#TASK effect=\"read\" description=\"Short\"\n");
    for columns in [40, 80] {
        assert_snapshot!(format!("list_of_{columns}_columns"), on_terminal_of(columns, &site, &["list"]));
    }
    // The twin: a pipe gets all of it, however wide a terminal its reader has.
    assert!(site.ended(["list"]).text().contains("Packs a folder into a checked archive\n"));
}

#[test]
fn a_list_of_tasks_leaves_out_what_a_narrow_terminal_has_no_room_for() {
    let (site, _service) = Service::on_a_free_port();
    site.script("some.sh", "#!/bin/sh\n");
    let submitted = site.ended(["task", "submit", "some.sh"]).text();
    let id = submitted.trim();
    assert_eq!(site.ended(["task", "logs", "--follow", id]).code, Some(0));
    let cells = |columns: u32| -> Vec<String> {
        let shown = on_terminal_of(columns, &site, &["task", "list"]);
        let line = shown.trim_end();
        assert!(line.starts_with(&format!("{id}  succeeded  ")) && line.ends_with("  some.sh"), "{shown:?}");
        assert!(line.chars().count() <= columns as usize, "{shown:?}");
        line.split("  ").map(str::to_owned).collect()
    };
    assert_eq!([120, 80, 72].map(|columns| cells(columns).len()), [6, 5, 4]);
    assert_eq!(cells(80)[3], "admin");
    // What is cut off here stands there.
    let whole = site.ended(["task", "list"]).text();
    assert_eq!(whole.trim_end().split("  ").count(), 6, "{whole}");
}

pub(crate) const TERM: (&str, &str) = ("TERM", "xterm-256color");

#[test]
fn messages_are_coloured_on_a_terminal_only_and_not_where_that_is_unwanted() {
    let site = Site::new();
    site.script("ok.sh", "#!/bin/sh\necho hello\n");
    let shown = on_terminal(&site, &["run", "ok.sh"], &[TERM]);
    assert!(shown.starts_with("hello\n") && shown.contains("\x1b[32mexit code 0\x1b[0m"), "{shown:?}");
    let shown = on_terminal(&site, &["run", "no.sh"], &[TERM]);
    assert!(shown.contains("\x1b[31;1merror:\x1b[0m"), "{shown:?}");
    for env in [&[TERM, ("NO_COLOR", "1")][..], &[("TERM", "dumb")], &[]] {
        let shown = on_terminal(&site, &["run", "ok.sh"], env);
        assert!(shown.contains("exit code 0") && !shown.contains('\x1b'), "{env:?}: {shown:?}");
    }
    // An empty value says nothing (no-color.org).
    assert!(on_terminal(&site, &["run", "ok.sh"], &[TERM, ("NO_COLOR", "")]).contains('\x1b'));
    for args in [["run", "ok.sh"], ["run", "no.sh"]] {
        let ended = Ended::of(site.agent(args).env(TERM.0, TERM.1));
        assert!(!ended.stderr.contains('\x1b'), "{}", ended.stderr);
    }
}

#[test]
fn a_script_cannot_steer_the_terminal_but_a_pipe_gets_its_bytes() {
    let site = Site::new();
    // A title, a cleared screen, an answer-back, a cursor, a hyperlink, one of eight bits; and a colour, which may pass.
    let hostile = "\x1b]0;owned\x07\x1b[2J\x1b[c\x1b[1;1H\x1b]8;;http://x\x1b\\\u{9b}5n\x1b[31mred\x1b[0m\n";
    fs::write(site.path("hostile"), hostile).unwrap();
    site.script("hostile.sh", "#!/bin/sh\ncat \"$1\"\n");
    let file = site.path("hostile");
    let args = ["run", "hostile.sh", file.to_str().unwrap()];
    let shown = on_terminal(&site, &args, &[TERM, ("NO_COLOR", "1")]);
    let first = shown.lines().next().unwrap();
    assert!(first.ends_with("\x1b[31mred\x1b[0m"), "{first:?}");
    let steering = first.replace("\x1b[31m", "").replace("\x1b[0m", "");
    assert!(!steering.chars().any(char::is_control), "{steering:?}");
    assert!(steering.contains("\\u{1b}]0;owned\\u{7}"), "{steering:?}");
    assert_eq!(site.ended(args).text(), hostile);
}

#[test]
fn what_is_said_last_begins_on_a_line_of_its_own() {
    let site = Site::new();
    site.script("partial.sh", "#!/bin/sh\nprintf 'no newline'\n");
    let shown = on_terminal(&site, &["run", "partial.sh"], &[TERM, ("NO_COLOR", "1")]);
    assert!(shown.starts_with("no newline\npartial.sh: exit code 0"), "{shown:?}");
    assert_eq!(site.ended(["run", "partial.sh"]).text(), "no newline");
}

#[test]
fn what_a_script_leaves_on_the_terminal_does_not_hide_what_the_agent_says() {
    let site = Site::new();
    // Concealed text does not pass; black on black does, and is ended before anything else is said.
    for (left, shown_as) in
        [("\x1b[8m", "\\u{1b}[8m"), ("\x1b[30;40m", "\x1b[30;40m"), ("\x1b[7m\n", "\x1b[7m\n")]
    {
        fs::write(site.path("left"), left).unwrap();
        site.script("leaves.sh", "#!/bin/sh\ncat \"$1\"\nexit 1\n");
        let file = site.path("left");
        let args = ["run", "leaves.sh", file.to_str().unwrap()];
        let shown = on_terminal(&site, &args, &[TERM, ("NO_COLOR", "1")]);
        let (script, agent) = shown.split_once("leaves.sh: exit code 1").unwrap();
        let reset = if shown_as.contains('\x1b') { "\x1b[0m" } else { "" };
        let newline = if left.ends_with('\n') { "" } else { "\n" };
        assert_eq!(script, format!("{shown_as}{reset}{newline}"), "{shown:?}");
        assert!(!agent.contains('\x1b'), "{shown:?}");
    }
}

#[test]
fn what_is_said_while_a_script_runs_has_no_colour_of_its_output() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script(
        "hides.sh",
        "#!/bin/sh\ntrap 'exit 3' TERM\nprintf '\\033[30;40mhidden\\n'\nread -r _ <\"$1\"\n",
    );
    let terminal = Terminal::start(&site, &["run", "hides.sh", &go_on]);
    terminal.shows("hidden");
    // With `-e` tmux tells where colours change.
    let is_told_plainly = |text: &str| {
        terminal.shows(text);
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"]).text();
        assert!(screen.contains("\x1b[30m\x1b[40mhidden"), "{screen:?}");
        let before = screen.split(text).next().unwrap().trim_end_matches("\x1b[2m");
        assert!(["\x1b[0m", "\x1b[39m\x1b[49m"].iter().any(|plain| before.ends_with(plain)), "{screen:?}");
    };
    is_told_plainly("running for ");
    terminal.tmux(&["send-keys", "C-c"]);
    is_told_plainly("cancelling; once more kills it at once");
}

/// A terminal as a person has it, in tmux.
pub(crate) struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Runs a command of the agent, and says its exit code afterwards.
    pub(crate) fn start(site: &Site, args: &[&str]) -> Self {
        let agent = site.agent(args);
        let words = std::iter::once(agent.get_program()).chain(agent.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        // Without a shell's own line editing; it waits at the end, so that the screen stays.
        Self::with(site, &format!("trap : INT; {}; echo \"code $?\"; exec sleep 600", line.join(" ")))
    }

    /// Runs a command line.
    pub(crate) fn with(site: &Site, line: &str) -> Self {
        let terminal = Self { socket: site.path("tmux") };
        let started = terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "24", line]);
        assert_eq!(started.code, Some(0), "{}", started.stderr);
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Ended {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(args).current_dir(self.socket.parent().unwrap());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh");
        program(command.env("LANG", "C.UTF-8"), "tmux")
    }

    /// Types a text, and then keys by their names.
    pub(crate) fn types(&self, text: &str, keys: &[&str]) {
        self.tmux(&["send-keys", "-l", "--", text]);
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).text()
    }

    /// The screen, as soon as it shows this.
    pub(crate) fn shows(&self, text: &str) -> String {
        eventually(text, || Some(self.screen()).filter(|screen| screen.contains(text)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_silent_script_is_seen_to_run_and_that_line_is_gone_before_anything_else_comes() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("silent.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\necho two\n");
    let terminal = Terminal::start(&site, &["run", "silent.sh", &go_on]);
    let screen = terminal.shows("running for ");
    assert_eq!(screen.lines().next(), Some("one"), "{screen}");
    assert!(screen.contains(" s; Ctrl-C cancels"), "{screen}");
    fs::write(&go_on, "on\n").unwrap();
    let screen = terminal.shows("code 0");
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines[..2], ["one", "two"], "{screen}");
    assert!(lines[2].starts_with("silent.sh: exit code 0 after "), "{screen}");
    assert!(!screen.contains("running for "), "{screen}");
}

#[test]
fn a_line_that_the_script_has_not_ended_is_left_alone() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("asks.sh", "#!/bin/sh\nprintf 'working ...'\nread -r _ <\"$1\"\necho ' done'\n");
    let terminal = Terminal::start(&site, &["run", "asks.sh", &go_on]);
    terminal.shows("working ...");
    wait_for_a_sign_elsewhere();
    assert!(!terminal.screen().contains("running for "));
    fs::write(&go_on, "on\n").unwrap();
    assert_eq!(terminal.shows("code 0").lines().next(), Some("working ... done"));
}

#[test]
fn in_a_pipe_there_is_no_such_line() {
    let site = Site::new();
    let go_on = site.fifo("go-on");
    site.script("silent.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\necho end\n");
    let mut live = Live::start(site.agent(["run", "silent.sh", &go_on]).env(TERM.0, TERM.1));
    assert_eq!(live.line(), "one\n");
    wait_for_a_sign_elsewhere();
    fs::write(&go_on, "on\n").unwrap();
    let ended = live.ended();
    assert_eq!(ended.text(), "end\n");
    assert!(!ended.stderr.contains("running for ") && !ended.stderr.contains('\x1b'), "{}", ended.stderr);
}

/// Waits until another silent script has its sign: one that was silent before would have had its own by then.
fn wait_for_a_sign_elsewhere() {
    let site = Site::new();
    let never = site.fifo("never");
    site.script("silent.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\n");
    let terminal = Terminal::start(&site, &["run", "silent.sh", &never]);
    terminal.shows("running for ");
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.shows("code 130");
}

#[test]
fn ctrl_c_cancels_and_a_second_one_kills() {
    let site = Site::with_settings("[script_executor]\nkill_grace = \"10m\"\n");
    site.script("stubborn.sh", "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 0.05; done\n");
    let terminal = Terminal::start(&site, &["run", "stubborn.sh"]);
    terminal.shows("ready");
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.shows("cancelling; once more kills it at once");
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.shows("code 130");
    assert!(screen.contains("stubborn.sh: cancelled after "), "{screen}");
}
