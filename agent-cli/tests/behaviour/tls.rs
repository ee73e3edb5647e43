//! The client over https://: whom it trusts, what it presents, and what it says when that does not do.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crate::authority::Authority;
use crate::service::Service;
use crate::support::{Ended, Site, eventually};

/// A service that speaks TLS by a certificate of the authority, and knows that of `ci`.
fn served(authority: &Authority) -> (Site, Service) {
    authority.issue("service", 365);
    authority.issue("ci", 365);
    let path = |name| authority.path(name).display().to_string();
    let (certificate, key, ca) = (path("service.pem"), path("service.key"), authority.ca());
    let digest = authority.fingerprint("ci");
    Service::with_limits(&format!(
        "[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nclient_ca = \"{ca}\"\n\
         [[auth.token]]\nname = \"ci\"\ncertificate_sha256 = \"{digest}\"\nscopes = [\"read\"]\n"
    ))
}

fn list(site: &Site, authority: &Authority, name: &str, more: &[&str]) -> Ended {
    let path = |end| authority.path(&format!("{name}.{end}")).display().to_string();
    let (cert, key) = (path("pem"), path("key"));
    site.ended([&["task", "list", "--cert", &cert, "--key", &key], more].concat())
}

#[test]
fn the_service_of_this_host_is_called_by_https_with_a_certificate_in_the_place_of_a_token() {
    let authority = Authority::new();
    let (site, _service) = served(&authority);
    let ca = authority.ca();
    let ended = list(&site, &authority, "ci", &["--ca", &ca]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), ""), "{}", ended.stderr);
    // The twin: another certificate of the same CA is nobody's.
    let ended = list(&site, &authority, "service", &["--ca", &ca]);
    assert!(ended.code == Some(1) && ended.stderr.contains("certificate_sha256"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_trusted_is_told_with_what_would_help() {
    let authority = Authority::new();
    let others = Authority::new();
    others.issue("ci", 365);
    let (site, service) = served(&authority);
    let (ca, port) = (authority.ca(), service.port);
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_at = format!("https://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = plain.accept() {
            // The client may hang up first.
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let by_http = format!("http://127.0.0.1:{port}");
    for (authority, args, words) in [
        (&authority, &[][..], "name its CA with --ca FILE"),
        (&authority, &["--ca", &others.ca()], "name its CA with --ca FILE"),
        (&others, &["--ca", &ca], "does not accept the certificate of --cert"),
        (&authority, &["--ca", &ca, "--server", &plain_at], "does not speak TLS"),
        (&authority, &["--ca", &ca, "--server", &by_http], "write https:// in place of http://"),
        (&authority, &["--ca", "none.pem"], "none.pem"),
        (&authority, &["--ca", "application.toml"], "there is no certificate in application.toml"),
    ] {
        let ended = list(&site, authority, "ci", args);
        assert!(ended.code == Some(1) && ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_service_that_is_called_by_a_name_that_is_not_its_own_is_not_trusted() {
    let authority = Authority::new();
    let (site, service) = served(&authority);
    // Another address of this host, behind which the service is.
    let forward = TcpListener::bind("127.0.0.2:0").unwrap();
    let url = format!("https://{}", forward.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = forward.accept() {
            let mut service = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
            let (mut back, mut answers) = (client.try_clone().unwrap(), service.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
            let _ = std::io::copy(&mut client, &mut service);
        }
    });
    let ended = list(&site, &authority, "ci", &["--ca", &authority.ca(), "--server", &url]);
    assert!(ended.code == Some(1) && ended.stderr.contains("is for other names"), "{}", ended.stderr);
}

#[test]
fn a_service_whose_certificate_has_expired_is_not_trusted() {
    let authority = Authority::new();
    authority.issue("ci", 365);
    authority.issue_at("expired", 30, Some("2020-01-01 00:00:00"));
    let site = Site::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &format!("*:{port}")])
        .args(["-cert", "expired.pem", "-key", "expired.key"])
        .current_dir(authority.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("this test needs openssl");
    eventually("a server", || TcpStream::connect(("127.0.0.1", port)).ok());
    let ca = authority.ca();
    let expired =
        list(&site, &authority, "ci", &["--ca", &ca, "--server", &format!("https://127.0.0.1:{port}")]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(expired.stderr.contains("certificate has expired"), "{}", expired.stderr);
}
