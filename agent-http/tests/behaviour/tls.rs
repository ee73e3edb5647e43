//! The service over TLS, as curl and openssl see it: what it speaks, under which names, with which files, and to whom.

mod attacks;
mod callers;
mod renewal;

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::{Authority, Service, Site, TLS, exchange, read_reply, tls_connect, tls_site};

/// An authority and a service that speaks TLS by a certificate of it.
fn served() -> (Authority, Service) {
    let authority = Authority::new();
    authority.issue("service", 365);
    let service = tls_site(&authority, "service", "").start();
    (authority, service)
}

/// A change of a site's files, the setting that names the one that is wrong, and what is said of it.
type Case<'a> = (&'a dyn Fn(&Site), &'a str, &'a str);

/// Runs curl; the path may be a whole address.
fn curl(service: &Service, path: &str, args: &[&str]) -> Output {
    let url = match path.contains("://") {
        true => path.to_owned(),
        false => format!("https://{}{path}", service.at),
    };
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(args)
        .arg(url)
        .output()
        .expect("this test needs curl")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_trusts_the_ca_that_it_is_given_and_nobody_without_it() {
    let (authority, service) = served();
    let trusting = curl(&service, "/healthz", &["--cacert", &authority.ca()]);
    assert_eq!(text(&trusting).trim(), r#"{"status":"alive"}"#, "{trusting:?}");
    let distrusting = curl(&service, "/healthz", &[]);
    assert_eq!(distrusting.status.code(), Some(60), "{distrusting:?}");
    let bearer = format!("Authorization: Bearer {}", Site::token("admin"));
    let args = ["--cacert", &authority.ca(), "--header", &bearer, "--header", "Prefer: wait=60"];
    let spec = ["--json", r#"{"name":"hello.sh","args":["you"]}"#];
    let task = curl(&service, "/api/v1/tasks", &[&args[..], &spec].concat());
    assert!(text(&task).contains(r#""status":"succeeded""#), "{task:?}");
}

#[test]
fn the_names_in_the_certificate_are_names_of_the_service_and_others_are_not() {
    let (authority, service) = served();
    let (ca, port) = (authority.ca(), service.at.port());
    let named = format!("agent.example.com:{port}");
    let resolve = format!("{named}:127.0.0.1");
    let args =
        ["--cacert", &ca, "--resolve", &resolve, "--write-out", "%{http_code}", "--output", "/dev/null"];
    let status =
        |more: &[&str]| text(&curl(&service, &format!("https://{named}/healthz"), &[&args, more].concat()));
    assert_eq!(status(&[]), "200");
    assert_eq!(status(&["--header", &format!("Origin: https://{named}")]), "200");
    // The same page before it was encrypted is another one.
    assert_eq!(status(&["--header", &format!("Origin: http://{named}")]), "403");
    assert_eq!(status(&["--header", "Host: other.example.com"]), "421");
    // A certificate for all names of a domain does not make them names of this service.
    assert_eq!(status(&["--header", "Host: x.wild.example.com"]), "421");
}

#[test]
fn nothing_older_than_tls_1_2_is_spoken() {
    let (authority, service) = served();
    let shake = |version: &str| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &service.at.to_string(), "-CAfile", &authority.ca(), version]);
        // Otherwise it is this client that refuses the old ones.
        client.args(["-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2,http/1.1"]);
        let output = client.stdin(Stdio::null()).output().expect("this test needs openssl");
        text(&output) + &String::from_utf8_lossy(&output.stderr)
    };
    for version in ["-tls1", "-tls1_1"] {
        let said = shake(version);
        // The alert is the service's.
        let is_refused = said.contains("SSL alert number") && said.contains("no peer certificate available");
        assert!(is_refused, "{version}: {said}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let said = shake(version);
        assert!(said.contains("Verify return code: 0 (ok)"), "{version}: {said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{version}: {said}");
    }
}

#[test]
fn plain_http_is_told_to_speak_tls_and_garbage_is_closed() {
    let (authority, service) = served();
    let reply = exchange(service.at, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((reply.status, reply.code().as_str()), (400, "tls_required"));
    // Also where it brings a body that nobody will read.
    let long = format!("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n{}", "x".repeat(30_000));
    assert_eq!(exchange(service.at, long.as_bytes()).code(), "tls_required");
    let garbage: [&[u8]; 4] =
        [&[0; 512], &[0x16; 512], b"\x16\x03\x01\xff\xff\x01", b"\x15\x03\x03\x00\x02\x02\x28"];
    for bytes in garbage {
        let mut stream = crate::support::connect(service.at);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // An alert or nothing, and then the end.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    let alive = curl(&service, "/healthz", &["--cacert", &authority.ca()]);
    assert!(alive.status.success(), "{alive:?}");
    assert!(!service.said().contains("panicked"), "{}", service.said());
}

#[test]
fn what_is_no_request_has_the_form_of_all_errors_inside_tls_too() {
    let (authority, service) = served();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    for (text, code) in [("nonsense\r\n\r\n", "malformed_request"), (&many, "header_too_large")] {
        let mut stream = tls_connect(service.at, &authority, None);
        stream.write_all(text.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut BufReader::new(stream), false).unwrap().code(), code);
    }
}

#[test]
fn files_that_cannot_be_used_keep_the_service_from_starting_and_are_named() {
    let authority = Authority::new();
    authority.issue("service", 365);
    authority.issue("other", 365);
    authority.issue_at("expired", 30, Some("2020-01-01 00:00:00"));
    authority.issue_at("future", 30, Some("2100-01-01 00:00:00"));
    let refused = |change: &dyn Fn(&Site)| {
        let site = tls_site(&authority, "service", "");
        change(&site);
        let output = site.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    };
    let copy = |site: &Site, from: &str, to: &str| {
        // Written into what is there, which keeps its mode.
        fs::write(site.path(to), fs::read(authority.path(from)).unwrap()).unwrap();
    };
    let allow = |site: &Site, mode| {
        fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let cases: [Case<'_>; 9] = [
        (&|site| fs::remove_file(site.path("cert.pem")).unwrap(), "tls.certificate", "cannot be read"),
        (
            &|site| fs::write(site.path("cert.pem"), "x").unwrap(),
            "tls.certificate",
            "there is no certificate",
        ),
        (&|site| copy(site, "expired.pem", "cert.pem"), "tls.certificate", "expired at 2020-01-31T"),
        (&|site| copy(site, "future.pem", "cert.pem"), "tls.certificate", "is valid from 2100-01-01"),
        (&|site| copy(site, "other.key", "key.pem"), "tls.key", "it is not the key of the certificate"),
        (&|site| copy(site, "service.pem", "key.pem"), "tls.key", "there is no private key in it"),
        (&|site| allow(site, 0o640), "tls.key", "others may use it (mode 0640)"),
        (&|site| allow(site, 0o604), "tls.key", "others may use it (mode 0604)"),
        (
            &|site| fs::write(site.path("client-ca.pem"), "").unwrap(),
            "tls.client_ca",
            "there is no certificate",
        ),
    ];
    for (change, key, words) in cases {
        let said = refused(change);
        assert!(said.contains(key) && said.contains(words) && said.contains(".pem"), "{words}: {said}");
    }
    // The twin: as they are they are taken, and any address with them.
    let site = tls_site(&authority, "service", "[http]\nhost = \"0.0.0.0\"\n").start();
    assert!(site.said().contains("listening on https://0.0.0.0:"), "{}", site.said());
    assert!(TLS.contains("key.pem"));
}
