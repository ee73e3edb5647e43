//! Bad input starts nothing, and is refused with the words of the library.

use std::fs;

use insta::assert_snapshot;
use task_runners::{ExecuteScriptRequest, Problem};

use crate::support::{Site, write};

/// What the library says of a request, a line each.
fn words(request: &ExecuteScriptRequest) -> Vec<String> {
    request.check().err().unwrap_or_default().iter().map(Problem::to_string).collect()
}

/// The lines under the message: two blanks in front.
fn details(stderr: &str) -> Vec<String> {
    stderr.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// 300 names that lead out of a folder, or would if somebody decoded, joined or trimmed them.
fn traversals() -> Vec<String> {
    let up = [
        "..",
        "../..",
        "../../..",
        "./..",
        "..//..",
        "%2e%2e",
        "..%2f..",
        "%2e%2e%2f",
        "..\\..",
        "..;",
        "....//",
        "..\u{2215}..",
        "\u{ff0e}\u{ff0e}",
        "\u{2025}",
        ".. ",
        " ..",
        "..\t",
        "..\n",
        "~",
        "~root",
    ];
    let file = [
        "decoy.sh",
        "./decoy.sh",
        "/decoy.sh",
        "decoy.sh/",
        "decoy.sh/.",
        "decoy.sh ",
        "a/../decoy.sh",
        "etc/passwd",
        ".hidden",
        "-x",
        "decoy.sh\n",
        "d\u{e9}coy.sh",
        "\u{202e}hs.yoced",
        "decoy.sh\u{200b}",
        "*",
    ];
    up.iter().flat_map(|up| file.iter().map(move |file| format!("{up}/{file}"))).collect()
}

#[test]
fn three_hundred_names_that_lead_out_of_the_folder_are_refused_with_the_librarys_words() {
    let site = Site::new();
    let mark = site.path("mark");
    let decoy = format!("#!/bin/sh\necho ran >'{}'\n", mark.display());
    for folder in ["", "outside"] {
        write(&site.path(folder).join("decoy.sh"), &decoy, 0o755);
    }
    site.script("sub/ok.sh", "#!/bin/sh\n");
    std::os::unix::fs::symlink(site.path("outside"), site.path("scripts/link")).unwrap();
    let names = traversals();
    assert_eq!(names.len(), 300);
    for name in &names {
        let ended = site.ended(["run", "--", name]);
        let said = words(&ExecuteScriptRequest::new(name.as_str()));
        assert!(!said.is_empty(), "{name:?}");
        assert_eq!((ended.code, details(&ended.stderr)), (Some(126), said), "{name:?}");
    }
    // A name that is one, but leads out over a link.
    assert_eq!(site.ended(["run", "link/decoy.sh"]).code, Some(126));
    assert!(!mark.exists() && site.records().is_empty());
    // Where the folder above is the scripts folder, the decoy is a script like any other.
    write(&site.path("above/scripts/decoy.sh"), &decoy, 0o755);
    assert_eq!(site.ended(["--scripts", "above", "run", "scripts/decoy.sh"]).code, Some(0));
    assert!(mark.exists());
}

/// 60 variables that would make something else run than was vouched for, or are no variables.
const VARIABLES: [&str; 60] = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "LD_DEBUG",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "MALLOC_TRACE",
    "RESOLV_HOST_CONF",
    "HOSTALIASES",
    "TZDIR",
    "BASH_ENV",
    "BASH_FUNC_ls%%",
    "BASHOPTS",
    "SHELLOPTS",
    "ENV",
    "IFS",
    "CDPATH",
    "PS4",
    "PROMPT_COMMAND",
    "GLOBIGNORE",
    "ZDOTDIR",
    "SHELL",
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TASK_ID",
    "TASK_OUTPUT",
    "usage_token_file",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "RUBYOPT",
    "RUBYLIB",
    "GEM_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "LUA_INIT",
    "JAVA_TOOL_OPTIONS",
    "CLASSPATH",
    "PHPRC",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "SUDO_ASKPASS",
    "SSH_ASKPASS",
    "EDITOR",
    "PAGER",
    "LESSOPEN",
    "MAKEFLAGS",
    "1X",
    "a-b",
    "a b",
    "a.b",
    "\u{e4}",
];

#[test]
fn sixty_dangerous_variables_are_refused_with_the_librarys_words() {
    let site = Site::new();
    site.script("env.sh", "#!/bin/sh\necho ran >../../../mark\n");
    let mut args = vec!["run".to_owned()];
    let mut request = ExecuteScriptRequest::new("env.sh");
    for name in VARIABLES {
        args.extend(["--env".to_owned(), format!("{name}=x")]);
        request = request.env(name, "x");
    }
    args.push("env.sh".to_owned());
    let ended = site.ended(&args);
    assert_eq!(ended.code, Some(126));
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let said = sorted(details(&ended.stderr));
    assert_eq!(said.len(), VARIABLES.len());
    assert_eq!(said, sorted(words(&request)));
    assert!(!site.path("mark").exists() && site.records().is_empty());
    assert_eq!(site.ended(["run", "--env", "MY_LD_PRELOAD=x", "env.sh"]).code, Some(0));
    assert!(site.path("mark").exists());
}

#[test]
fn all_mistakes_are_told_at_once() {
    let site = Site::new();
    site.script("ok.sh", "#!/bin/sh\n");
    let ended = site.ended([
        "run",
        "--timeout",
        "10",
        "--work-dir",
        "../up",
        "--param",
        "replicas=2",
        "--param",
        "nonsense",
        "--env",
        "LD_PRELOAD=x",
        "--env",
        "A=1",
        "--env",
        "A=2",
        "--env",
        "=x",
        "--secret",
        "token=hunter2",
        "--secret",
        "key=@file",
        "deploy/../ok.sh",
    ]);
    assert_eq!(ended.code, Some(126));
    assert_snapshot!(ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "a secret is not repeated");
}

#[test]
fn a_parameter_that_nobody_declared_is_told_beside_other_mistakes() {
    let site = Site::new();
    site.script("ok.sh", "#!/bin/sh\n");
    let ended = site.ended(["run", "--timeout", "-3s", "--param", "replicas=2", "ok.sh"]);
    let fields: Vec<String> =
        details(&ended.stderr).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(fields, ["timeout", "params.replicas"]);
    assert!(site.records().is_empty());
    assert_eq!(site.ended(["run", "--timeout", "3s", "ok.sh"]).code, Some(0));
}

#[test]
fn a_secret_on_the_command_line_is_refused_with_the_way_to_hand_it_over() {
    let site = Site::new();
    site.script("ok.sh", "#!/bin/sh\n");
    fs::write(site.path("token"), "hunter2").unwrap();
    for (secret, said) in [
        ("token=hunter2", "NAME=@FILE"),
        ("token=a=@b", "NAME=@FILE"),
        ("hunter2", "NAME=@FILE"),
        ("hunter2==", "NAME=@FILE"),
        ("=@token", "NAME=@FILE"),
        ("token=@hunter2", "a file that can be read"),
        ("token=@/dev/zero", "neither a regular file nor a pipe"),
        ("token=@.", "neither a regular file nor a pipe"),
        ("token=@token", "declares none"),
        ("token=@-", "declares none"),
    ] {
        let ended = site.ended(["run", "--secret", secret, "ok.sh"]);
        assert_eq!(ended.code, Some(126), "{secret}");
        assert!(ended.stderr.contains(said), "{secret}: {}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    assert!(site.records().is_empty());
}
