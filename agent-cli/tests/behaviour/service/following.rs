//! Whoever follows a task: its log while it is written, and a code as if the script had run here.

use std::fs;

use super::{HELLO, Service, WAITS, served, show, submit};
use crate::support::eventually;

#[test]
fn a_followed_task_shows_its_log_while_it_is_written_and_ends_with_the_scripts_code() {
    let (site, _service) = served();
    let go_on = site.fifo("go-on");
    let mut live = site.live(["task", "submit", "--follow", "waits.sh", &go_on]);
    assert_eq!(live.line(), "one\n");
    // The script waits for this pipe, so it still ran when its first line was here.
    fs::write(&go_on, "on\n").unwrap();
    let ended = live.ended();
    assert_eq!((ended.code, ended.text().as_str()), (Some(7), "two\n"), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("task ") && ended.stderr.contains("waits.sh: exit code 7 after "));
}

#[test]
fn a_followed_task_that_is_tried_again_shows_each_attempt_and_ends_with_the_code_of_the_last() {
    let (site, _service) = served();
    let script = "#!/bin/sh\n#TASK effect=\"read\" retries=2 retry_delay=\"1ms\"\n\
        echo \"attempt $TASK_ATTEMPT, and it is a longer log\" | tail -c $((40 - 10 * TASK_ATTEMPT))\n\
        exit $((TASK_ATTEMPT + 4))\n";
    site.script("flaky.sh", script);
    let followed = site.ended(["task", "submit", "--follow", "flaky.sh"]);
    let text = followed.text();
    let lengths: Vec<usize> = text.lines().map(|line| line.len() + 1).collect();
    assert_eq!((lengths, followed.code), (vec![30, 20, 10], Some(7)), "{text}{}", followed.stderr);
    assert!(followed.stderr.contains("attempt 2 has ended; attempt 3 follows"), "{}", followed.stderr);
}

#[test]
fn the_log_is_byte_for_byte_what_the_script_wrote() {
    let (site, _service) = served();
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(500_009).collect();
    fs::write(site.path("bytes"), &bytes).unwrap();
    site.script("bytes.sh", "#!/bin/sh\ncat \"$1\"\n");
    let ended = site.ended(["task", "submit", "-f", "bytes.sh", site.path("bytes").to_str().unwrap()]);
    assert!(ended.stdout == bytes, "{} bytes of {}: {}", ended.stdout.len(), bytes.len(), ended.stderr);
}

#[test]
fn a_cancelled_task_ends_and_its_follower_with_130() {
    let (site, _service) = served();
    site.script("long.sh", "#!/bin/sh\necho begun\nexec sleep 600\n");
    let mut live = site.live(["task", "submit", "--id", "mine", "-f", "long.sh"]);
    assert_eq!(live.line(), "begun\n");
    let cancelled = site.ended(["task", "cancel", "--json", "mine"]);
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.stderr);
    assert_eq!(cancelled.json()["id"], "mine");
    let ended = live.ended();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert_eq!(show(&site, "mine")["status"], "cancelled");
    // What has ended cannot be cancelled, and says so.
    assert_eq!(site.ended(["task", "cancel", "mine"]).code, Some(1));
}

#[test]
fn a_reader_that_goes_away_still_learns_the_scripts_code() {
    let (site, _service) = served();
    site.script("much.sh", "#!/bin/sh\necho first\nhead -c 3000000 /dev/zero\nexit 5\n");
    let mut live = site.live(["task", "submit", "-f", "much.sh"]);
    assert_eq!(live.line(), "first\n");
    live.hang_up();
    assert_eq!(live.ended().code, Some(5));
}

#[test]
fn followers_of_what_is_refused_get_the_codes_of_run() {
    let (site, _service) = served();
    for (args, code) in [
        (&["no.sh"][..], 127),
        (&["../x"], 126),
        (&["--timeout", "5", "hello.sh"], 126),
        (&["--server", "http://127.0.0.1:1", "hello.sh"], 125),
    ] {
        let ended = site.ended([&["task", "submit", "-f"], args].concat());
        assert_eq!((ended.code, ended.stdout.len()), (Some(code), 0), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(site.ended(["task", "logs", "-f", "none"]).code, Some(127));
    assert_eq!(site.ended(["task", "logs", "none"]).code, Some(1));
}

#[test]
fn followers_of_what_was_accepted_and_then_not_started_get_the_codes_of_run() {
    let (site, _service) = Service::with_limits("concurrent = 1");
    site.script("waits.sh", WAITS);
    let gone = site.script("gone.sh", HELLO);
    let go_on = site.fifo("go-on");
    submit(&site, &["waits.sh", &go_on]);
    let mut live = site.live(["task", "submit", "-f", "gone.sh"]);
    live.talk("task ");
    fs::remove_file(gone).unwrap();
    fs::write(&go_on, "on\n").unwrap();
    let ended = live.ended();
    assert_eq!(ended.code, Some(127), "{}", ended.stderr);

    // A folder that cannot be made any more, where the host is at fault.
    fs::rename(site.path("workspace/tasks"), site.path("workspace/old")).unwrap();
    fs::write(site.path("workspace/tasks"), "").unwrap();
    site.script("hello.sh", HELLO);
    let ended = site.ended(["task", "submit", "-f", "hello.sh"]);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
}

#[test]
fn a_log_that_is_followed_goes_on_after_the_service_was_started_again() {
    let (site, service) = served();
    let go_on = site.fifo("go-on");
    submit(&site, &["--id", "long", "waits.sh", &go_on]);
    let mut live = site.live(["task", "logs", "--banner", "-f", "long"]);
    let mut shown = String::new();
    while !shown.ends_with("one\n") {
        shown.push_str(&live.line());
    }
    let port = service.port;
    service.kill();
    live.talk("the service went away and is tried again");
    let _service = Service::start(&site, port);
    let ended = live.ended();
    // The task ended with its service; what was shown before is not shown again, and nothing is left out.
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("waits.sh: interrupted"), "{}", ended.stderr);
    shown.push_str(&ended.text());
    assert_eq!(shown, fs::read_to_string(site.path("state/tasks/long/stdout.txt")).unwrap());
}

#[test]
fn a_service_that_stops_in_order_lets_followers_see_the_end() {
    let (site, service) = served();
    site.script("long.sh", "#!/bin/sh\ntrap 'echo bye; exit 3' TERM\nsleep 600 &\necho begun\nwait\n");
    let mut live = site.live(["task", "submit", "--id", "long", "-f", "long.sh"]);
    assert_eq!(live.line(), "begun\n");
    let port = service.port;
    service.stop();
    let _service = Service::start(&site, port);
    let ended = live.ended();
    assert_eq!(ended.text(), "bye\n", "{}", ended.stderr);
    let status =
        eventually("the end", || Some(show(&site, "long")).filter(|task| !task["ended_at"].is_null()));
    assert_eq!(status["status"], "cancelled");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
}
