//! Who gets the token, and who does not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use super::{answer, list, server, site};
use crate::support::{Ended, Site, write};

#[test]
fn no_token_is_sent_in_clear_to_another_host() {
    let site = site();
    // Names of the reserved domain lead nowhere, so that nothing is sent even where the guard fails.
    for url in [
        "http://elsewhere.invalid",
        "http://127.0.0.1.elsewhere.invalid:8848",
        "http://localhost.elsewhere.invalid",
        "http://127.0.0.1@elsewhere.invalid",
        "http://user:127.0.0.1@elsewhere.invalid",
        "http://[2001:db8::1]:8848",
        "http://0.0.0.0:8848",
        "HTTP://elsewhere.invalid",
    ] {
        let ended = list(&site, url);
        assert_eq!(ended.code, Some(1), "{url}");
        assert!(ended.stderr.contains("a token is not sent in clear to "), "{url}: {}", ended.stderr);
    }
    for url in ["ftp://127.0.0.1", "127.0.0.1:8848", "", "http:", "https://", "/path", "file:///etc/passwd"] {
        let ended = list(&site, url);
        assert!(ended.code == Some(1) && ended.stderr.contains("is no address"), "{url}: {}", ended.stderr);
    }
}

#[test]
fn the_token_is_sent_to_this_host_in_a_header_and_nowhere_else() {
    let site = site();
    let (address, heads) = server(answer("200 OK", "application/json", "{\"tasks\": [], \"next\": null}"));
    for host in ["127.0.0.1", "localhost"] {
        let ended = list(&site, &format!("http://{host}:{}/", address.port()));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let head = heads.recv().unwrap();
        assert!(head.contains("authorization: bearer dag_canary"), "{head}");
        assert!(head.starts_with("get /api/v1/tasks?limit=20 "), "{head}");
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
}

#[test]
fn the_token_of_this_hosts_own_service_goes_to_that_service_only() {
    let list = "{\"tasks\": [], \"next\": null}";
    let (own, heads) = server(answer("200 OK", "application/json", list));
    let (other, others) = server(answer("200 OK", "application/json", list));
    let site = Site::with_settings(&format!("[http]\nport = {}\n", own.port()));
    fs::create_dir_all(site.path("state")).unwrap();
    write(&site.path("state/token"), "dag_canary\n", 0o600);
    let asked = |url: &str| site.ended(["task", "list", "--server", url]);
    for url in [
        format!("http://{other}"),
        format!("https://127.0.0.1:{}", own.port()),
        "https://elsewhere.invalid".to_owned(),
        format!("https://elsewhere.invalid:{}", own.port()),
    ] {
        let ended = asked(&url);
        assert_eq!(ended.code, Some(1), "{url}");
        assert!(
            ended.stderr.contains(&format!("which token does the service at {url} take?")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("--token-file"), "{}", ended.stderr);
    }
    // Nor where a key is pressed that completes an id.
    let there = format!("http://{other}");
    let words = ["__complete", "fish", "--", "agent-cli", "task", "show", "--server", &there, ""];
    assert_eq!(site.ended(words).stderr, "");
    assert!(others.try_recv().is_err());
    for url in [format!("http://{own}"), format!("http://localhost:{}/", own.port())] {
        assert_eq!(asked(&url).code, Some(0), "{url}");
        assert!(heads.recv().unwrap().contains("canary"));
    }
}

/// A user of no name, above those of the system.
const STRANGER: u32 = 54_321;

#[test]
fn a_token_is_not_sent_to_a_stranger_who_listens_on_this_host() {
    let site = site();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not as root: no other user can be made to listen here");
        return;
    }
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or die; \
        $| = 1; print $s->sockport, \"\\n\"; my $c = $s->accept; print scalar <$c>;";
    let mut stranger = Command::new("perl");
    stranger.args(["-e", listen]).uid(STRANGER).current_dir("/").stdout(Stdio::piped());
    let mut stranger = stranger.spawn().unwrap();
    let mut said = BufReader::new(stranger.stdout.take().unwrap()).lines();
    let url = format!("http://127.0.0.1:{}", said.next().unwrap().unwrap());
    let ended = list(&site, &url);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(&format!("user {STRANGER} listens, who would get the token")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("hint: a service of another user is called over TLS"), "{}", ended.stderr);
    // The twin: whose token it is may get it, and until now nobody had called.
    std::os::unix::fs::chown(site.path("token"), Some(STRANGER), None).unwrap();
    let asked = thread::spawn(move || said.next().unwrap().unwrap());
    list(&site, &url);
    assert!(asked.join().unwrap().starts_with("GET /api/v1/tasks"));
    stranger.wait().unwrap();
}

#[test]
fn a_token_that_every_user_may_read_is_told() {
    let site = site();
    let (address, _heads) = server(answer("200 OK", "application/json", "{\"tasks\": []}"));
    let url = format!("http://{address}");
    assert!(!list(&site, &url).stderr.contains("note:"));
    write(&site.path("token"), "dag_canary\n", 0o644);
    let said = list(&site, &url).stderr;
    let note = "note: every user of this host may read the token in token; chmod 600 token\n";
    assert!(said.starts_with(note), "{said}");
}

#[test]
fn a_redirect_does_not_lead_the_token_elsewhere() {
    let site = site();
    let (elsewhere, led) = server(answer("200 OK", "application/json", "{}"));
    let moved = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/api/v1/tasks\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let (address, _heads) = server(moved);
    let ended = list(&site, &format!("http://{address}"));
    assert!(ended.code == Some(1) && ended.stderr.contains("302"), "{}", ended.stderr);
    assert!(led.try_recv().is_err());
    assert_eq!(list(&site, &format!("http://{elsewhere}")).code, Some(1), "the answer is no list");
    assert!(led.recv().unwrap().contains("canary"), "asked itself, it gets the token");
}

#[test]
fn a_proxy_of_the_environment_does_not_get_the_token() {
    let site = site();
    let (proxy, led) = server(answer("200 OK", "application/json", "{\"tasks\": []}"));
    let (address, heads) = server(answer("200 OK", "application/json", "{\"tasks\": []}"));
    let url = format!("http://{address}");
    let mut command = site.agent(["task", "list", "--server", &url, "--token-file", "token"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://{proxy}"));
    }
    assert_eq!(Ended::of(&mut command).code, Some(0));
    assert!(heads.recv().unwrap().contains("canary"));
    assert!(led.try_recv().is_err());
}

#[test]
fn a_missing_or_useless_token_file_is_named() {
    let site = site();
    for (name, content) in [("empty", ""), ("two", "one two\n"), ("lines", "a\nb\n"), ("blank", " \n")] {
        fs::write(site.path(name), content).unwrap();
        let ended = site.ended(["task", "list", "--server", "http://127.0.0.1:1", "--token-file", name]);
        assert_eq!(ended.code, Some(1), "{name}");
        assert!(ended.stderr.contains(&format!("there is no token in {name}")), "{}", ended.stderr);
    }
    // The default is the file that a service makes in its state folder.
    let ended = site.ended(["task", "list"]);
    assert_eq!(ended.code, Some(1));
    let file = site.path("state/token");
    assert!(
        ended.stderr.contains(&format!("cannot read the token in {}", file.display())),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("hint: name it with --token-file"), "{}", ended.stderr);
}

#[test]
fn a_token_is_not_sent_to_a_stranger_behind_a_socket() {
    let site = site();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not as root: no other user can be made to listen here");
        return;
    }
    let open = site.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let socket = open.join("agent.sock");
    let listen = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die; chmod 0666, $ARGV[0]; \
        $| = 1; print \"listens\\n\"; $s->accept; my $c = $s->accept; print scalar <$c>;";
    let mut stranger = Command::new("perl");
    stranger.args(["-e", listen]).arg(&socket).uid(STRANGER).current_dir("/").stdout(Stdio::piped());
    let mut stranger = stranger.spawn().unwrap();
    let mut said = BufReader::new(stranger.stdout.take().unwrap()).lines();
    said.next().unwrap().unwrap();
    let address = format!("unix:{}", socket.display());
    let ended = list(&site, &address);
    assert_eq!(ended.code, Some(1));
    let expected = format!("user {STRANGER} listens there, who would get the token; nothing was sent");
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
    // The twin: whose token it is may get it.
    std::os::unix::fs::chown(site.path("token"), Some(STRANGER), None).unwrap();
    let asked = thread::spawn(move || said.next().unwrap().unwrap());
    list(&site, &address);
    assert!(asked.join().unwrap().starts_with("GET /api/v1/tasks"));
    stranger.wait().unwrap();
}
