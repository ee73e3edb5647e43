//! Callers on the same host, who connect to a Unix socket and are known by their user.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_http::{Agent, Host, LocalSocket, Server, ServerLimits};
use nix::unistd::{Group, User, getegid, geteuid};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Reply, Service, Site, connect_local, eventually, exchange, exchange_over, read_reply, request_text,
    without,
};

const SOCKET: &str = "[http]\nsocket = \"agent.sock\"\n";
const RUNNERS: &str = "/api/v1/runners";

/// The section of a caller that these lines prove, who may read.
fn section(name: &str, lines: &str) -> String {
    format!("[[auth.token]]\nname = \"{name}\"\nscopes = [\"read\"]\nscripts = [\"**\"]\n{lines}\n")
}

/// A service with the usual tokens, a socket, and this test's own user as a caller.
fn served() -> Service {
    Site::new(&format!("{SOCKET}{}", section("local", &format!("peer_uids = [{}]", geteuid())))).start()
}

fn socket(service: &Service) -> std::path::PathBuf {
    service.site.path("agent.sock")
}

fn call(service: &Service, token: Option<&str>, method: &str, path: &str) -> Reply {
    let body = (method == "POST").then(|| json!({ "name": "hello.sh" }));
    let text = request_text(method, path, token, body.as_ref());
    exchange_over(connect_local(&socket(service)), text.as_bytes())
}

#[test]
fn a_listed_user_is_that_caller_over_the_socket_alone_and_the_audit_log_says_so() {
    let service = served();
    assert_eq!(call(&service, None, "GET", RUNNERS).status, 200);
    // It may do what the section says, and no more.
    let refused = call(&service, None, "POST", "/api/v1/tasks");
    assert_eq!((refused.status, refused.code().as_str()), (403, "scope_missing"));
    let lines = service.audit();
    let from = format!("unix:uid={},pid={}", geteuid(), std::process::id());
    for (line, status) in lines.iter().zip([200, 403]) {
        let told = (&line["token"], &line["from"], &line["status"]);
        assert_eq!(told, (&json!("local"), &json!(from), &json!(status)), "{line}");
    }
    let by_tcp = exchange(service.at, request_text("GET", RUNNERS, None, None).as_bytes());
    assert_eq!((by_tcp.status, by_tcp.code().as_str()), (401, "token_missing"));
}

#[test]
fn a_user_is_listed_by_name_too_and_one_that_nobody_lists_is_nobody() {
    let user = User::from_uid(geteuid()).unwrap().expect("this user has a name").name;
    let names = section("named", &format!("peer_users = [\"{user}\", \"no-such-user\"]"));
    let service = Site::new(&format!("{SOCKET}{names}")).start();
    assert_eq!(call(&service, None, "GET", RUNNERS).status, 200);
    eventually("a warning", || service.said().contains("this host has no such user").then_some(()));
    let other = section("other", &format!("peer_uids = [{}]", geteuid().as_raw() + 1));
    let service = Site::new(&format!("{SOCKET}{other}")).start();
    let nobody = call(&service, None, "GET", RUNNERS);
    assert_eq!((nobody.status, nobody.code().as_str()), (401, "token_missing"));
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer "));
    assert_eq!(call(&service, None, "GET", "/healthz").status, 200);
    assert_eq!(call(&service, Some(&Site::token("reader")), "GET", RUNNERS).status, 200);
}

#[test]
fn a_token_that_is_sent_all_the_same_must_be_right_and_decides() {
    let service = served();
    for (token, expected) in [
        ("dag_wrong".to_owned(), (401, "token_invalid")),
        (Site::token("expired"), (401, "token_expired")),
        (Site::token("runner"), (403, "scope_missing")),
    ] {
        let reply = call(&service, Some(&token), "GET", RUNNERS);
        assert_eq!((reply.status, reply.code().as_str()), expected, "{token}");
    }
    assert_eq!(call(&service, Some(&Site::token("all")), "POST", "/api/v1/tasks").status, 202);
}

#[test]
fn names_and_origins_are_looked_at_as_over_tcp() {
    let service = served();
    let text = request_text("GET", RUNNERS, None, None);
    for (header, expected) in [
        ("Host: evil.example", (421, "host_unknown")),
        ("Host: localhost\r\nOrigin: http://evil.example", (403, "origin_forbidden")),
        ("Host: localhost\r\nOrigin: null", (403, "origin_forbidden")),
    ] {
        let text = text.replace("Host: localhost", header);
        let reply = exchange_over(connect_local(&socket(&service)), text.as_bytes());
        assert_eq!((reply.status, reply.code().as_str()), expected, "{header}");
    }
}

#[test]
fn a_user_who_is_taken_off_the_list_is_nobody_on_connections_that_are_open_too() {
    let service = served();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let mut follower = connect_local(&socket(&service));
    let text = request_text("GET", &format!("/api/v1/tasks/{id}/log?follow=true&banner=false"), None, None);
    follower.write_all(text.as_bytes()).unwrap();
    let mut kept = std::io::BufReader::new(connect_local(&socket(&service)));
    let text = request_text("GET", RUNNERS, None, None).replace("Connection: close\r\n", "");
    kept.get_mut().write_all(text.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut kept, false).unwrap().status, 200);
    service.change_settings(|text| without(&text, "local"));
    let mut read = Vec::new();
    follower.read_to_end(&mut read).unwrap();
    assert!(!read.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&read));
    kept.get_mut().write_all(text.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut kept, false).unwrap().code(), "token_missing");
}

#[test]
fn its_file_is_for_its_owner_alone_unless_the_settings_say_more_and_goes_with_the_service() {
    let group = Group::from_gid(getegid()).unwrap().expect("this group has a name").name;
    for (settings, mode) in [
        (String::new(), 0o600),
        (format!("socket_mode = \"0660\"\nsocket_group = \"{group}\"\n"), 0o660),
        ("socket_mode = \"0666\"\n".to_owned(), 0o666),
    ] {
        let service = Site::new(&format!("{SOCKET}{settings}")).start();
        let metadata = fs::symlink_metadata(socket(&service)).unwrap();
        let found = (metadata.file_type().is_socket(), metadata.mode() & 0o7777, metadata.gid());
        assert_eq!(found, (true, mode, getegid().as_raw()), "{settings}");
        assert!(service.said().contains("listening on unix:"), "{}", service.said());
        let site = service.stop();
        assert!(!site.path("agent.sock").exists());
    }
}

/// What a service says that does not start on a site.
fn complaint(site: &Site) -> String {
    let output = site.command().output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_socket_of_a_dead_agent_is_replaced_and_that_of_a_live_one_is_not() {
    let service = served();
    // Another agent with a state folder of its own.
    let other = Site::new(&SOCKET.replace("agent.sock", socket(&service).to_str().unwrap()));
    assert!(complaint(&other).contains("another program listens there"));
    assert_eq!(call(&service, None, "GET", RUNNERS).status, 200);
    // Without the lock beside it the live one is found by asking.
    fs::remove_file(service.site.path("agent.sock.lock")).unwrap();
    assert!(complaint(&other).contains("another program listens there"));
    assert_eq!(call(&service, None, "GET", RUNNERS).status, 200);
    service.signal(nix::sys::signal::Signal::SIGKILL);
    let (_, site, _) = service.ended_with();
    assert!(site.path("agent.sock").exists(), "it was killed, and had no time to remove its socket");
    let service = site.start();
    assert_eq!(call(&service, None, "GET", RUNNERS).status, 200);
}

#[test]
fn what_is_no_dead_socket_of_its_own_stays_and_keeps_it_from_starting() {
    let site = Site::new(SOCKET);
    let (path, decoy) = (site.path("agent.sock"), site.path("decoy"));
    let listener = UnixListener::bind(&decoy).unwrap();
    fs::write(site.path("file"), "as it was").unwrap();
    for (plant, words) in [
        (
            &(|path: &Path| fs::write(path, "as it was").unwrap()) as &dyn Fn(&Path),
            "a file that is no socket",
        ),
        (&|path| fs::create_dir(path).unwrap(), "a file that is no socket"),
        (&|path| symlink(&decoy, path).unwrap(), "a link"),
        (&|path| symlink(site.path("file"), path).unwrap(), "a link"),
        (&|path| symlink("/nonexistent/socket", path).unwrap(), "a link"),
        // Of another program, without any lock.
        (&|path| fs::hard_link(&decoy, path).unwrap(), "another program listens there"),
    ] {
        plant(&path);
        let before = fs::symlink_metadata(&path).unwrap();
        let said = complaint(&site);
        assert!(said.contains(words) && said.contains("agent.sock"), "{words}: {said}");
        let after = fs::symlink_metadata(&path).unwrap();
        assert_eq!((before.ino(), before.len(), before.mode()), (after.ino(), after.len(), after.mode()));
        if before.is_dir() { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    assert_eq!(fs::read_to_string(site.path("file")).unwrap(), "as it was");
    // A link in the place of the lock is not followed either.
    fs::remove_file(site.path("agent.sock.lock")).unwrap();
    symlink(site.path("file"), site.path("agent.sock.lock")).unwrap();
    assert!(complaint(&site).contains("open its lock"));
    fs::remove_file(site.path("agent.sock.lock")).unwrap();
    if geteuid().is_root() {
        drop(UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert!(complaint(&site).contains("a socket of another user"));
        fs::remove_file(&path).unwrap();
    } else {
        println!("not root: a socket of another user was not tried");
    }
    // The twin: a socket of this user that nobody listens on is taken for that of a dead agent.
    drop(UnixListener::bind(&path).unwrap());
    let service = site.start();
    assert_eq!(call(&service, None, "GET", "/healthz").status, 200);
    drop(listener);
}

#[test]
fn a_folder_that_others_may_change_is_no_place_for_it() {
    let site = Site::new(&SOCKET.replace("agent.sock", "open/within/agent.sock"));
    let allow = |name: &str, mode| {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(complaint(&site).contains("find its folder"));
    fs::create_dir_all(site.path("open/within")).unwrap();
    for (name, mode) in
        [("open/within", 0o777), ("open/within", 0o1777), ("open/within", 0o775), ("open", 0o777)]
    {
        allow("open", 0o755);
        allow("open/within", 0o755);
        allow(name, mode);
        let said = complaint(&site);
        assert!(said.contains("may be written by others"), "{name} {mode:o}: {said}");
        assert!(!site.path("open/within/agent.sock").exists());
    }
    // The twin: nobody may rename a folder in one that is sticky, as /tmp is.
    allow("open", 0o1777);
    let service = site.start();
    assert!(service.site.path("open/within/agent.sock").exists());
}

#[test]
fn lists_that_would_let_in_anybody_or_make_one_user_two_callers_are_wrong_settings() {
    let user = User::from_uid(geteuid()).unwrap().expect("this user has a name").name;
    let by_name = section("by-name", &format!("peer_users = [\"{user}\"]"));
    let by_number = section("by-number", &format!("peer_uids = [{}]", geteuid()));
    for (sections, words) in [
        (by_name + &by_number, "is listed by the token 'by-name' too"),
        (section("any", "peer_users = [\"nobody\"]"), "stands for users of other"),
    ] {
        let site = Site::new(&format!("{SOCKET}{sections}"));
        for flag in [None, Some("--check-config")] {
            let output = site.command().args(flag).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn it_has_the_limits_of_every_other_connection() {
    let site = Site::new(SOCKET);
    let settings = site.settings();
    let limits =
        ServerLimits { header: Duration::from_millis(300), connections: 3, ..ServerLimits::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = CancellationToken::new();
    let (agent, server) = runtime.block_on(async {
        let agent = Agent::open(&settings, Host::default()).await.unwrap();
        let server = Server::listen("127.0.0.1:0".parse().unwrap(), limits).await.unwrap();
        (agent, server.with_socket(LocalSocket::listen(&settings.http).unwrap()))
    });
    let serving = runtime.spawn(server.serve(agent.app(), stop.clone()));
    let path = site.path("agent.sock");
    let began = Instant::now();
    let mut slow = connect_local(&path);
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    assert_eq!(slow.read(&mut [0; 64]).unwrap(), 0, "its time for the header was over");
    assert!(began.elapsed() >= Duration::from_millis(300));
    // The longest waiting one goes for a newcomer, whichever way each has come.
    let mut waiting: Vec<_> = (0..3).map(|_| connect_local(&path)).collect();
    let text = request_text("GET", "/healthz", None, None);
    assert_eq!(exchange_over(connect_local(&path), text.as_bytes()).status, 200);
    assert_eq!(waiting[0].read(&mut [0; 64]).unwrap(), 0);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(exchange_over(connect_local(&path), long.as_bytes()).code(), "header_too_large");
    stop.cancel();
    runtime.block_on(serving).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_link_of_another_user_is_no_way_to_it() {
    let site = Site::new(&SOCKET.replace("agent.sock", "open/link/agent.sock"));
    for (name, mode) in [("open", 0o1777), ("real", 0o755)] {
        fs::create_dir(site.path(name)).unwrap();
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let link = site.path("open/link");
    symlink(site.path("real"), &link).unwrap();
    if geteuid().is_root() {
        std::os::unix::fs::lchown(&link, Some(54_321), None).unwrap();
        let said = complaint(&site);
        assert!(said.contains("open/link belongs to user 54321"), "{said}");
        std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
    } else {
        println!("tier: no root, links of other users cannot be made");
    }
    // The twin: one that nobody else can exchange is a way like any other.
    let service = site.start();
    assert!(service.site.path("real/agent.sock").exists());
}
