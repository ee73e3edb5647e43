//! A node behind an HTTP proxy: it goes through, it says why it cannot, and no proxy sees or holds more than it should.

use std::fs;

use crate::examples::{blocks_of, chapter, page};
use crate::nodes_tls::{connected, node_site, run};
use crate::support::{Answer, Authority, Proxy, Service, Site, eventually, tls_site};

const PASSWORD: &str = "open sesame c4n4ry";

/// An authority, an API server that speaks TLS by it, and what a proxy does by default.
fn api_server() -> (Authority, Service) {
    let authority = Authority::new();
    authority.issue("service", 365);
    let server = tls_site(&authority, "service", "").start();
    (authority, server)
}

/// A site of a node that goes by a proxy.
fn site_behind(authority: &Authority, server: &Service, proxy: &Proxy, more: &str) -> Site {
    let settings = format!("token_file = \"node.token\"\nproxy = \"http://{}\"\n{more}", proxy.at);
    node_site(authority, "localhost", server.at.port(), &settings)
}

fn says(node: &Service, words: &str) {
    eventually(words, || node.said().contains(words).then_some(()));
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[test]
fn a_node_goes_through_a_proxy_that_learns_where_to_and_nothing_else() {
    let (authority, server) = api_server();
    let at = server.at;
    let proxy = Proxy::start(move |_| Answer::Through(at));
    let node = site_behind(&authority, &server, &proxy, "").start();
    connected(&server, &authority);
    assert_eq!(run(&server, &authority), "succeeded");
    let seen = proxy.seen();
    let port = at.port();
    assert_eq!(seen.asked, [format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")]);
    assert!(seen.sent.len() > 1000);
    for secret in [Site::token("node").as_str(), "GET /api", "hello.sh"] {
        assert!(!contains(&seen.sent, secret), "{secret}");
    }
    drop(node);
}

#[test]
fn a_proxy_that_wants_to_know_who_calls_is_told_from_a_file_that_is_read_again() {
    let (authority, server) = api_server();
    let at = server.at;
    // Basic, `Aladdin:open sesame c4n4ry`.
    let right = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZSBjNG40cnk=\r\n";
    let proxy = Proxy::start(move |head| match head.contains(right) {
        true => Answer::Through(at),
        false => Answer::Says(
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n<html>",
        ),
    });
    let without = site_behind(&authority, &server, &proxy, "").start();
    says(&without, "answered 407 Proxy Authentication Required: it wants to know who calls; expected");
    drop(without);

    // By the settings of the page about nodes, at this proxy.
    let page = page("docs/nodes.md");
    let [_, _, by_proxy] =
        blocks_of(chapter(&page, "Between hosts"), "toml").try_into().expect("three blocks");
    let by_proxy = by_proxy.replace("proxy.example.com:3128", &proxy.at.to_string());
    let settings = format!("token_file = \"node.token\"\n{by_proxy}");
    let site = node_site(&authority, "localhost", server.at.port(), &settings);
    site.write_secret("proxy.credentials", "Aladdin:wrong");
    let node = site.start();
    says(&node, "it does not take what node.proxy_credentials_file holds");
    node.site.write_secret("proxy.credentials", &format!("Aladdin:{PASSWORD}\n"));
    connected(&server, &authority);
    assert!(!node.said().contains("c4n4ry") && !node.said().contains("QWxh"), "{}", node.said());
}

#[test]
fn what_a_proxy_does_not_want_or_cannot_is_told_in_its_own_words_without_what_would_spoil_a_log() {
    let (authority, server) = api_server();
    let answers = [
        (
            "HTTP/1.1 403 \x1b[31mForbidden by us\r\n\r\n",
            "answered 403 [31mForbidden by us: it lets nobody through to",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "answered 502 Bad Gateway when asked for localhost:"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "answers as no HTTP proxy does"),
        ("HTTP/1.1 200 OK\r\n\r\nand more", "there are bytes behind its answer"),
        ("HTTP/1.1 200 O", "it closed the connection"),
        ("", "it closed the connection"),
    ];
    for (answer, words) in answers {
        let proxy = Proxy::start(move |_| Answer::Says(answer));
        let node = site_behind(&authority, &server, &proxy, "").start();
        says(&node, words);
    }
}

#[test]
fn an_answer_without_end_and_none_at_all_are_given_up_in_bytes_and_in_time() {
    let (authority, server) = api_server();
    let endless = Proxy::start(|_| Answer::Endless("X-Header: and on and on\r\n"));
    let silent = Proxy::start(|_| Answer::Silent);
    let first = site_behind(&authority, &server, &endless, "").start();
    let second = site_behind(&authority, &server, &silent, "").start();
    says(&first, "it is longer than 8192 bytes");
    says(&second, "did not answer within 10 s");
    eventually("the end of the endless one", || (endless.seen().given_up > 0).then_some(()));
    // It is tried again.
    eventually("another try", || (silent.seen().asked.len() > 1).then_some(()));
}

#[test]
fn a_proxy_that_speaks_tls_itself_is_not_the_api_server() {
    let (authority, server) = api_server();
    let stranger = Authority::new();
    stranger.issue("service", 365);
    let impostor = tls_site(&stranger, "service", "").start();
    let at = impostor.at;
    let proxy = Proxy::start(move |_| Answer::Through(at));
    let node = site_behind(&authority, &server, &proxy, "").start();
    says(&node, "is signed by no CA of node.ca");
    assert!(!contains(&proxy.seen().sent, &Site::token("node")));
    // The twin: who trusts that CA goes to the impostor.
    fs::copy(stranger.path("ca.pem"), node.site.path("ca.pem")).unwrap();
    connected(&impostor, &stranger);
}
