//! Headers: what is read of them, and everything that breaks a script, with its line.

use std::fmt::Write;

use proptest::prelude::*;
use task_runners::RetryKind;
use task_runners::header::{self, Header};

/// What reading a script with these lines behind its first gave, for people.
fn told(lines: &str) -> String {
    let Header { description, warnings } = header::read(format!("#!/bin/sh\n{lines}\n").as_bytes());
    let mut told = match description {
        Ok(None) => "no header\n".to_owned(),
        Ok(Some(_)) => "described\n".to_owned(),
        Err(reasons) => {
            let mut told = String::new();
            for reason in reasons {
                let line = reason.line.map_or("-".to_owned(), |line| line.to_string());
                writeln!(told, "broken {line}: {}", reason.reason).unwrap();
            }
            told
        }
    };
    for warning in warnings {
        let line = warning.line.map_or("-".to_owned(), |line| line.to_string());
        writeln!(told, "warning {line}: {}", warning.reason).unwrap();
    }
    told
}

fn table(headers: &[&str]) -> String {
    headers
        .iter()
        .map(|lines| format!("{lines}\n=> {}\n", told(lines).trim_end().replace('\n', "\n   ")))
        .collect()
}

#[test]
fn every_node_that_reaches_out_of_the_header_is_refused() {
    let told = table(&[
        "#USAGE mount run=\"touch /tmp/x\"",
        "#USAGE include file=\"/etc/passwd\"",
        "#USAGE include \"/etc/passwd\"",
        "#USAGE config { file \"/etc/x.toml\" }",
        "#USAGE config_file \".x.toml\"",
        "#USAGE cmd \"sub\" { mount run=\"id\" }",
        "#USAGE complete \"x\" run=\"id\"",
        "#USAGE arg \"<x>\" env=\"HOME\"",
        "#USAGE arg \"<x>\" { env \"HOME\" }",
        "#USAGE arg \"<x>\" env_fallback=\"HOME\"",
        "#USAGE arg \"<x>\" { complete run=\"id\" }",
        "#USAGE arg \"<x>\" { choices run=\"id\" }",
        "#USAGE arg \"<x>\" { choices env=\"HOME\" }",
        "#USAGE arg \"<x>\" validate=\"x > 1\"",
        "#USAGE flag \"--x <x>\" env=\"HOME\"",
        "#USAGE flag \"--x <x>\" { env \"HOME\"; deprecated_env \"A\" \"B\" }",
        "#USAGE flag \"--x\" { arg \"<x>\" env=\"HOME\" { choices run=\"id\" } }",
        "#USAGE output { schema file=\"/etc/passwd\" }",
        "#USAGE view \"x\"",
        "#USAGE flagset \"x\" { flag \"--y\" }",
        "#USAGE source_code_link_template \"x\"",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn every_other_mistake_is_named_with_its_line() {
    let told = table(&[
        "#USAGE arg \"<a\n#USAGE flag \"--b\"",
        "#USAGE arg \"<a>\" {\n#USAGE flag \"--b\"",
        "#USAGE arg \"<a>\" help=\n#USAGE flag \"--b\" required=true\n#USAGE flag \"--c\"",
        "#USAGE arg\n#USAGE arg 5\n#USAGE arg \"<a>\" var=\"yes\"",
        "#USAGE arg \"<a>\" colour=\"red\"\n#USAGE flag \"--b\" { paint \"red\" }",
        "#USAGE arg \"<a>\"\n#USAGE flag \"--a <x>\"\n#USAGE flag \"-a\"",
        "#USAGE flag \"-x --one\"\n#USAGE flag \"-x --two\"\n#USAGE flag \"--three\" negate=\"--one\"",
        "#USAGE arg \"<fooBar>\"\n#USAGE arg \"<a b>\"\n#USAGE arg \"<ü>\"\n#USAGE arg \"<>\"",
        "#USAGE arg \"[a]\"\n#USAGE arg \"<b>\"\n#USAGE arg \"[c]…\"\n#USAGE arg \"[d]\"",
        "#USAGE arg \"[-- a]\"\n#USAGE arg \"[b]\"",
        "#USAGE arg \"[a]…\" double_dash=\"preserve\"",
        "#USAGE flag \"--a [x]\"\n#USAGE flag \"--b <x>…\"\n#USAGE flag \"-v\" count=#true default=#true",
        "#USAGE flag \"--a\" default=#true\n#USAGE flag \"--b\" negate=\"no-b\"\n#USAGE flag \"--c\" var_max=3",
        "#USAGE flag \"--a <x>\" default=\"c\" { choices \"a\" \"b\" }",
        "#USAGE flag \"--a=x --b;c\"",
        "#USAGE unknown_flags \"perhaps\"",
        "#TASK color=\"red\"\n#TASK effect=\"wild\" timeout=\"10\" hidden=\"yes\" group=5",
        "#TASK description=\"a\" description=\"b\"\n#TASK effect=\"read\"\n#TASK effect=\"write\"",
        "#TASK effect=\"read\n#TASK group=\"x\"\n#TASK group=",
        "#TASK \"read\"\n#TASK effect=\"read\" { x }\n#TASK effect=\"read\"; group=\"x\"",
        "#TASK run_as=\"root\"\n#TASK limits.memory=\"1GiB\" confine=#true",
        "#TASK concurrency=0\n#TASK concurrency=2\n#TASK queue=-1\n#TASK retries=101\n#TASK retries=\"3\"",
        "#TASK queue=5\n#TASK retry_on=\"exited\" retry_delay=\"1s\"",
        "#TASK retries=3 retry_on=\"cancelled\"\n#TASK retry_delay=\"10m\"\n#TASK concurrency.x=1",
        "#TASK secret=\"nobody\" secret=5\n#TASK output_type.X=\"int\"\n#TASK output.Y=\"y\" output_type.Y=\"float\"",
        "#USAGE arg \"<a>\"\n#USAGE flag \"-v\" count=#true\n#USAGE flag \"--b\"\n#USAGE flag \"--c <c>\" var=#true\n\
         #TASK secret=\"a\" secret=\"v\" secret=\"b\" secret=\"c\"",
        "#USAGE flag \"--a <a>\" default=\"x\"\n#USAGE flag \"--b <b>\" { choices \"1\" }\n#USAGE flag \"--c <c>\"\n\
         #USAGE flag \"--c-file <f>\"\n#USAGE flag \"--d <d>\"\n#TASK secret=\"a\" secret=\"b\" secret=\"c\" secret=\"d\" secret=\"d\"",
        "#USAGE flag \"--a\" conflicts=\"--nobody\" requires=\"-a\"\n#USAGE arg \"[x]\" required_if=\"--x\" required_unless=\"y\"",
        "#USAGE flag \"--a\" conflicts=\"--a\"\n#USAGE flag \"--b\" conflicts=\"--a\" requires=\"--a\" required_if=\"--a\"",
        "#USAGE flag \"--a\" overrides=\"--b\" required_unless_all=\"--b\"\n#USAGE flag \"--b\" { required_if_eq \"--a\" \"1\" }",
        "#TASK type.nobody=\"int\" min.=1 max=5 type=\"int\"",
        "#TASK env=\"LD_PRELOAD\" env=\"PATH\" env=\"A=B\" env=\"GOOD\"\n#TASK output.a-b=\"x\"",
        "#USAGE flag \"--n <n>\" default=\"9\"\n#TASK type.n=\"int\" min.n=10 max.n=1",
        "#USAGE flag \"--n <n>\" default=\"x\"\n#TASK min.n=1 type.n=\"int\" pattern.n=\"x\" max_length.n=5",
        "#USAGE flag \"--n <n>\"\n#TASK type.n=\"integer\" min.n=1",
        "#USAGE flag \"--n <n>\"\n#TASK type.n=\"int\" min.n=1.5 max.n=\"7\"",
        "#USAGE flag \"--n\"\n#TASK type.n=\"int\" min.n=1",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=\"(\"",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=\"(?i)x\"",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=\"a)|(b\"",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=#\"\\W+\"#",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=#\"\\<x\"#",
        "#USAGE flag \"--n <n>\" default=\"x\\\\d\"\n#TASK pattern.n=#\"x\\\\d|[\\.\\-]\\n\"#",
        "#USAGE flag \"--n <n>\"\n#TASK pattern.n=#\"\\d+\"#",
        "#USAGE flag \"--n <n>\"\n#TASK min_length.n=5 max_length.n=1",
        "#USAGE flag \"--n <n>\" default=\"abc\"\n#TASK max_length.n=1 pattern.n=\"[0-9]*\"",
        "#USAGE arg \"<n>\" { choices \"1\" \"x\" }\n#TASK type.n=\"int\"",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn what_other_tools_would_not_read_is_warned_of() {
    let told = table(&[
        "echo none",
        "# A comment on USAGE and on a TASK = work",
        "# USAGE arg \"<x>\"\n# USAGE: nothing\n#\tTASK effect=\"read\"",
        "#USAGE arg \"<x>\"\n#\n# \n#USAGE flag \"--y\"\n#TASK effect=\"read\"",
        "#USAGE arg \"<x>\"\necho between\n#USAGE flag \"--y\"\n#TASK effect=\"read\"\n#USAGE flag \"--z\"",
        "#USAGE about \"x\"",
        "//USAGE about \"x\"\n//TASK effect=\"read\"",
        "::USAGE about \"x\"\n::TASK effect=\"read\"",
        "# [USAGE] about \"x\"\n#[USAGE] arg \"<x>\"\n#TASK effect=\"read\"",
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn everything_that_a_header_can_declare_is_read() {
    let header = header::read(
        br##"#!/usr/bin/env bash
#USAGE about "Deploys one service"
#USAGE arg "<service>" help="Service" { choices "web" { choice "api" help="The API" } }
#USAGE arg "[hosts]..." var_max=5
#USAGE flag "-e --env <env>" help="Target" default="staging" { choices "staging" "prod" }
#USAGE flag "--replicas <n>" default="2"
#USAGE flag "-v --verbose" count=#true
#USAGE flag "--color" negate="--no-color" default=#true
#USAGE flag "--label <label>" var=#true { alias "-l" "--tag" }
#USAGE flag "--purge" effect="destructive" hide=#true
#TASK description="Deploy" group="release" effect="write"
#TASK timeout="10m" grace="15s" retries=0 tag="a" tag="b" env="DEPLOY_A" env="B" hidden=#true
#TASK concurrency=2 queue=50
#TASK type.replicas="int" min.replicas=1 max.replicas=20
#TASK pattern.label=#"[a-z]+=[a-z.]*"# max_length.label=40
#TASK help="""
#TASK   # Deploy
#TASK   It deploys.
#TASK   """
#TASK output.image_tag="Tag that was deployed"
"##,
    );
    assert_eq!(header.warnings, []);
    insta::assert_debug_snapshot!(header.description.unwrap().unwrap());
}

#[test]
fn kinds_that_are_named_stand_in_place_of_the_usual_ones() {
    use RetryKind::{Exited, Interrupted, NotStarted, OutOfMemory, Signaled, TimedOut};
    let retry = |keys: &str| {
        let script = format!("#TASK effect=\"read\" {keys}\n");
        header::read(script.as_bytes()).description.unwrap().unwrap().retry.clone()
    };
    let usual = retry("retries=2");
    assert_eq!((usual.retries, usual.on), (2, [Exited, Signaled, OutOfMemory, NotStarted].into()));
    let named = retry("retry_on=\"timed_out\" retry_on=\"interrupted\" retry_delay=\"90s\" retries=1");
    assert_eq!((named.on, named.delay.as_secs()), ([TimedOut, Interrupted].into(), 90));
    assert_eq!(retry("").retries, 0);
}

#[test]
fn lines_behind_the_first_two_hundred_are_no_header() {
    let at = |line: usize| {
        let script = format!("#!/bin/sh\n{}#TASK effect=\"read\"\n", "#\n".repeat(line - 2));
        header::read(script.as_bytes()).description.unwrap().is_some()
    };
    assert!(at(200));
    assert!(!at(201));
}

#[test]
fn lines_so_long_that_the_header_cannot_be_seen_break_a_script_and_no_program() {
    let read = |start: &[u8]| {
        let mut bytes = [start, &vec![b'x'; header::HEAD_BYTES], b"\n#TASK effect=\"read\"\n"].concat();
        bytes.truncate(header::HEAD_BYTES);
        header::read(&bytes).description
    };
    assert!(read(b"#!/bin/sh\n").unwrap_err()[0].reason.contains("cannot be seen"));
    assert!(read(b"\x7fELF").unwrap().is_none());
    assert!(read(&[b"#!/bin/sh\n".as_slice(), &[b'\n'; 200]].concat()).unwrap().is_none());
}

#[test]
fn headers_that_would_exhaust_a_parser_are_refused_or_read_in_time() {
    let started = std::time::Instant::now();
    let deep = |open: &str, times| told(&format!("#USAGE arg \"<x>\" {}", open.repeat(times)));
    for open in [
        "{", "{ a ", "/*", "/* ", "a {", "/-{", "{ /- ", "(a)", "\"\"\"", "#\"", "\\ ", "/-", "a=", "\"", "(",
    ] {
        for times in [200, 201, 2_000] {
            assert!(deep(open, times).starts_with("broken"), "{open}");
        }
        assert!(told(&format!("#TASK help={}", open.repeat(200))).starts_with("broken"), "{open}");
    }
    let long = format!("#USAGE about \"{}\"", "x".repeat(70 << 10));
    assert!(told(&long).starts_with("broken -: the header has 71"));
    let taken = started.elapsed();
    assert!(taken < std::time::Duration::from_secs(20), "{taken:?}");
}

#[test]
fn header_lines_that_are_no_text_are_refused_and_other_lines_may_be_anything() {
    let read = |script: &[u8]| header::read(script).description;
    assert!(read(b"#!/bin/sh\n#USAGE about \"\xff\"\n").is_err());
    assert!(read(b"#!/bin/sh\n#TASK effect=\"read\" \xff\n").is_err());
    assert!(read(b"#!/bin/sh\n# \xff\xfe\n\xff\n#TASK effect=\"read\"\n").unwrap().is_some());
    assert!(read(b"\x7fELF\xff\0\0").unwrap().is_none());
    assert!(read(b"").unwrap().is_none());
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "#USAGE ",
        "#TASK ",
        "\n",
        "arg ",
        "flag ",
        "\"<x>\"",
        "\"--y <z>\"",
        "\"-v\"",
        "{",
        "}",
        "=",
        "#true",
        "help",
        "choices ",
        "default",
        "\"\"\"",
        "\"",
        "\\",
        ";",
        "/-",
        "/*",
        "*/",
        "type.x",
        "min.y",
        "effect",
        "\"read\"",
        "5",
        "env",
        "run",
        "mount",
        "#\"",
        "\"#",
        "(t)",
        " ",
        "\u{feff}",
        "\r",
        "\t",
        "var=#true",
        "é",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_reading_a_header_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = header::read(&bytes);
        let _ = header::read(&[b"#USAGE ".as_slice(), &bytes, b"\n#TASK ", &bytes].concat());
    }

    #[test]
    fn headers_in_pieces_are_read_or_refused_and_reach_out_for_nothing(text in pieces()) {
        let header = header::read(text.as_bytes());
        match header.description {
            Err(reasons) => {
                prop_assert!(!reasons.is_empty());
                // A parser that panicked would be told as this.
                prop_assert!(reasons.iter().all(|reason| !reason.reason.contains("parser failed")), "{:?}", reasons);
            }
            Ok(_) => prop_assert!(!text.starts_with("#USAGE mount") && !text.contains("\n#USAGE mount")),
        }
    }
}
