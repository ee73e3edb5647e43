//! Callers that hold on to what they can before, and while, TLS is spoken. Limits are those of plain connections.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agent_http::{Server, ServerLimits, Tls};
use axum::Router;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::limits::{SHORT, endless, is_closed};
use crate::support::{
    Authority, TlsConnection, connect, eventually, memory_kib, read_reply, request_text, tls_connect,
    tls_site,
};

/// Half of what a handshake begins with.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The service's own server in this process, speaking TLS by a certificate of this authority.
fn guarded(
    runtime: &Runtime,
    authority: &Authority,
    router: Router,
    limits: ServerLimits,
) -> (SocketAddr, CancellationToken) {
    let server = listening(runtime, authority, limits);
    let (at, stop) = (server.address().unwrap(), CancellationToken::new());
    runtime.spawn(server.serve(router, stop.clone()));
    (at, stop)
}

fn listening(runtime: &Runtime, authority: &Authority, limits: ServerLimits) -> Server {
    let tls = Tls::open(&agent_config::Tls {
        certificate: Some(authority.path("service.pem")),
        key: Some(authority.path("service.key")),
        client_ca: None,
    });
    let server = runtime.block_on(Server::listen("127.0.0.1:0".parse().unwrap(), limits)).unwrap();
    server.with_tls(tls.unwrap())
}

fn authority() -> Authority {
    let authority = Authority::new();
    authority.issue("service", 365);
    authority
}

fn begun(at: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(at);
    stream.write_all(bytes).unwrap();
    stream
}

fn ask(stream: &mut TlsConnection, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
}

#[test]
fn two_hundred_handshakes_that_do_not_go_on_are_closed_while_honest_requests_do() {
    let authority = authority();
    let service = tls_site(&authority, "service", "").start();
    let began = Instant::now();
    let slow: Vec<TcpStream> =
        (0..200).map(|n| begun(service.at, if n % 2 == 0 { b"" } else { HALF_A_HELLO })).collect();
    let mut honest = 0;
    while !slow.iter().all(is_closed) {
        assert!(began.elapsed() < Duration::from_secs(15), "they are still open");
        let mut stream = tls_connect(service.at, &authority, None);
        stream.write_all(request_text("GET", "/healthz", None, None).as_bytes()).unwrap();
        assert_eq!(read_reply(&mut BufReader::new(stream), false).expect("an answer").status, 200);
        honest += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    // They had their time: it was not the crowd that closed them.
    assert!(began.elapsed() > Duration::from_secs(9) && honest > 20, "{honest} in {:?}", began.elapsed());
}

#[test]
fn a_handshake_is_a_part_of_the_time_for_the_first_header() {
    let (runtime, authority) = (Runtime::new().unwrap(), authority());
    let limits = ServerLimits { header: Duration::from_secs(2), ..SHORT };
    let (at, _stop) = guarded(&runtime, &authority, endless().0, limits);
    let mut stream = tls_connect(at, &authority, None);
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(1500));
    // The header begins here, and does not end.
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    stream.flush().unwrap();
    let ended = stream.read(&mut [0]);
    assert!(!matches!(ended, Ok(count) if count > 0), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn when_all_places_are_taken_the_oldest_handshake_makes_room() {
    let (runtime, authority) = (Runtime::new().unwrap(), authority());
    let limits = ServerLimits { connections: 8, header: Duration::from_secs(600), ..SHORT };
    let (at, _stop) = guarded(&runtime, &authority, endless().0, limits);
    let slow: Vec<TcpStream> = (0..8).map(|_| begun(at, HALF_A_HELLO)).collect();
    let mut honest = tls_connect(at, &authority, None);
    ask(&mut honest, "/");
    assert_eq!(read_reply(&mut BufReader::new(&mut honest), false).unwrap().text(), "here");
    assert!(is_closed(&slow[0]), "it was not the oldest that went");
    assert_eq!(slow.iter().filter(|stream| is_closed(stream)).count(), 1);
}

#[test]
fn the_least_rate_of_reading_holds_below_the_encryption() {
    let (runtime, authority) = (Runtime::new().unwrap(), authority());
    let limits = ServerLimits { stall: Duration::from_secs(3), least_rate: 1 << 20, ..SHORT };
    let lax = ServerLimits { least_rate: 1, ..limits };
    let (router, dropped) = endless();
    let (at, _stop) = guarded(&runtime, &authority, router, limits);
    let (router, kept) = endless();
    let (lax_at, _lax_stop) = guarded(&runtime, &authority, router, lax);
    let mut readers = [tls_connect(at, &authority, None), tls_connect(lax_at, &authority, None)];
    readers.iter_mut().for_each(|reader| ask(reader, "/endless"));
    eventually("the one that drips to be cut off", || {
        std::thread::sleep(Duration::from_millis(60));
        for reader in &mut readers {
            // The end comes as an error, or as nothing.
            let _ = reader.read_exact(&mut [0; 16 << 10]);
        }
        (dropped.load(Ordering::SeqCst) == 1).then_some(())
    });
    assert_eq!(kept.load(Ordering::SeqCst), 0);
    // Nor is anybody who reads as fast as it can.
    let mut fast = tls_connect(at, &authority, None);
    ask(&mut fast, "/endless");
    fast.read_exact(&mut vec![0; 8 << 20]).unwrap();
}

#[test]
fn an_idle_connection_holds_little_memory() {
    let authority = authority();
    let service = tls_site(&authority, "service", "").start();
    let mut open: Vec<TlsConnection> = Vec::new();
    let mut take = |count: usize| {
        for _ in 0..count {
            let mut stream = tls_connect(service.at, &authority, None);
            ask(&mut stream, "/healthz");
            assert_eq!(read_reply(&mut BufReader::new(&mut stream), false).unwrap().status, 200);
            open.push(stream);
        }
        memory_kib(service.pid(), "VmRSS")
    };
    let before = take(20);
    let grown = take(200) - before;
    println!("{} KiB for each of 200 idle connections", grown / 200);
    assert!(grown < 200 * 64, "{grown} KiB");
}

#[test]
fn a_server_that_stops_does_not_wait_for_handshakes() {
    let (runtime, authority) = (Runtime::new().unwrap(), authority());
    let limits =
        ServerLimits { header: Duration::from_secs(600), closing: Duration::from_secs(600), ..SHORT };
    let server = listening(&runtime, &authority, limits);
    let (at, stop) = (server.address().unwrap(), CancellationToken::new());
    let serving = runtime.spawn(server.serve(endless().0, stop.clone()));
    let slow = begun(at, HALF_A_HELLO);
    let mut idle = tls_connect(at, &authority, None);
    ask(&mut idle, "/");
    assert_eq!(read_reply(&mut BufReader::new(&mut idle), false).unwrap().text(), "here");
    stop.cancel();
    runtime.block_on(serving).unwrap();
    assert!(is_closed(&slow));
}
