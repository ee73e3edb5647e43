//! What callers may hold on to: headers, connections, bytes that they do not take. Every limit has a twin that shows what
//! happens without it.

mod heavy;
mod peers;

use std::convert::Infallible;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use agent_http::{Server, ServerLimits};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use hyper::body::Frame;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::support::{Service, connect, eventually, exchange, memory_kib, read_reply, request_text};

pub(crate) const SHORT: ServerLimits = ServerLimits {
    connections: 4096,
    connections_per_peer: usize::MAX,
    upgraded: 4096,
    header: Duration::from_millis(500),
    stall: Duration::from_millis(500),
    least_rate: 16 << 10,
    closing: Duration::from_millis(500),
};

/// A body without an end that says when it is dropped.
struct Endless(Arc<AtomicUsize>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A router whose `/endless` has no end, and how many of its answers have been given up.
pub(crate) fn endless() -> (Router, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = dropped.clone();
    let router = Router::new()
        .route("/endless", get(move || async move { Body::new(Endless(counter.clone())) }))
        .route("/", get(|| async { "here" }));
    (router, dropped)
}

/// The service's own server in this process.
fn guarded(runtime: &Runtime, router: Router, limits: ServerLimits) -> (SocketAddr, CancellationToken) {
    let server = runtime.block_on(Server::listen("127.0.0.1:0".parse().unwrap(), limits)).unwrap();
    let (at, stop) = (server.address().unwrap(), CancellationToken::new());
    runtime.spawn(server.serve(router, stop.clone()));
    (at, stop)
}

/// A server as axum makes one.
fn plain(runtime: &Runtime, router: Router) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let at = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, router).await });
    at
}

fn send(at: SocketAddr, text: &str) -> TcpStream {
    let mut stream = connect(at);
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Whether the other end has closed; it has sent nothing.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn slow_headers_and_stuck_readers_are_cut_off_where_a_plain_server_keeps_them() {
    let runtime = Runtime::new().unwrap();
    let (router, dropped) = endless();
    let (at, _stop) = guarded(&runtime, router, SHORT);
    let (router, kept) = endless();
    let plain_at = plain(&runtime, router);
    let attack = |at| {
        let slow: Vec<_> = (0..20).map(|_| send(at, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ")).collect();
        let stuck: Vec<_> =
            (0..20).map(|_| send(at, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
        (slow, stuck)
    };
    let (plain_slow, _plain_stuck) = attack(plain_at);
    let (slow, _stuck) = attack(at);
    eventually("slow headers to be cut", || slow.iter().all(is_closed).then_some(()));
    eventually("stuck readers to be cut", || (dropped.load(Ordering::SeqCst) == 20).then_some(()));
    // The twin was attacked before, and still holds them all.
    assert!(!plain_slow.iter().any(is_closed));
    assert_eq!(kept.load(Ordering::SeqCst), 0);
}

#[test]
fn whoever_reads_in_drips_is_cut_off_where_any_progress_would_do() {
    let runtime = Runtime::new().unwrap();
    let limits = ServerLimits { stall: Duration::from_secs(3), least_rate: 1 << 20, ..SHORT };
    // The twin: there a byte is as good as a second.
    let lax = ServerLimits { least_rate: 1, ..limits };
    let (router, dropped) = endless();
    let (at, _stop) = guarded(&runtime, router, limits);
    let (router, kept) = endless();
    let (lax_at, _lax_stop) = guarded(&runtime, router, lax);
    let request = "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut readers = [send(at, request), send(lax_at, request)];
    eventually("the one that drips to be cut off", || {
        // About a quarter of the least rate, and far more than nothing.
        std::thread::sleep(Duration::from_millis(60));
        for reader in &mut readers {
            // The end comes as an error, or as nothing.
            let _ = reader.read_exact(&mut [0; 16 << 10]);
        }
        (dropped.load(Ordering::SeqCst) == 1).then_some(())
    });
    assert_eq!(kept.load(Ordering::SeqCst), 0);
    // Nor is anybody who reads as fast as it can.
    send(at, request).read_exact(&mut vec![0; 32 << 20]).unwrap();
}

#[test]
fn an_idle_connection_is_closed_and_one_that_is_used_goes_on() {
    let runtime = Runtime::new().unwrap();
    let (at, _stop) = guarded(&runtime, endless().0, SHORT);
    let mut stream = BufReader::new(connect(at));
    for _ in 0..3 {
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_reply(&mut stream, false).unwrap().text(), "here");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn when_all_places_are_taken_the_slowest_header_makes_room_for_an_honest_caller() {
    let runtime = Runtime::new().unwrap();
    let patient = ServerLimits { header: Duration::from_secs(600), ..SHORT };
    let limits = ServerLimits { connections: 8, ..patient };
    let attack = |at| -> Vec<TcpStream> {
        (0..8).map(|_| send(at, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ")).collect()
    };
    let (at, _stop) = guarded(&runtime, endless().0, limits);
    let slow = attack(at);
    let honest = exchange(at, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(honest.text(), "here");
    let closed = slow.iter().filter(|stream| is_closed(stream)).count();
    assert_eq!(closed, 1);
    assert!(is_closed(&slow[0]), "it was not the oldest that went");

    // The twin: with more places nobody has to go.
    let (at, _stop) = guarded(&runtime, endless().0, ServerLimits { connections: 9, ..patient });
    let slow = attack(at);
    exchange(at, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(!slow.iter().any(is_closed));
}

#[test]
fn readers_without_a_token_that_read_nothing_make_room_the_longest_stuck_one_first() {
    let runtime = Runtime::new().unwrap();
    let limits = ServerLimits { connections: 8, stall: Duration::from_secs(600), ..SHORT };
    let (router, dropped) = endless();
    let (at, _stop) = guarded(&runtime, router, limits);
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = send(at, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.read_exact(&mut [0]).unwrap();
            stream
        })
        .collect();
    for gone in 1..=3 {
        let honest = exchange(at, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!((honest.text().as_str(), dropped.load(Ordering::SeqCst)), ("here", 1), "{gone}");
    }
    drop(stuck);
}

#[test]
fn a_connection_that_is_served_never_goes_for_another() {
    let runtime = Runtime::new().unwrap();
    let limits = ServerLimits { connections: 2, stall: Duration::from_secs(600), ..SHORT };
    let (begun, has_begun) = std::sync::mpsc::channel();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let waits = go_on.clone();
    let slow = move || async move {
        begun.send(()).unwrap();
        waits.notified().await;
        "done"
    };
    let (at, _stop) = guarded(&runtime, endless().0.route("/slow", get(slow)), limits);
    let served = send(at, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
    has_begun.recv().unwrap();
    for _ in 0..5 {
        // Together they fill the table, and the idle one is the younger.
        let idle = connect(at);
        let reply = exchange(at, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(reply.text(), "here");
        assert!(is_closed(&idle));
    }
    go_on.notify_one();
    assert_eq!(read_reply(&mut BufReader::new(served), false).unwrap().text(), "done");
}

#[test]
fn a_server_that_stops_ends_what_does_not_end_by_itself() {
    let runtime = Runtime::new().unwrap();
    let (router, dropped) = endless();
    let server = runtime.block_on(Server::listen("127.0.0.1:0".parse().unwrap(), SHORT)).unwrap();
    let (at, stop) = (server.address().unwrap(), CancellationToken::new());
    let serving = runtime.spawn(server.serve(router, stop.clone()));
    let mut endless = send(at, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n");
    endless.read_exact(&mut [0; 1000]).unwrap();
    let idle = connect(at);
    stop.cancel();
    // It is read all the time, so that only the end of the closing time can end it.
    let reader = std::thread::spawn(move || std::io::copy(&mut endless, &mut std::io::sink()));
    runtime.block_on(serving).unwrap();
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    // Reset or closed.
    let _ = reader.join().unwrap();
    assert!(is_closed(&idle));
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn two_hundred_readers_of_the_largest_page_share_one_copy_of_it() {
    let service = Service::usual();
    let path = "/docs/swagger-ui-bundle.js";
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let length = exchange(service.at, request_text("GET", path, None, None).as_bytes()).body.len();
    let before = memory_kib(service.pid(), "VmHWM");
    let mut stuck: Vec<TcpStream> = (0..200).map(|_| send(service.at, &request)).collect();
    // Each answer has begun, and none is taken.
    stuck.iter_mut().for_each(|stream| stream.read_exact(&mut [0]).unwrap());
    let grown = memory_kib(service.pid(), "VmHWM") - before;
    let copies = 200 * length as u64 / 1024;
    assert!(grown < copies / 8, "{grown} KiB, where copies would take {copies}");
}

#[test]
fn what_is_no_request_and_headers_without_bound_are_answered_in_the_form_of_all_errors() {
    let service = Service::usual();
    let ok = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    for (text, status, code) in [
        ("GET\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHo st: x\r\n\r\n".to_owned(), 400, "malformed_request"),
        (format!("{ok}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400, "malformed_request"),
        (format!("{ok}X: {}\r\n\r\n", "y".repeat(20_000)), 431, "header_too_large"),
        (format!("{ok}{many}\r\n"), 431, "header_too_large"),
    ] {
        let reply = exchange(service.at, text.as_bytes());
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{:?}",
            &text[..text.len().min(80)]
        );
        assert_eq!(reply.header("connection"), Some("close"));
    }
    // Behind a good request in the same connection too.
    let mut stream = BufReader::new(connect(service.at));
    stream.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut stream, false).unwrap().status, 200);
    stream.get_mut().write_all(b"GET\r\n\r\n").unwrap();
    assert_eq!(read_reply(&mut stream, false).unwrap().code(), "malformed_request");
    assert_eq!(exchange(service.at, format!("{ok}X: {}\r\n\r\n", "y".repeat(10_000)).as_bytes()).status, 200);
}
