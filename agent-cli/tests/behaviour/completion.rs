//! Completion in the shells themselves: keys pressed in each of them, and the answers of their own functions. Nothing
//! is run for it, nothing is said, and what it puts on the line is read back as what it stands for.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Ended, Site, program};
use crate::terminal::Terminal;

/// A value that every shell would read as something else, if it were not quoted.
const ODD: &str = "it's $HOME; \"x\" `y`!*";

fn site() -> Site {
    let site = Site::new();
    let header = "#TASK description=\"Tries odd things\" type.force=\"bool\" type.file=\"path\"\n\
        #USAGE flag \"-e --env <env>\" help=\"Where\\u{1b}[2J\\nto\" { choices \"staging\" \"it's $HOME; \\\"x\\\" `y`!*\" \"ctrl\\nx\" }\n\
        #USAGE flag \"--force <yes>\" help=\"Really\"\n#USAGE flag \"--all\" negate=\"--no-all\"\n\
        #USAGE flag \"--tag <tag>\" var=#true\n#USAGE flag \"--of <of>\" require_equals=#true { choices \"a:1\" \"a:2\" }\n\
        #USAGE arg \"<where>\" { choices \"host:80\" \"host:443\" }\n#USAGE arg \"[file]\"\n#USAGE arg \"[-- rest]…\" { choices \"r1\" }\n";
    site.script("odd.sh", format!("#!/bin/sh\n{header}printf '<%s>\\n' \"$usage_env\"\n"));
    site.script("deploy/web.sh", "#!/bin/sh\n#TASK description=\"Deploys: all\"\necho\n");
    site.script("hidden.sh", "#!/bin/sh\n#TASK hidden=#true\n#USAGE flag \"--secretly\"\n: >ran\n");
    site.script("broken.sh", "#!/bin/sh\n#TASK nothing=1\n: >ran\n");
    site.script("free.sh", "#!/bin/sh\n: >ran\n");
    fs::write(site.path("scripts/data.txt"), "data").unwrap();
    fs::write(site.path("free-file"), "").unwrap();
    site
}

/// The folder of the program under test, before all others.
fn search_path() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_agent-cli")).parent().unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

/// A shell without anybody's own settings.
fn shell(site: &Site, name: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(name);
    command.args(args).current_dir(site.path("")).env_clear().env("PATH", search_path());
    command.env("HOME", site.path("")).env("LANG", "C.UTF-8").env("TERM", "dumb");
    program(&mut command, name)
}

/// What bash's own function for this program answers at the end of a line.
fn in_bash(site: &Site, line: &str) -> Vec<String> {
    let script = "source <(agent-cli completions bash)\nCOMP_LINE=$1 COMP_POINT=${#1}\n_agent_cli 2>/dev/null\n\
        ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\"";
    let ended = shell(site, "bash", &["--noprofile", "--norc", "-c", script, "bash", line]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}");
    ended.text().lines().map(str::to_owned).collect()
}

/// What fish offers at the end of a line: words, with their help behind a tab.
fn in_fish(site: &Site, line: &str) -> Vec<String> {
    let script = "agent-cli completions fish | source; complete -C $argv[1]";
    let ended = shell(site, "fish", &["--no-config", "-c", script, line]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}");
    ended.text().lines().map(str::to_owned).collect()
}

/// Presses TAB in an interactive shell and looks at what it makes of the line, until the line runs.
fn press_keys(site: &Site, shell: &str) {
    let line = format!(
        "exec env -i PATH='{}' HOME='{home}' ZDOTDIR='{home}' TERM=xterm LANG=C.UTF-8 {shell}",
        search_path(),
        home = site.path("").display()
    );
    let terminal = Terminal::with(site, &line);
    terminal.shows("ready>");
    terminal.types("agent-cli ru", &["Tab"]);
    terminal.shows("ready> agent-cli run");
    terminal.types("od", &["Tab"]);
    terminal.shows("agent-cli run odd.sh");
    terminal.types("host:8", &["Tab"]);
    terminal.shows("odd.sh host:80");
    terminal.types("--en", &["Tab"]);
    terminal.shows("host:80 --env");
    terminal.types("it", &["Tab"]);
    terminal.shows("HOME");
    terminal.types("", &["Enter"]);
    terminal.shows(&format!("<{ODD}>"));
    terminal.shows("odd.sh: exit code 0");
    // Paths come from the shell itself, behind a `=` too.
    terminal.types("agent-cli --config fre", &["Tab"]);
    terminal.shows("agent-cli --config free-file");
    terminal.types("", &["C-u"]);
    terminal.types("agent-cli --config=fre", &["Tab"]);
    terminal.shows("agent-cli --config=free-file");
    terminal.types("", &["C-u"]);
    // Words in quotes, and behind a flag's `=`.
    terminal.types("clear", &["Enter"]);
    terminal.types("agent-cli run odd.sh host:80 --env='it", &["Tab"]);
    terminal.shows("HOME");
    terminal.types("", &["Enter"]);
    terminal.shows(&format!("<{ODD}>"));
}

#[test]
fn pressing_tab_in_bash_puts_words_there_that_run_as_they_were_meant() {
    let site = site();
    fs::write(site.path("rc"), "source <(agent-cli completions bash)\nPS1='ready> '\n").unwrap();
    press_keys(&site, "bash --noprofile --rcfile rc -i");
}

#[test]
fn pressing_tab_in_zsh_puts_words_there_that_run_as_they_were_meant() {
    let site = site();
    let rc = "autoload -Uz compinit; compinit -u -D\nsource <(agent-cli completions zsh)\nPS1='ready> '\nunsetopt prompt_sp\n";
    fs::write(site.path(".zshrc"), rc).unwrap();
    press_keys(&site, "zsh -d -i");
}

#[test]
fn pressing_tab_in_fish_puts_words_there_that_run_as_they_were_meant() {
    let site = site();
    let folder = site.path(".config/fish");
    fs::create_dir_all(folder.join("completions")).unwrap();
    let functions = site.ended(["completions", "fish"]).text();
    fs::write(folder.join("completions/agent-cli.fish"), functions).unwrap();
    fs::write(
        folder.join("config.fish"),
        "function fish_prompt; echo -n 'ready> '; end\nset fish_greeting\n",
    )
    .unwrap();
    press_keys(&site, "fish -i");
}

#[test]
fn commands_options_and_their_values_are_offered() {
    let site = site();
    assert_eq!(in_bash(&site, "agent-cli manifest "), ["create", "verify", "sign", "keygen", "help"]);
    let options = in_bash(&site, "agent-cli run --d");
    assert_eq!(options, ["--debug-script", "--dry-run"]);
    assert!(!in_bash(&site, "agent-cli run --dry-run --d").contains(&"--dry-run".to_owned()));
    assert_eq!(in_bash(&site, "agent-cli completions "), ["bash", "zsh", "fish"]);
    assert_eq!(in_bash(&site, "agent-cli task list --status=can"), ["cancelled"]);
    assert_eq!(in_bash(&site, "agent-cli __"), [""; 0]);
    fs::create_dir_all(site.path("workspace/shared/web")).unwrap();
    assert_eq!(in_bash(&site, "agent-cli run --work-dir "), ["web"]);
    let shown = in_fish(&site, "agent-cli sh");
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].starts_with("show\tShow one script"), "{shown:?}");
}

#[test]
fn scripts_are_offered_by_name_but_for_hidden_and_broken_ones() {
    let site = site();
    for line in ["agent-cli run ", "agent-cli show ", "agent-cli run --json -- ", "agent-cli task submit "] {
        assert_eq!(in_bash(&site, line), ["deploy/web.sh", "free.sh", "odd.sh"], "{line}");
    }
    assert_eq!(in_fish(&site, "agent-cli run d"), ["deploy/web.sh\tDeploys: all"]);
    let elsewhere = Site::new();
    elsewhere.script("other.sh", "#!/bin/sh\n");
    let folder = elsewhere.path("scripts");
    assert_eq!(in_bash(&site, &format!("agent-cli --scripts {} run ", folder.display())), ["other.sh"]);
    // A script runs by its name, whether or not it is offered; so its flags are offered too.
    assert!(in_bash(&site, "agent-cli run hidden.sh --s").contains(&"--secretly".to_owned()));
}

#[test]
fn behind_a_scripts_name_its_own_flags_and_choices_are_offered() {
    let site = site();
    let flags = ["--env", "--force", "--all", "--no-all", "--tag", "--of=", "--help"];
    assert_eq!(in_bash(&site, "agent-cli run odd.sh -"), flags);
    for (line, offered) in [
        ("agent-cli run odd.sh ", &["host:80", "host:443"][..]),
        ("agent-cli run odd.sh host:", &["80", "443"]),
        ("agent-cli run odd.sh --force ", &["true", "false"]),
        ("agent-cli run odd.sh -e st", &["staging"]),
        ("agent-cli run odd.sh --env=st", &["staging"]),
        ("agent-cli run odd.sh --of=a", &["a:1", "a:2"]),
        ("agent-cli run odd.sh --tag a --env staging --no-", &["--no-all"]),
        ("agent-cli run odd.sh --tag a --ta", &["--tag"]),
        ("agent-cli run odd.sh --env staging --en", &[]),
        ("agent-cli run odd.sh --tag ", &[]),
        ("agent-cli run odd.sh host:80 x -- ", &["r1"]),
        ("agent-cli run odd.sh host:80 x -- -", &[]),
        ("agent-cli task submit --follow odd.sh --al", &["--all"]),
    ] {
        assert_eq!(in_bash(&site, line), offered, "{line}");
    }
    // Help is one line, and steers nobody's terminal.
    assert_eq!(in_fish(&site, "agent-cli run odd.sh --en"), ["--env\tWhere\\u{1b}[2J"]);
    // What holds a line's end cannot be typed.
    assert!(in_fish(&site, "agent-cli run odd.sh --env ").iter().all(|word| !word.contains("ctrl")));
}

#[test]
fn files_are_offered_where_one_is_wanted_and_nowhere_else() {
    let site = site();
    for line in ["agent-cli run free.sh fre", "agent-cli run odd.sh host:80 fre", "agent-cli --config fre"] {
        assert_eq!(in_fish(&site, line), ["free-file"], "{line}");
    }
    assert_eq!(in_fish(&site, "agent-cli --config=fre"), ["--config=free-file"]);
    for line in ["agent-cli fre", "agent-cli run fre", "agent-cli run odd.sh --tag fre"] {
        assert!(!in_fish(&site, line).iter().any(|word| word.contains("free-file")), "{line}");
    }
}

#[test]
fn nothing_is_run_said_or_left_behind_and_nothing_that_is_wrong_fails() {
    let site = site();
    in_bash(&site, "agent-cli run hidden.sh --");
    in_bash(&site, "agent-cli run free.sh ");
    assert!(!site.path("ran").exists() && !site.path("state").exists() && !site.path("workspace").exists());
    fs::write(site.path("broken.toml"), "no = [").unwrap();
    for line in [
        "agent-cli --config broken.toml run ",
        "agent-cli --scripts /nowhere run ",
        "agent-cli run ../../etc/passwd ",
        "agent-cli run nothing.sh -",
        "agent-cli nothing of the kind ",
        "agent-cli task show --server http://127.0.0.1:9 ",
        "agent-cli \"",
        "",
    ] {
        in_bash(&site, line);
        for words in [
            vec!["bash", "--", line, ""],
            vec!["zsh", "--", "agent-cli", line],
            vec!["fish"],
            vec!["zsh", "--"],
        ] {
            let ended = site.without_configuration([&["__complete"], words.as_slice()].concat());
            let ended = Ended::of(&mut { ended });
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        }
    }
}
