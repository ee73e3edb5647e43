//! A node and its API server over TLS: whom the node trusts, what it says of others, and a certificate in the place of its
//! token. Files that are changed hold from the next connection on.

use std::fs;

use serde_json::Value;

use crate::support::{Authority, Service, Site, eventually, install, request_over_tls, tls_site};

/// An authority and an API server that speaks TLS by a certificate of it.
fn api_server(settings: &str) -> (Authority, Service) {
    let authority = Authority::new();
    authority.issue("service", 365);
    let server = tls_site(&authority, "service", settings).start();
    (authority, server)
}

/// A site that is a node of an API server under that name, with the authority as the only one that it trusts.
pub(crate) fn node_site(authority: &Authority, host: &str, port: u16, settings: &str) -> Site {
    let site = Site::new(&format!(
        "[node]\napi_server = \"wss://{host}:{port}\"\nname = \"node\"\nca = \"ca.pem\"\n{settings}\n"
    ));
    site.write_secret("node.token", &Site::token("node"));
    fs::copy(authority.path("ca.pem"), site.path("ca.pem")).unwrap();
    site
}

const BY_TOKEN: &str = "token_file = \"node.token\"";

/// What the API server knows of the node.
pub(crate) fn seen(server: &Service, authority: &Authority) -> Value {
    let reply = request_over_tls(server.at, authority, "GET", "/api/v1/nodes/node", None);
    if reply.status == 200 { reply.json() } else { Value::Null }
}

/// Waits until the node is there and what it offers is known.
pub(crate) fn connected(server: &Service, authority: &Authority) {
    eventually("the node over TLS", || {
        let node = seen(server, authority);
        let offers = node["scripts"].as_object().is_some_and(|scripts| scripts.contains_key("hello.sh"));
        (node["connected"] == true && offers).then_some(())
    });
}

/// Runs a script there, and gives how it ended.
pub(crate) fn run(server: &Service, authority: &Authority) -> Value {
    let spec = serde_json::json!({ "name": "hello.sh", "target": { "node": "node" } });
    let reply = request_over_tls(server.at, authority, "POST", "/api/v1/tasks", Some(&spec));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let path = format!("/api/v1/tasks/{}?wait=60", reply.id());
    request_over_tls(server.at, authority, "GET", &path, None).json()["status"].clone()
}

#[test]
fn a_task_runs_on_a_node_that_trusts_the_ca_of_its_settings() {
    let (authority, server) = api_server("");
    let _node = node_site(&authority, "localhost", server.at.port(), BY_TOKEN).start();
    connected(&server, &authority);
    assert_eq!(run(&server, &authority), "succeeded");
}

#[test]
fn an_api_server_that_a_node_cannot_know_is_refused_with_what_would_be_right_until_it_can() {
    let (authority, server) = api_server("[http]\nhost = \"0.0.0.0\"\n");
    let stranger = Authority::new();
    stranger.issue("service", 365);
    let port = server.at.port();
    // Another CA signed it.
    let distrusting = node_site(&stranger, "localhost", port, BY_TOKEN).start();
    // 127.0.0.2 is this host too, and no name of the certificate.
    let elsewhere = node_site(&authority, "127.0.0.2", port, BY_TOKEN).start();
    let says = |node: &Service, words: &str| {
        eventually(words, || node.said().contains(words).then_some(()));
    };
    says(&distrusting, "is signed by no CA of node.ca; expected the CA that signed it in that file");
    says(&elsewhere, "is not for that name, but for localhost, agent.example.com");
    assert_eq!(seen(&server, &authority), Value::Null);

    // The one that was in doubt about the CA reads its file again.
    fs::copy(authority.path("ca.pem"), distrusting.site.path("ca.new")).unwrap();
    fs::rename(distrusting.site.path("ca.new"), distrusting.site.path("ca.pem")).unwrap();
    connected(&server, &authority);
}

#[test]
fn an_expired_certificate_of_the_api_server_is_told_with_its_end_and_a_renewed_one_taken() {
    let authority = Authority::new();
    // Nobody starts with an expired certificate; whoever stands in for the API server here has no such scruples.
    authority.issue_at("old", 30, Some("2020-01-01 00:00:00"));
    let impostor = openssl_server(&authority, "old");
    let node = node_site(&authority, "localhost", impostor.port, BY_TOKEN).start();
    eventually("the end of the certificate", || {
        let words = "expired at 2020-01-31T00:00:00Z; expected one that is valid now";
        node.said().contains(words).then_some(())
    });
    let port = impostor.port;
    drop(impostor);
    authority.issue("service", 365);
    let site = tls_site(&authority, "service", "");
    let command = site.command_at(port);
    let server = site.start_by(command);
    connected(&server, &authority);
}

/// `openssl s_server`, which serves whatever certificate it is given. Dropped, it is ended.
struct OpensslServer {
    port: u16,
    child: std::process::Child,
}

fn openssl_server(authority: &Authority, name: &str) -> OpensslServer {
    loop {
        let port = crate::support::free_port();
        let child = std::process::Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(authority.path(&format!("{name}.pem")))
            .arg("-key")
            .arg(authority.path(&format!("{name}.key")))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .stdin(std::process::Stdio::null())
            .spawn()
            .expect("this test needs openssl");
        let mut server = OpensslServer { port, child };
        let listens = eventually("that openssl listens, or does not", || match server.child.try_wait() {
            Ok(None) => listens(server.child.id(), port).then_some(true),
            _ => Some(false),
        });
        // Another one may have taken the port meanwhile.
        if listens {
            return server;
        }
    }
}

/// Whether a process listens at a port itself (proc_net(5)).
fn listens(pid: u32, port: u16) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let at = format!("0100007F:{port:04X} 00000000:0000 0A ");
    let row = table.lines().find(|row| row.contains(&at));
    let Some(inode) = row.and_then(|row| row.split_whitespace().nth(9)) else { return false };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let socket = format!("socket:[{inode}]");
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|to| to.as_os_str() == socket.as_str())
}

impl Drop for OpensslServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A section by which the certificate of that name is the node.
fn by_certificate(authority: &Authority, name: &str) -> String {
    let digest = authority.fingerprint(name);
    format!("[[auth.token]]\nname = \"cert-node\"\ncertificate_sha256 = \"{digest}\"\nscopes = [\"node\"]\n")
}

/// The settings of a node that comes by certificate, and the files for them.
fn with_certificate(authority: &Authority, name: &str, site: Site) -> Site {
    install(authority, name, &site);
    let settings = fs::read_to_string(site.path("application.toml")).unwrap();
    fs::write(
        site.path("application.toml"),
        settings.replace("name = \"node\"\nca", "name = \"cert-node\"\nca"),
    )
    .unwrap();
    site
}

const BY_CERTIFICATE: &str = "certificate = \"cert.pem\"\nkey = \"key.pem\"";

#[test]
fn a_node_comes_by_its_certificate_and_a_renewed_one_holds_from_the_next_connection_on() {
    let authority = Authority::new();
    for name in ["service", "first", "second"] {
        authority.issue(name, 365);
    }
    let second = by_certificate(&authority, "second");
    let first = by_certificate(&authority, "first");
    let server = tls_site(&authority, "service", &first).start();
    let site = node_site(&authority, "localhost", server.at.port(), BY_CERTIFICATE);
    let node = with_certificate(&authority, "first", site).start();
    let is_there = |expected: bool| {
        eventually("the node by its certificate", || {
            let path = "/api/v1/nodes/cert-node";
            let node = request_over_tls(server.at, &authority, "GET", path, None).json();
            (node["connected"] == expected).then_some(())
        });
    };
    is_there(true);

    // The API server knows the second one only, and is started again; the node is given it while it runs.
    let port = server.at.port();
    let (server_site, edited) = (server.stop(), second);
    let settings = fs::read_to_string(server_site.path("application.toml")).unwrap();
    fs::write(server_site.path("application.toml"), settings.replace(&first, &edited)).unwrap();
    let command = server_site.command_at(port);
    let server = server_site.start_by(command);
    eventually("the refusal of the old one", || node.said().contains("answered 401").then_some(()));
    install(&authority, "second", &node.site);
    let path = "/api/v1/nodes/cert-node";
    eventually("the node by its new certificate", || {
        let node = request_over_tls(server.at, &authority, "GET", path, None).json();
        (node["connected"] == true).then_some(())
    });
}

#[test]
fn a_certificate_of_another_ca_lets_nobody_in_and_a_key_of_another_certificate_is_told() {
    let (authority, server) = api_server("");
    let stranger = Authority::new();
    for name in ["node", "other"] {
        stranger.issue(name, 365);
    }
    let port = server.at.port();
    let both = format!("{BY_TOKEN}\n{BY_CERTIFICATE}");
    let site = node_site(&authority, "localhost", port, &both);
    install(&stranger, "node", &site);
    let node = site.start();
    eventually("the alert", || {
        node.said().contains("that a CA of its tls.client_ca has signed").then_some(())
    });
    // Half of a pair: said at each try, and at the start.
    fs::copy(stranger.path("other.key"), node.site.path("key.pem")).unwrap();
    eventually("the pair", || node.said().contains("it is not the key of the certificate in").then_some(()));
    assert_eq!(seen(&server, &authority), Value::Null);
    let refused = node.stop().command().output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("cannot be a node: node.key: "), "{said}");

    // The twin: with a certificate that the API server's CA signed, and the token, the token decides.
    authority.issue("node", 365);
    let site = node_site(&authority, "localhost", port, &both);
    install(&authority, "node", &site);
    let _node = site.start();
    connected(&server, &authority);
}

#[test]
fn an_api_server_that_speaks_no_tls_is_told_from_one_that_is_not_there() {
    let plain = Service::usual();
    let authority = Authority::new();
    let node = node_site(&authority, "localhost", plain.at.port(), BY_TOKEN).start();
    eventually("no TLS", || node.said().contains("does not speak TLS").then_some(()));
    let nobody = node_site(&authority, "localhost", crate::support::free_port(), BY_TOKEN).start();
    eventually("nobody", || nobody.said().contains("Connection refused").then_some(()));
}
