//! A service of its own for each test: a folder with scripts and settings, and the real program on a free port.

mod authority;
mod connect_proxy;
mod frames;
mod http;
mod line;
mod random;
mod site;
mod tls;

pub(crate) use authority::Authority;
pub(crate) use connect_proxy::{Answer, Proxy};
pub(crate) use frames::{BINARY, Frame, PING, TEXT, Way};
pub(crate) use http::{Reply, connect, connect_local, exchange, exchange_over, read_reply, request_text};
pub(crate) use line::Line;
pub(crate) use random::Random;
pub(crate) use site::{Service, Site, memory_kib, tasks, with, without};
pub(crate) use tls::{TLS, TlsConnection, install, request_over_tls, tls_connect, tls_site};

use std::time::{Duration, Instant};

/// Longest time that anything in here may take; the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The promise: changed settings are in force by then.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(1);

/// A port of this host that nobody listens on just now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Looks again and again until what is waited for has come.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
