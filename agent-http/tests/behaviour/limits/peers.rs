//! What one peer may hold on to beside others: addresses of this host's loopback network stand for several.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_http::ServerLimits;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

use super::{SHORT, endless, guarded, is_closed};
use crate::support::{LONG, Reply, Service, Site, connect_local, eventually, exchange_over, request_text};

/// The attacker, and an honest peer.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// The least that a peer may be allowed.
const LEAST: usize = 64;
/// A header without an end, and a whole request.
const SLOW: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nX: ";
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ENDLESS: &str = "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Eight connections of a peer, of sixteen in all, and nobody goes by any other limit.
const EIGHT: ServerLimits = ServerLimits {
    connections: 16,
    connections_per_peer: 8,
    header: Duration::from_secs(600),
    stall: Duration::from_secs(600),
    ..SHORT
};
/// The twin: a peer may have them all.
const ANY: ServerLimits = ServerLimits { connections_per_peer: usize::MAX, ..EIGHT };

/// Connects as another peer.
fn connect_from(peer: Ipv4Addr, at: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((peer, 0)).into()).unwrap();
    socket.connect(&at.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn send_from(peer: Ipv4Addr, at: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect_from(peer, at);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn get_from(peer: Ipv4Addr, at: SocketAddr) -> Reply {
    exchange_over(connect_from(peer, at), GET.as_bytes())
}

#[test]
fn a_peer_that_opens_more_than_its_part_loses_its_own_oldest_and_nobody_else_does() {
    for (limits, is_bound) in [(EIGHT, true), (ANY, false)] {
        let runtime = Runtime::new().unwrap();
        let (at, _stop) = guarded(&runtime, endless().0, limits);
        // It has waited for longer than any other, as a connection does that is kept for the next request.
        let honest = connect_from(HONEST, at);
        let slow: Vec<_> = (0..24).map(|_| send_from(ATTACKER, at, SLOW)).collect();
        // The attacker's own newcomer is served, and takes a place of its own peer too.
        assert_eq!(get_from(ATTACKER, at).text(), "here");
        if is_bound {
            let expected: Vec<bool> = (0..24).map(|number| number < 17).collect();
            let gone = || slow.iter().map(is_closed).collect::<Vec<bool>>();
            eventually("the attacker's oldest to go", || (gone() == expected).then_some(()));
            assert!(!is_closed(&honest));
        } else {
            eventually("the honest one to go", || is_closed(&honest).then_some(()));
        }
    }
}

#[test]
fn readers_of_nothing_lose_their_own_places_at_once_where_others_would_wait_for_them() {
    let runtime = Runtime::new().unwrap();
    let (router, dropped) = endless();
    let (at, _stop) = guarded(&runtime, router, EIGHT);
    let honest = send_from(HONEST, at, ENDLESS);
    let begun = |mut stream: TcpStream| {
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    let honest = begun(honest);
    let stuck: Vec<_> = (0..12).map(|_| begun(send_from(ATTACKER, at, ENDLESS))).collect();
    eventually("four to make room", || (dropped.load(Ordering::SeqCst) == 4).then_some(()));
    assert_eq!(get_from(ATTACKER, at).text(), "here");
    assert_eq!(get_from(HONEST, at).text(), "here");
    assert_eq!(dropped.load(Ordering::SeqCst), 5);
    drop((honest, stuck));
}

#[test]
fn users_of_the_socket_and_addresses_are_peers_of_their_own() {
    let site =
        Site::new(&format!("[http]\nsocket = \"agent.sock\"\n[limits]\nconnections_per_peer = {LEAST}"));
    let service = site.start();
    let by_tcp = connect_from(HONEST, service.at);
    let path = service.site.path("agent.sock");
    let slow: Vec<UnixStream> = (0..=LEAST).map(|_| connect_local(&path)).collect();
    let reply = exchange_over(connect_local(&path), request_text("GET", "/healthz", None, None).as_bytes());
    assert_eq!(reply.status, 200);
    for (mut gone, number) in slow.into_iter().zip(0..2) {
        assert_eq!(gone.read(&mut [0]).unwrap(), 0, "{number}");
    }
    assert!(!is_closed(&by_tcp));
}

/// Followers beyond the number of connections that a peer may have, all of them by one address.
fn follow(service: &Service, path: &str, token: Option<&str>) -> Vec<TcpStream> {
    // One that is served to its end stays open, and is told from one that is cut.
    let text = request_text("GET", path, token, None).replace("Connection: close\r\n", "");
    let begun = |mut stream: TcpStream| {
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    (0..=LEAST).map(|_| begun(send_from(ATTACKER, service.at, &text))).collect()
}

#[test]
fn callers_with_a_token_do_not_count_and_those_without_one_do() {
    let service = Site::new(&format!("[limits]\nconnections_per_peer = {LEAST}")).start();
    let gate = service.site.path("gate").display().to_string();
    let id = service.submit("gate.sh", &[&gate]);
    let followers =
        follow(&service, &format!("/api/v1/tasks/{id}/log?follow=true"), Some(&Site::token("reader")));
    let idle = connect_from(ATTACKER, service.at);
    assert_eq!(get_from(ATTACKER, service.at).status, 200);
    assert!(!is_closed(&idle) && !has_closed_any(&followers));
    // The twin: as many who read a page and show no token are too many.
    let readers = follow(&service, "/docs/swagger-ui-bundle.js", None);
    eventually("one to be cut", || (is_closed(&idle) && has_closed_any(&readers)).then_some(()));
    assert!(!has_closed_any(&followers));
}

/// Whether any was closed, whatever it has been sent before.
fn has_closed_any(streams: &[TcpStream]) -> bool {
    let is_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    };
    !streams.iter().all(is_open)
}
