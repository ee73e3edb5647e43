//! The environment of a script is built from nothing, and callers cannot smuggle anything into it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use executor_core::{BuildError, ExecuteScriptRequest, Metadata, StartError, is_refused_variable};

use crate::bench::Bench;

/// What makes a loader, shell, interpreter or tool do something else than it was told to, and what the agent sets.
const HOSTILE: [&str; 66] = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_BIND_NOW",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "NLSPATH",
    "HOSTALIASES",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "MALLOC_CHECK_",
    "TZDIR",
    "BASH_ENV",
    "ENV",
    "BASH_FUNC_ls%%",
    "BASHOPTS",
    "SHELLOPTS",
    "PS4",
    "IFS",
    "CDPATH",
    "GLOBIGNORE",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "FPATH",
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TASK_ID",
    "TASK_OUTPUT",
    "TASK_ANYTHING",
    "usage_replicas",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "RUBYLIB",
    "RUBYOPT",
    "NODE_OPTIONS",
    "NODE_PATH",
    "GEM_PATH",
    "BUNDLE_GEMFILE",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "PHPRC",
    "LUA_PATH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_COUNT",
    "RSYNC_RSH",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "BROWSER",
    "LESSOPEN",
    "MAKEFLAGS",
    "TAR_OPTIONS",
    "OPENSSL_CONF",
    "SSH_ASKPASS",
];

#[test]
fn declared_variables_come_from_the_runner_and_not_from_callers_or_the_site() {
    let bench = Bench::new();
    let executor = bench.builder().env("usage_n", "the site's").build().unwrap();
    let name = bench.script("declared.sh", "[ \"$usage_n\" = 5 ]");
    let declared = ExecuteScriptRequest::new(&name).declared("usage_n", "5");
    assert!(bench.run_on(&executor, declared).0.success);
    let callers = ExecuteScriptRequest::new(&name).env("usage_n", "5");
    assert_eq!(callers.check().unwrap_err()[0].rule, "refused_variable");
    for (variable, value, rule) in [("usage n", "5", "variable_name"), ("usage_n", "\0", "no_nul")] {
        let refused = ExecuteScriptRequest::new(&name).declared(variable, value);
        assert_eq!(refused.check().unwrap_err()[0].rule, rule);
    }
}

#[test]
fn it_equals_the_expected_set_to_the_byte() {
    let bench = Bench::new();
    let executor = bench
        .builder()
        .node("node-7")
        .path("/opt/bin:/usr/bin:/bin")
        .env("SITE", "wide")
        .env("BOTH", "the site's")
        .scratch_dir(bench.path("scratch"))
        .build()
        .unwrap();
    let value = OsString::from_vec(b"line\nbreak = \"quoted\" \xff$(date)".to_vec());
    let metadata = Metadata { created_by: Some("ci".into()), attempt: 3, ..Metadata::default() };
    let request =
        ExecuteScriptRequest::new(bench.script("deep/env.sh", "cat /proc/$$/environ > ../../../environ"))
            .metadata(metadata)
            .id("t1")
            .env("CALLERS", value)
            .env("BOTH", "the caller's")
            .env("LANG", "de_DE.UTF-8")
            .timeout(std::time::Duration::from_millis(90_500));
    assert!(bench.run_on(&executor, request).0.success);
    let environ = std::fs::read(bench.path("environ")).unwrap();
    let mut lines: Vec<&[u8]> = environ.split(|&b| b == 0).filter(|entry| !entry.is_empty()).collect();
    lines.sort();
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let root = bench.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let scratch = std::fs::read_dir(bench.path("scratch")).unwrap().next().unwrap().unwrap().path();
    let scratch = scratch.join("t1.3");
    let scratch = scratch.display();
    let expected = [
        "BOTH=the caller's".to_owned(),
        "CALLERS=?".to_owned(),
        format!("HOME={}", account.dir.display()),
        "LANG=de_DE.UTF-8".to_owned(),
        format!("LOGNAME={}", account.name),
        "PATH=/opt/bin:/usr/bin:/bin".to_owned(),
        "SITE=wide".to_owned(),
        "TASK_ATTEMPT=3".to_owned(),
        "TASK_CREATED_BY=ci".to_owned(),
        "TASK_ID=t1".to_owned(),
        "TASK_NAME=deep/env.sh".to_owned(),
        "TASK_NODE=node-7".to_owned(),
        format!("TASK_OUTPUT={scratch}/output.env"),
        format!("TASK_SCRIPT_DIR={root}/scripts"),
        "TASK_TIMEOUT_S=90".to_owned(),
        format!("TASK_WORK_DIR={root}/workspace/tasks/t1"),
        format!("TMPDIR={scratch}"),
        format!("USER={}", account.name),
    ];
    let expected: Vec<Vec<u8>> = expected
        .into_iter()
        .map(|entry| match entry.as_str() {
            "CALLERS=?" => b"CALLERS=line\nbreak = \"quoted\" \xff$(date)".to_vec(),
            _ => entry.into_bytes(),
        })
        .collect();
    let shown = |entries: &[&[u8]]| entries.iter().map(|e| e.escape_ascii().to_string()).collect::<Vec<_>>();
    let expected: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
    assert_eq!(shown(&lines), shown(&expected));
}

#[test]
fn every_hostile_variable_is_refused_and_all_are_named_at_once() {
    let bench = Bench::new();
    let executor = bench.executor();
    let name = bench.script("env.sh", "env");
    let request =
        HOSTILE.iter().fold(ExecuteScriptRequest::new(&name), |request, name| request.env(*name, "x"));
    let StartError::Invalid(problems) = bench.refusal(&executor, request) else { panic!("not as invalid") };
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let expected: Vec<String> = HOSTILE.iter().map(|name| format!("env.{name}")).collect();
    assert_eq!(fields, expected);
    assert!(!bench.path("workspace/tasks").read_dir().unwrap().any(|_| true), "something was made");

    // The twin: names that only look alike pass, so it is these names that are refused.
    for harmless in
        ["LDFLAGS", "MY_PATH", "PATH_TO", "TASKS", "GITHUB_TOKEN", "HOMEPAGE", "IFS_", "ENVIRONMENT"]
    {
        assert!(!is_refused_variable(harmless), "{harmless}");
        let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(&name).env(harmless, "x"));
        assert!(result.success && output.contains(&format!("{harmless}=x\n")), "{output}");
    }
}

#[test]
fn names_that_are_none_and_values_that_cannot_be_passed_are_refused_with_the_words() {
    let bench = Bench::new();
    let request = ExecuteScriptRequest::new(bench.script("env.sh", "env"))
        .env("A=B", "1")
        .env("", "2")
        .env("1ST", "3")
        .env("WITH SPACE", "4")
        .env("NEW\nLINE", "5")
        .env("NUL\0", "6")
        .env("\u{dc}MLAUT", "7")
        .env("TWICE", "8")
        .env("TWICE", "9")
        .env("VALUE", OsString::from_vec(b"a\0LD_PRELOAD=b".to_vec()))
        .env("LONG", "x".repeat(128 << 10))
        .env("LD_PRELOAD", "evil.so");
    let StartError::Invalid(problems) = bench.refusal(&bench.executor(), request) else {
        panic!("not as invalid")
    };
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn settings_that_cannot_be_passed_to_a_script_build_no_executor() {
    let bench = Bench::new();
    let builder =
        bench.builder().env("A=B", "1").env("GOOD", "2").env("NUL", "a\0b").node("n\0").path("/bin\0");
    let Err(BuildError::Settings(problems)) = builder.build() else { panic!("it was built") };
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["env.A=B", "env.NUL", "path", "node"]);
}

#[test]
fn nothing_of_the_embedders_environment_passes() {
    // Cargo and the test runner set many; none may be seen.
    assert!(std::env::vars_os().count() > 5);
    let bench = Bench::new();
    let (_, output) = bench.run("env | grep -c CARGO");
    assert_eq!(output, "0\n");
}
