//! What a script hands back in its `output.env`: whole or not at all, and never read from elsewhere.

use std::time::{Duration, Instant};

use executor_core::{ExecuteScriptRequest, Outcome};

use crate::bench::{Bench, both_scopes};

/// Hostile files: how a script makes one at `$F`, and what the result says about it.
const HOSTILE: [(&str, &str); 37] = [
    ("printf 'A=1\\nA=2\\n' > $F", "line 2: A is there twice"),
    ("printf 'A=1\\r\\n' > $F", "carriage return"),
    ("printf 'A=1\\rB=2\\n' > $F", "carriage return"),
    ("printf '\\357\\273\\277A=1\\n' > $F", "byte order mark"),
    ("printf 'A=\\000\\n' > $F", "null byte"),
    ("printf 'A=\\377\\n' > $F", "not UTF-8"),
    ("printf 'A=\\355\\240\\200\\n' > $F", "not UTF-8"),
    ("printf 'A=1' > $F", "no newline"),
    ("printf 'A=1\\nB=2' > $F", "no newline"),
    ("echo nonsense > $F", "line 1: expected KEY=VALUE"),
    ("echo 'export A=1' > $F", "is no name"),
    ("echo ' A=1' > $F", "is no name"),
    ("echo 'A =1' > $F", "is no name"),
    ("echo '1A=1' > $F", "is no name"),
    ("echo '=1' > $F", "is no name"),
    ("echo '\u{c4}=1' > $F", "is no name"),
    ("echo 'A-B=1' > $F", "is no name"),
    ("echo '../A=1' > $F", "is no name"),
    ("printf '\\033[2J=1\\n' > $F", "is no name"),
    ("printf 'A<<END\\nb\\n' > $F", "no line 'END' that ends the value"),
    ("printf 'A<<END\\nb\\nEND \\n' > $F", "no line 'END' that ends the value"),
    ("printf 'A<<\\nb\\n\\n' > $F", "expected a mark"),
    ("printf 'A<<END\\nb\\nEND\\nA=2\\n' > $F", "line 4: A is there twice"),
    ("i=0; while [ $i -lt 257 ]; do echo K$i=1; i=$((i+1)); done > $F", "more than 256 names"),
    ("(printf A=; head -c 65537 /dev/zero | tr '\\000' x; echo) > $F", "larger than 64 KiB"),
    ("(echo 'A<<E'; head -c 65537 /dev/zero | tr '\\000' x; echo; echo E) > $F", "larger than 64 KiB"),
    ("(echo A=1; head -c 1048576 /dev/zero | tr '\\000' '#'; echo) > $F", "larger than 1 MiB"),
    ("truncate -s 1T $F", "larger than 1 MiB"),
    ("truncate -s 1000000 $F", "null byte"),
    ("mkfifo $F", "not a regular file"),
    ("mkfifo $F; exec 9<> $F; sleep 300 & exec 9<&-", "not a regular file"),
    ("mkdir $F", "not a regular file"),
    ("ln -s /etc/shadow $F", "symbolic link"),
    ("ln -s /dev/zero $F", "symbolic link"),
    ("ln -s nowhere $F", "symbolic link"),
    ("ln -s $F $F", "symbolic link"),
    (
        "python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' output.env; \
        [ $F = output.env ] || mv output.env $F",
        "regular file",
    ),
];

/// Good ones, with what comes of them.
const GOOD: [(&str, &str); 8] = [
    ("echo A=1 > $F", "A=1"),
    (": > $F", ""),
    ("printf '# note\\n\\nA=x=y<<z\\n' > $F", "A=x=y<<z"),
    ("printf 'A<<E\\none\\n\\ntwo\\nE\\nB=\\n' > $F", "A=one\n\ntwo B="),
    ("printf 'A=\"quoted\" $(id) `id`\\n' > $F", "A=\"quoted\" $(id) `id`"),
    ("printf 'PATH=/evil\\nLD_PRELOAD=x\\n' > $F", "LD_PRELOAD=x PATH=/evil"),
    ("(printf A=; head -c 65536 /dev/zero | tr '\\000' x; echo) > $F; printf '' ", "A=x..."),
    ("echo A=1 > $F; exit 3", "A=1"),
];

#[test]
fn forty_hostile_files_give_nothing_and_are_told_in_time_wherever_they_lie() {
    let bench = Bench::new();
    let executor = bench.executor();
    let mut slowest = Duration::ZERO;
    for place in ["$TASK_OUTPUT", "output.env"] {
        for (make, expected) in HOSTILE {
            let name = bench.script("hostile.sh", &format!("F={place}\n{make}\necho made"));
            let execution = bench.start_on(&executor, ExecuteScriptRequest::new(name));
            bench.wait_for_output(&execution, "made");
            let made = Instant::now();
            let result = bench.wait(&execution);
            slowest = slowest.max(made.elapsed());
            assert_eq!(result.output_params.len(), 0, "{make}");
            let told = result.output_error.as_deref().unwrap_or("nothing");
            assert!(told.starts_with("output.env") && told.contains(expected), "{make} at {place}: {told}");
            assert!(!told.contains('\x1b') && told.len() < 200, "{told:?}");
            assert_eq!(result.exit_code, Some(0), "{make}");
        }
    }
    println!("from the end of the file to the result: {slowest:?} at most");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn good_files_give_what_they_say_whatever_the_exit_code() {
    let bench = Bench::new();
    let executor = bench.executor();
    for place in ["$TASK_OUTPUT", "output.env"] {
        for (make, expected) in GOOD {
            let name = bench.script("good.sh", &format!("F={place}\n{make}"));
            let (result, _) = bench.run_on(&executor, ExecuteScriptRequest::new(name));
            let pairs: Vec<String> =
                result.output_params.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let told = pairs.join(" ");
            let told = if told.len() > 60_000 { told[..3].to_owned() + "..." } else { told };
            assert_eq!((told.as_str(), &result.output_error), (expected, &None), "{make} at {place}");
        }
    }
}

#[test]
fn the_file_that_task_output_names_wins_even_when_it_is_bad() {
    let bench = Bench::new();
    let (result, _) = bench.run("echo A=work > output.env; echo A=scratch > \"$TASK_OUTPUT\"");
    assert_eq!(result.output_params["A"], "scratch");
    let (result, _) = bench.run("echo A=work > output.env; : > \"$TASK_OUTPUT\"");
    assert!(result.output_params.is_empty() && result.output_error.is_none());
    let (result, _) = bench.run("echo A=work > output.env; echo bad > \"$TASK_OUTPUT\"");
    assert!(result.output_params.is_empty() && result.output_error.is_some());
}

#[test]
fn what_an_earlier_script_left_in_a_shared_workspace_is_not_taken_for_this_ones() {
    let bench = Bench::new();
    let executor = bench.executor();
    let first = ExecuteScriptRequest::new(bench.script("first.sh", "echo A=old > output.env")).work_dir("s1");
    assert_eq!(bench.run_on(&executor, first).0.output_params["A"], "old");
    let second = ExecuteScriptRequest::new(bench.script("second.sh", "ls -A")).work_dir("s1");
    let (result, output) = bench.run_on(&executor, second);
    assert_eq!((result.output_params.len(), output.as_str()), (0, ""));
    // Whatever an earlier one left there: a link is removed, and what it leads to is not.
    let link = format!("ln -s {} output.env", bench.path("scripts/first.sh").display());
    let plant = ExecuteScriptRequest::new(bench.script("plant.sh", &link)).work_dir("s1");
    assert!(bench.run_on(&executor, plant).0.output_error.is_some());
    let third = ExecuteScriptRequest::new(bench.script("third.sh", "echo A=new > output.env")).work_dir("s1");
    assert_eq!(bench.run_on(&executor, third).0.output_params["A"], "new");
    assert!(bench.path("scripts/first.sh").exists());
    // A folder is left alone and told.
    let folder = ExecuteScriptRequest::new(bench.script("folder.sh", "rm output.env; mkdir output.env"))
        .work_dir("s1");
    bench.run_on(&executor, folder);
    let after = ExecuteScriptRequest::new(bench.script("after.sh", "exit 0")).work_dir("s1");
    let (result, _) = bench.run_on(&executor, after);
    assert_eq!(result.output_error.as_deref(), Some("output.env: it is not a regular file"));
}

#[test]
fn a_file_that_a_leftover_is_still_writing_is_not_half_read() {
    both_scopes("output.env still being written", |scope| {
        let bench = Bench::new();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let body = "(trap '' TERM; while :; do i=$((i + 1)); echo N=$i > new; mv new output.env; done) & \
            until [ -e output.env ]; do :; done; exit 0";
        let request = ExecuteScriptRequest::new(bench.script("w.sh", body)).work_dir("written");
        let (result, _) = bench.run_on(&executor, request);
        // The writer is dead when it is read, so that it says what stays there.
        let stays = std::fs::read_to_string(bench.path("workspace/shared/written/output.env")).unwrap();
        assert_eq!(format!("N={}\n", result.output_params["N"]), stays);
        assert!(result.leftovers_killed > 0);
    });
}

#[test]
fn what_a_check_says_of_them_is_in_the_result_and_what_it_takes_away_is_not() {
    let bench = Bench::new();
    let name = bench.script("out.sh", "printf 'A=1\\nB=2\\n' > \"$TASK_OUTPUT\"; exit \"$1\"");
    for (code, error) in [("0", Some("A is wrong")), ("3", None)] {
        let check: executor_core::OutputCheck = std::sync::Arc::new(|params, outcome| {
            params.remove("A");
            (*outcome == Outcome::Exited { code: 0 }).then(|| "A is wrong".to_owned())
        });
        let request = ExecuteScriptRequest::new(&name).args([code]).output_check(check);
        let (result, _) = bench.run_on(&bench.executor(), request);
        assert_eq!(result.output_error.as_deref(), error);
        assert_eq!(result.output_params.keys().collect::<Vec<_>>(), ["B"]);
        assert_eq!(result.exit_code.map(|code| code.to_string()).as_deref(), Some(code));
    }
}
