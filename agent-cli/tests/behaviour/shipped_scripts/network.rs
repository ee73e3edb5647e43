//! The scripts that ask others: `http_check.sh`, `port_check.sh`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::{Place, SEARCH_PATH, run, shipped_folder};

/// Answers one connection after the other with `answers` and reports the head of each request.
fn server(answers: Vec<&'static str>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, requests) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let _the_client_may_hang_up_first = stream.write_all(answer.as_bytes());
            let _nobody_may_want_to_know = tell.send(head.join("\n"));
        }
    });
    (address, requests)
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nall is well\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const MOVED: &str =
    "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn http_check_tries_again_until_the_answer_is_as_expected() {
    let (address, _requests) = server(vec![BUSY, BUSY, GOOD]);
    let url = format!("http://{address}/health?a=[1]");
    let arguments = ["--retries", "5", "--interval=0", "--contains", "is well", &url];
    let ran = run("http_check.sh", &arguments, &Place::new(), SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(ran.params["ATTEMPTS"], "3");
    assert_eq!(ran.params["HTTP_STATUS"], "200");
    assert!(ran.params["TIME_S"].parse::<f64>().is_ok());
    assert!(ran.text.contains("attempt 2 of 6: status 503, expected 200"), "{}", ran.text);
}

#[test]
fn http_check_fails_for_another_status_for_missing_text_and_without_an_answer() {
    let (address, _requests) = server(vec![BUSY, GOOD, BUSY]);
    let url = format!("http://{address}/");
    let check = |arguments: &[&str]| run("http_check.sh", arguments, &Place::new(), SEARCH_PATH);
    let ran = check(&[&url]);
    assert_eq!((ran.code, ran.params["HTTP_STATUS"].as_str()), (Some(1), "503"), "{}", ran.text);
    let ran = check(&["--contains", "is.well", &url]);
    assert_eq!(ran.code, Some(1), "text is taken to the letter: {}", ran.text);
    assert!(ran.text.contains("does not hold 'is.well'"), "{}", ran.text);
    let ran = check(&["--status", "5xx", &url]);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    // The server has answered three times and is gone.
    let ran = check(&[&url]);
    assert_eq!((ran.code, ran.params["HTTP_STATUS"].as_str()), (Some(1), "000"), "{}", ran.text);
}

#[test]
fn http_check_follows_redirects_only_when_told() {
    let (address, _requests) = server(vec![MOVED, MOVED, GOOD]);
    let url = format!("http://{address}/here");
    let ran = run("http_check.sh", &["--status=302", &url], &Place::new(), SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let ran = run("http_check.sh", &["--follow", &url], &Place::new(), SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
}

#[test]
fn http_check_sends_the_token_but_shows_it_to_nobody() {
    let mut place = Place::new();
    place.secret("token", "s3cr3t-canary\n");
    // This stand-in leaves its arguments, which all users can read, where the test sees them.
    let seen = place.path("seen");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >'{}'\nexec /usr/bin/env PATH=/usr/bin:/bin curl \"$@\"\n",
        seen.display()
    );
    let path = place.stand_in("curl", &text);
    let (address, requests) = server(vec![GOOD]);
    let ran = run("http_check.sh", &[&format!("http://{address}/")], &place, &path);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let request = requests.recv().unwrap();
    assert!(request.contains("Authorization: Bearer s3cr3t-canary"), "{request}");
    assert!(fs::read_to_string(seen).unwrap().contains("--url"));
    assert!(!fs::read_to_string(place.path("seen")).unwrap().contains("canary"));
    assert!(!ran.text.contains("canary"), "{}", ran.text);
    let left = Command::new("grep").args(["-rl", "canary"]).arg(place.scratch.path()).output().unwrap();
    assert_eq!(
        String::from_utf8(left.stdout).unwrap().lines().count(),
        1,
        "only the secret's own file holds it"
    );
}

#[test]
fn http_check_takes_the_token_from_usage_but_not_from_a_command_line() {
    let (address, requests) = server(vec![GOOD]);
    let url = format!("http://{address}/");
    let by_hand = |usage_token: Option<&str>| {
        let mut command = Command::new(shipped_folder().join("http_check.sh"));
        command.args(["--token", "s3cr3t-canary", &url]).env_clear().env("PATH", SEARCH_PATH);
        command.envs(usage_token.map(|token| ("usage_token", token))).output().unwrap()
    };
    let refused = by_hand(None);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("usage_token_file") && !said.contains("canary"), "{said}");
    // As `usage bash` starts it: the value is both an argument and a variable.
    let ran = by_hand(Some("s3cr3t-canary"));
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let request = requests.recv().unwrap();
    assert!(request.contains("Authorization: Bearer s3cr3t-canary"), "{request}");
}

#[test]
fn http_check_sends_no_token_in_clear_to_another_host() {
    // Names of the reserved domain lead nowhere, so that nothing is sent even where the guard fails.
    let guard = "$url == http:* && ! $host =~";
    for url in
        ["http://elsewhere.invalid/", "http://127.0.0.1.elsewhere.invalid/", "http://localhost.invalid:80/"]
    {
        let mut place = Place::new();
        place.secret("token", "s3cr3t-canary");
        let ran = run("http_check.sh", &[url], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{}", ran.text);
        assert!(ran.text.contains("a token is not sent over plain http://"), "{}", ran.text);

        let mut place = Place::with_weakened("http_check.sh", &[(guard, "$url == never && ! $host =~")]);
        place.secret("token", "s3cr3t-canary");
        let asked = place.path("asked");
        let path = place.stand_in("curl", &format!("#!/bin/sh\ncat >'{}'\n", asked.display()));
        run("http_check.sh", &[url], &place, &path);
        assert!(fs::read_to_string(asked).unwrap().contains("canary"), "the weakened script sends it");
    }
}

#[test]
fn http_check_refuses_what_is_no_web_address() {
    let bad = [
        "--output=planted",
        "-oplanted",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.1/",
        "127.0.0.1",
        "http://",
        "http://user:password@127.0.0.1/",
        "http://127.0.0.1\\@elsewhere.invalid/",
        "http://a b/",
        "http://a/\nb",
        "",
    ];
    for url in bad {
        let place = Place::new();
        let ran = run("http_check.sh", &["--", url], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{url}: {}", ran.text);
        assert!(!ran.text.contains("password@"), "{}", ran.text);
        assert!(!place.path("planted").exists(), "{url}");
    }
}

#[test]
fn an_address_that_is_not_checked_lets_a_file_be_read() {
    let mut place = Place::with_weakened(
        "http_check.sh",
        &[
            ("^https?://[", "^[a-z]+://["),
            ("[A-Za-z0-9._-]+)(", "[A-Za-z0-9._-]*)("),
            ("--proto '=http,https'", ""),
            ("[[ $status != \"$expected\"", "[[ -z $status && $status != \"$expected\""),
        ],
    );
    place.write("file", "a line of a file\n");
    let url = format!("file://{}", place.path("file").display());
    let ran = run("http_check.sh", &["--contains", "a line of a file", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    place.scripts = shipped_folder();
    let ran = run("http_check.sh", &["--contains", "a line of a file", &url], &place, SEARCH_PATH);
    assert_eq!(ran.code, Some(2), "{}", ran.text);
}

#[test]
fn port_check_tells_an_open_port_from_a_closed_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let check = |arguments: &[&str]| run("port_check.sh", arguments, &Place::new(), SEARCH_PATH);
    let ran = check(&["127.0.0.1", &port]);
    assert_eq!((ran.code, ran.params["PORT_STATE"].as_str()), (Some(0), "open"), "{}", ran.text);
    let ran = check(&["--state=closed", "--timeout=0", "127.0.0.1", &port]);
    assert_eq!((ran.code, ran.params["PORT_STATE"].as_str()), (Some(1), "open"), "{}", ran.text);
    drop(listener);
    let ran = check(&["--state=closed", "--timeout=0", "127.0.0.1", &port]);
    assert_eq!((ran.code, ran.params["PORT_STATE"].as_str()), (Some(0), "closed"), "{}", ran.text);
    let ran = check(&["--timeout=0", "127.0.0.1", &port]);
    assert_eq!((ran.code, ran.params["PORT_STATE"].as_str()), (Some(1), "closed"), "{}", ran.text);
    assert!(ran.text.contains("Connection refused"), "{}", ran.text);
}

#[test]
fn port_check_waits_until_the_port_is_opened() {
    // The pause between two tries is the event that the test waits for: it opens the port then.
    let place = Place::new();
    let (paused, go_on) = (place.path("paused"), place.path("go-on"));
    assert!(Command::new("mkfifo").arg(&paused).arg(&go_on).status().unwrap().success());
    let sleep = format!("#!/bin/sh\necho \"$1\" >'{}'\ncat '{}'\n", paused.display(), go_on.display());
    let path = place.stand_in("sleep", &sleep);
    let listener = TcpListener::bind("127.83.7.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let opener = thread::spawn(move || {
        let pause = fs::read_to_string(paused).unwrap();
        let listener = TcpListener::bind(address).unwrap();
        fs::write(go_on, "").unwrap();
        (pause, listener)
    });
    let port = address.port().to_string();
    let ran = run("port_check.sh", &["--interval=2", "--timeout=600", "127.83.7.1", &port], &place, &path);
    let (pause, _listener) = opener.join().unwrap();
    assert_eq!(pause, "2\n");
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    assert_eq!(ran.params["ATTEMPTS"], "2");
}

#[test]
fn port_check_refuses_hosts_and_ports_that_are_none() {
    for (host, port) in [
        ("-x", "80"),
        ("a/../../x", "80"),
        ("$(touch planted)", "80"),
        ("a b", "80"),
        ("", "80"),
        ("[::1]", "80"),
        ("127.0.0.1", "0"),
        ("127.0.0.1", "65536"),
        ("127.0.0.1", "http"),
        ("127.0.0.1", "PATH[$(touch planted)]"),
    ] {
        let place = Place::new();
        let ran = run("port_check.sh", &["--timeout=0", "--", host, port], &place, SEARCH_PATH);
        assert_eq!(ran.code, Some(2), "{host} {port}: {}", ran.text);
        assert!(!place.path("planted").exists(), "{host} {port}");
    }
}

#[test]
fn a_host_that_became_part_of_a_command_would_be_executed() {
    let place = Place::with_weakened(
        "port_check.sh",
        &[
            ("[[ $host =~ ", "[[ -n $host || $host =~ "),
            (r#"'exec 3<>"/dev/tcp/$1/$2"'"#, r#""exec 3<>/dev/tcp/$host/$port""#),
        ],
    );
    run("port_check.sh", &["--timeout=0", "--", "$(touch planted)", "80"], &place, SEARCH_PATH);
    assert!(place.path("planted").exists());
}
