//! By which names the service may be called, and by which pages. Every hostile request here carries a good token: it is
//! refused for its Host or Origin alone, before any route.

use crate::support::{Service, Site, exchange};

/// Names that a browser would send after an attacker's name was pointed at this host, and other names that are not ours.
const HOSTILE_HOSTS: &[&str] = &[
    "evil.example",
    "evil.example:8848",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "localhost@evil.example",
    "admin@localhost",
    "2130706433",
    "0x7f000001",
    "127.1",
    "localhost..",
    "",
    " ",
    "[::1",
    "::1:8848:x",
];

/// Origins of pages that are not the service's own.
const HOSTILE_ORIGINS: &[&str] = &[
    "https://evil.example",
    "http://evil.example",
    "null",
    "",
    "http://localhost:1",
    "http://127.0.0.1:1",
    "https://localhost",
    "http://localhost.evil.example",
    "http://localhost:80/",
    "file://",
    "chrome-extension://abcdefgh",
    "http://admin@localhost",
    "localhost",
    "HTTP://EVIL.EXAMPLE",
];

/// A request that would make a task, with a Host and perhaps an Origin and more.
fn submission(target: &str, headers: &str) -> Vec<u8> {
    let body = r#"{"name":"hello.sh"}"#;
    let token = Site::token("admin");
    format!(
        "POST {target} HTTP/1.1\r\n{headers}Connection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn no_request_of_a_hostile_page_or_name_makes_a_task() {
    let service = Service::usual();
    let mut sent = 0;
    let mut refused = |target: &str, headers: &str, expected: (u16, &str)| {
        let reply = exchange(service.at, &submission(target, headers));
        assert_eq!((reply.status, reply.code().as_str()), expected, "{target} {headers:?}");
        sent += 1;
    };
    let unknown = (421, "host_unknown");
    for host in HOSTILE_HOSTS {
        refused("/api/v1/tasks", &format!("Host: {host}\r\n"), unknown);
    }
    refused("/api/v1/tasks", "", unknown);
    refused("/api/v1/tasks", "Host: localhost\r\nHost: evil.example\r\n", unknown);
    refused("/api/v1/tasks", "Host: localhost\r\nHost: localhost\r\n", unknown);
    refused("http://evil.example/api/v1/tasks", "Host: localhost\r\n", unknown);
    let forbidden = (403, "origin_forbidden");
    for origin in HOSTILE_ORIGINS {
        refused("/api/v1/tasks", &format!("Host: localhost:80\r\nOrigin: {origin}\r\n"), forbidden);
    }
    let own = "Host: localhost\r\nOrigin: http://localhost\r\n";
    refused("/api/v1/tasks", &format!("{own}Origin: https://evil.example\r\n"), forbidden);
    refused("/no/such/route", "Host: evil.example\r\n", unknown);
    refused("/healthz", "Host: localhost\r\nOrigin: https://evil.example\r\n", forbidden);
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    refused(
        "/api/v1/nodes/connect",
        &format!("Host: localhost\r\nOrigin: https://evil.example\r\n{upgrade}"),
        forbidden,
    );
    assert!(sent >= 30, "{sent}");
    assert_eq!(service.count(), 0);
}

#[test]
fn the_same_requests_make_tasks_where_name_and_origin_are_listed() {
    let settings = "[http]\nhosts = [\"evil.example\"]\norigins = [\"https://evil.example\"]";
    let service = Site::new(settings).start();
    for headers in [
        "Host: evil.example\r\n",
        "Host: EVIL.example.:8848\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
    ] {
        let reply = exchange(service.at, &submission("/api/v1/tasks", headers));
        assert_eq!(reply.status, 202, "{headers}: {}", reply.text());
    }
    let absolute = submission("http://evil.example/api/v1/tasks", "Host: evil.example\r\n");
    assert_eq!(exchange(service.at, &absolute).status, 202);
    assert_eq!(service.count(), 4);
}

#[test]
fn loopback_names_addresses_and_the_services_own_pages_may_call() {
    let service = Service::usual();
    let port = service.at.port();
    for headers in [
        "Host: localhost\r\n".to_owned(),
        format!("Host: LOCALHOST:{port}\r\n"),
        format!("Host: 127.0.0.1:{port}\r\n"),
        format!("Host: [::1]:{port}\r\n"),
        "Host: 192.0.2.7\r\n".to_owned(),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"),
        "Host: localhost\r\nOrigin: http://localhost:80\r\n".to_owned(),
    ] {
        let reply = exchange(service.at, &submission("/api/v1/tasks", &headers));
        assert_eq!(reply.status, 202, "{headers}: {}", reply.text());
    }
}

#[test]
fn a_page_of_a_listed_origin_is_told_what_it_may_send_and_read() {
    let service = Site::new("[http]\norigins = [\"https://ops.example.com\"]").start();
    let ask = |origin: &str| {
        let text = format!(
            "OPTIONS /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        );
        exchange(service.at, text.as_bytes())
    };
    let allowed = ask("https://ops.example.com");
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://ops.example.com"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(ask("https://evil.example").status, 403);

    let headers = "Host: localhost\r\nOrigin: https://ops.example.com\r\n";
    let reply = exchange(service.at, &submission("/api/v1/tasks", headers));
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://ops.example.com"));
    for (reply, kind, expected) in [
        (&allowed, "allow", vec!["if-none-match"]),
        (&reply, "expose", vec!["location", "etag", "x-request-id"]),
    ] {
        let names = reply.header(&format!("access-control-{kind}-headers")).unwrap();
        let names: Vec<&str> = names.split(", ").collect();
        assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    }
}
